"""Runs as two long Arrow tables: a row for every figure, and a row for every sample.

Columns are the same for all runs, so that tables of several runs can be put one under the other. Values are in the unit
of the column ``unit``. A figure without a value says why in ``reason``: it was not measured, or its row is not
certified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bench.records.record import Figure, Record, Run
from reports.exports import selection
from reports.exports.optional import package

if TYPE_CHECKING:
    import pyarrow

ROW = {
    "run": "string",
    "started_at": "timestamp[ms, tz=UTC]",
    "row": "string",
    "label": "string",
    "backend": "string",
    "source": "string",
    "device": "string",
    "precision": "string",
    "mode": "string",
    "model": "string",
    "dataset": "string",
    "recipe": "string",
    "threads": "int64",
    "processes": "int64",
    "input_workers": "int64",
    "machine": "string",
    "commit": "string",
    "status": "string",
    "certified": "bool",
    "disturbed": "bool",
}
"""Columns that both tables begin with."""
METRIC = {"metric": "string", "task": "string", "batch_size": "int64", "boundary": "string", "unit": "string"}
FIGURES = {
    **ROW,
    **METRIC,
    "direction": "string",
    "value": "double",
    "low": "double",
    "high": "double",
    "confidence": "double",
    "interval": "string",
    "n": "int64",
    "reason": "string",
}
"""Column to Arrow type. ``low`` and ``high`` are the ends of the interval, ``n`` counts what it is over."""
SAMPLES = {
    **ROW,
    **METRIC,
    "sample": "int64",
    "seed": "int64",
    "value": "double",
    "sample_disturbed": "bool",
    "steady": "bool",
    "warm_up_steps": "int64",
    "slices": "int64",
    "seconds": "double",
}
"""``sample``: number of the process, or of the training; ``seconds``: of its slices together."""


def figures(runs: Iterable[Run]) -> pyarrow.Table:
    """A row for every figure of every row of these runs, values of certified rows only.

    Raises:
        UsageError: pyarrow is not installed.
    """
    return _table(FIGURES, (row for run in runs for row in _figures(run)))


def samples(runs: Iterable[Run]) -> pyarrow.Table:
    """A row for every sample (a process, or the training of a seed) behind the values of certified rows.

    Raises:
        UsageError: pyarrow is not installed.
    """
    return _table(SAMPLES, (row for run in runs for row in _samples(run)))


def _table(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> pyarrow.Table:
    arrow = package("pyarrow", "parquet")
    types = {"timestamp[ms, tz=UTC]": arrow.timestamp("ms", tz="UTC"), "string": arrow.string(), "int64": arrow.int64(),
             "double": arrow.float64(), "bool": arrow.bool_()}  # fmt: skip
    schema = arrow.schema([arrow.field(name, types[kind]) for name, kind in columns.items()])
    values: dict[str, list[Any]] = {name: [] for name in columns}
    for row in rows:
        for name, column in values.items():
            column.append(row.get(name))
    return arrow.table(values, schema=schema)


def _figures(run: Run) -> Iterator[dict[str, Any]]:
    for record, shared in _rows(run):
        for figure in record.figures:
            row = {**shared, **_metric(figure), "direction": figure.direction}
            if record.certified and figure.value is not None:
                names = ("value", "low", "high", "confidence", "interval", "n")
                yield {**row, **{name: getattr(figure, name) for name in names}}
            else:
                yield {**row, "n": 0, "reason": figure.reason if record.certified else selection.why_left_out(record)}


def _samples(run: Run) -> Iterator[dict[str, Any]]:
    for record, shared in _rows(run):
        for figure in record.figures if record.certified else ():
            for sample in figure.samples:
                yield {
                    **shared,
                    **_metric(figure),
                    "sample": sample.round,
                    "seed": sample.seed,
                    "value": sample.value,
                    "sample_disturbed": sample.disturbed,
                    "steady": sample.steady,
                    "warm_up_steps": sample.warm_up_steps,
                    "slices": len(sample.slices),
                    "seconds": sum(piece.seconds for piece in sample.slices) if sample.slices else None,
                }


def _metric(figure: Figure) -> dict[str, Any]:
    return {
        "metric": figure.name,
        "task": figure.task,
        "batch_size": figure.batch_size,
        "boundary": figure.boundary,
        "unit": figure.unit,
    }


def _rows(run: Run) -> Iterator[tuple[Record, dict[str, Any]]]:
    for record, row in selection.rows(run):
        shared = {name: getattr(record.job, name) for name in ROW if hasattr(record.job, name)}
        yield (
            record,
            {
                **shared,
                "run": run.name,
                "started_at": datetime.fromisoformat(run.started_at),
                "row": record.id,
                "label": row,
                "machine": record.machine.get("id"),
                "commit": record.commit,
                "status": record.status,
                "certified": record.certified,
                "disturbed": record.disturbance.disturbed,
            },
        )

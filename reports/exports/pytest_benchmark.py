"""A run in the storage format of pytest-benchmark: ``pytest-benchmark compare`` and ``--benchmark-compare`` read it.

Every benchmark is a time; a throughput becomes the seconds of one batch. Each entry of ``data`` is one process (its
summary) or one seed. Metrics that are not times are in ``extra_info`` of every benchmark of their row.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from bench.errors import UsageError
from bench.records.metrics import METRICS
from bench.records.record import Figure, Run
from bench.worker.protocol import Job
from reports.exports import selection
from reports.exports.selection import Value


def document(run: Run) -> str:
    """The JSON document.

    Raises:
        UsageError: pytest-benchmark is not installed.
    """
    try:
        from pytest_benchmark import __version__
    except ImportError as error:
        raise UsageError("pytest-benchmark is not installed; pip install 'evenbench[pytest]'") from error
    values = list(selection.values(run))
    other_metrics: dict[str, dict[str, float]] = {}
    for one in values:
        if not _is_benchmark(one):
            batch = "" if one.figure.batch_size is None else f"_batch-{one.figure.batch_size}"
            other_metrics.setdefault(one.row, {})[_place(one, "_") + batch] = one.value
    benchmarks = [_benchmark(run, one, other_metrics.get(one.row, {})) for one in values if _is_benchmark(one)]
    whole = {
        "machine_info": _machine(run),
        "commit_info": _commit(run),
        "benchmarks": benchmarks,
        "datetime": run.started_at,
        "version": __version__,
    }
    return json.dumps(whole, allow_nan=False, indent=1)


def left_out(run: Run) -> dict[str, str]:
    """What the document leaves out, with the reason."""
    values = list(selection.values(run))
    timed = {one.row for one in values if _is_benchmark(one)}
    untimed: dict[str, list[str]] = {}
    for one in values:
        if one.row not in timed:
            untimed.setdefault(f"row {one.row}", []).append(one.metric.name)
    rows = {row: f"no benchmark can hold its {', '.join(names)}: no time" for row, names in untimed.items()}
    return rows | selection.left_out(run)


def _is_benchmark(one: Value) -> bool:
    """Whether the metric is a time, or a rate that can be turned into one, and has samples."""
    return (one.metric.is_time or one.metric.is_rate) and bool(one.figure.samples)


def _place(one: Value, separator: str) -> str:
    """``train_throughput_end-to-end``: the name of a benchmark; its batch size is a parameter."""
    figure = one.figure
    return separator.join(part for part in (figure.task, figure.name, figure.boundary) if part)


def _benchmark(run: Run, one: Value, other_metrics: dict[str, float]) -> dict[str, Any]:
    from pytest_benchmark.stats import Stats

    stats = Stats()
    for value in seconds(one.figure):
        stats.update(value)
    record = one.record
    name = f"{_place(one, '_')}[{one.row}]"
    return {
        "group": f"{one.workload} {_place(one, ' ')}",
        "name": name,
        "fullname": f"{one.workload}::{name}",
        "params": _params(record.job, one.figure.batch_size),
        "param": one.row,
        "extra_info": {
            **other_metrics,
            "run": run.name,
            "versions": record.versions,
            "disturbed": record.disturbance.disturbed,
        },
        "options": {"timer": "evenbench worker", "disable_gc": False, "warmup": True},
        "stats": {**stats.as_dict(), "data": stats.data, "iterations": 1},
    }


def seconds(figure: Figure) -> list[float]:
    """One time per process or seed. A rate becomes the seconds of one batch."""
    if METRICS[figure.name].is_rate:
        return [(figure.batch_size or 1) / sample.value for sample in figure.samples]
    return [sample.value for sample in figure.samples]


def _machine(run: Run) -> dict[str, Any]:
    machine = run.records[0].machine if run.records else {}
    return {
        "node": machine.get("hostname", ""),
        "machine": machine.get("architecture", ""),
        "processor": machine.get("cpu", ""),
        "system": machine.get("system", ""),
        "release": machine.get("kernel", ""),
        "cpu": {"brand_raw": machine.get("cpu", ""), "count": machine.get("cpus")},
        "evenbench": machine,
    }


def _commit(run: Run) -> dict[str, Any]:
    commit = run.records[0].commit if run.records else None
    identity, _, dirty = (commit or "").partition("+")
    return {
        "id": identity or None,
        "time": None,
        "author_time": None,
        "dirty": bool(dirty),
        "project": "",
        "branch": "",
    }


def _params(job: Job, batch_size: int | None) -> dict[str, Any]:
    """The job without its CPUs: pytest-benchmark compares parameters as texts."""
    params = {**asdict(job), "batch_size": batch_size}
    del params["cpus"]
    return params

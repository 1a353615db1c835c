"""What an export is made of: the values of rows that are comparable, and what is left out for everybody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.records.metrics import METRICS, Metric
from bench.records.record import Figure, Record, Run, label


@dataclass(frozen=True)
class Value:
    """A value of a metric, with its row."""

    record: Record
    row: str
    figure: Figure
    metric: Metric

    @property
    def value(self) -> float:
        """In the unit of the record."""
        return self.figure.value or 0.0

    @property
    def workload(self) -> str:
        """``model/dataset/recipe``."""
        job = self.record.job
        return f"{job.model}/{job.dataset}/{job.recipe}"


def values(run: Run) -> Iterator[Value]:
    """Of every comparable row, what was measured."""
    jobs = [record.job for record in run.records]
    for record in run.records:
        for figure in record.figures if record.comparable else ():
            if figure.value is not None and figure.name in METRICS:
                yield Value(record, label(record.job, jobs), figure, METRICS[figure.name])


def left_out(run: Run) -> dict[str, str]:
    """What no export of this run has, and why: rows that prove nothing, and names that this version does not know."""
    jobs = [record.job for record in run.records]
    rows = {f"row {label(r.job, jobs)}": _why(r) for r in run.records if not r.comparable}
    unknown = {f.name for r in run.records for f in r.figures if f.value is not None} - METRICS.keys()
    return rows | dict.fromkeys(sorted(unknown), "not a metric of this version")


def _why(record: Record) -> str:
    return "not comparable" if record.status == "ok" else record.status

"""The content of every export: the values of certified rows, and the list of what is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.records.metrics import METRICS, Metric
from bench.records.record import Figure, Record, Run, label


@dataclass(frozen=True)
class Value:
    """A value of a metric, with its row and record."""

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
    """All measured values of the certified rows."""
    jobs = [record.job for record in run.records]
    for record in run.records:
        for figure in record.figures if record.certified else ():
            if figure.value is not None and figure.name in METRICS:
                yield Value(record, label(record.job, jobs), figure, METRICS[figure.name])


def left_out(run: Run) -> dict[str, str]:
    """What every export of this run leaves out, with the reason: rows that are not certified, and metrics that this
    version does not know."""
    jobs = [record.job for record in run.records]
    rows = {f"row {label(r.job, jobs)}": _why_left_out(r) for r in run.records if not r.certified}
    unknown = {f.name for r in run.records for f in r.figures if f.value is not None} - METRICS.keys()
    return rows | dict.fromkeys(sorted(unknown), "not a metric of this version")


def _why_left_out(record: Record) -> str:
    if record.status != "ok":
        return record.status
    return "not certified" if record.comparable else "not comparable"

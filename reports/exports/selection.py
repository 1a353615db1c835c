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
        return workload(self.record)


def workload(record: Record) -> str:
    """``model/dataset/recipe``."""
    job = record.job
    return f"{job.model}/{job.dataset}/{job.recipe}"


def rows(run: Run) -> Iterator[tuple[Record, str]]:
    """All records with the names of their rows."""
    jobs = [record.job for record in run.records]
    for record in run.records:
        yield record, label(record.job, jobs)


def values(run: Run) -> Iterator[Value]:
    """All measured values of the certified rows."""
    for record, row in rows(run):
        for figure in record.figures if record.certified else ():
            if figure.value is not None and figure.name in METRICS:
                yield Value(record, row, figure, METRICS[figure.name])


def left_out(run: Run) -> dict[str, str]:
    """What every export of this run leaves out, with the reason: rows that are not certified, and metrics that this
    version does not know."""
    without = {f"row {row}": why_left_out(record) for record, row in rows(run) if not record.certified}
    unknown = {f.name for r in run.records for f in r.figures if f.value is not None} - METRICS.keys()
    return without | dict.fromkeys(sorted(unknown), "not a metric of this version")


def within_epochs(run: Run) -> dict[str, str]:
    """The certified rows whose trainings were also evaluated within an epoch, for formats whose step is an epoch."""
    return {
        f"row {row}": "evaluations within an epoch: a step is an epoch"
        for record, row in rows(run)
        if record.certified and record.outcome is not None
        if any(point.epoch != int(point.epoch) for training in record.outcome.trainings for point in training.curve)
    }


def why_left_out(record: Record) -> str:
    """Why a record is in no export."""
    if record.status != "ok":
        return record.status
    return "not certified" if record.comparable else "not comparable"

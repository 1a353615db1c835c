"""One row, certified once and then measured round by round at somebody else's pace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.errors import BenchError, UsageError
from bench.records.record import Record
from bench.runner.plan import Plan, Row
from bench.runner.record_builder import Context, sample, throughput, to_record
from bench.runner.rounds import Runner, Silent
from bench.runner.worker_process import WorkerError
from bench.workloads.datasets.dataset import Dataset

Rounds = Callable[[Callable[[], float]], None]
"""Takes a function that measures one round, in a fresh worker, and returns the seconds of one batch."""


def one_figure(plan: Plan, source: str | None, boundary: str) -> Plan:
    """The plan with one asked row (a runtime's with this source) and its throughput at one boundary.

    Raises:
        UsageError: there is no such row or figure, or more than one.
    """
    rows = [row for row in plan.rows if row.asked and source in (None, row.job.source)]
    figures = tuple(f for f in plan.figures if f.name == "throughput" and f.boundary == boundary)
    if len(rows) != 1:
        names = ", ".join(row.name for row in plan.rows if row.asked)
        raise UsageError(f"{len(rows)} rows fit (of {names}); one backend, and source='pytorch' for a runtime")
    if len(figures) != 1:
        raise UsageError(f"{len(figures)} figures fit; task 'train' or 'infer', boundary 'end-to-end' or 'device'")
    if rows[0].problem is not None:
        raise BenchError(f"{rows[0].name} is {rows[0].problem[0]}: {rows[0].problem[1]}")
    kept = [row for row in plan.rows if row is rows[0] or row == rows[0].source]
    others = [replace(row, asked=row is rows[0]) for row in kept]
    return replace(plan, rows=tuple(others), figures=figures)


@dataclass
class LiveRow(Runner):
    """A run of a plan of ``one_figure``, untrained, whose rounds ``rounds`` asks for."""

    rounds: Rounds = lambda measure: None

    @classmethod
    def measure(cls, plan: Plan, dataset: Dataset, context: Context, rounds: Rounds) -> Record:
        """The record of all rounds.

        Raises:
            BenchError: the row does not run.
        """
        live = cls(plan, dataset, context, Silent(), trains=False, rounds=rounds)
        live.run()
        return to_record(live.results[live._row.name], context)

    @property
    def _row(self) -> Row:
        return next(row for row in self.plan.rows if row.asked)

    def _measure(self) -> None:
        result = self.results[self._row.name]
        if result.status != "ok":
            raise BenchError(f"{self._row.name} is {result.status}: {result.error}")
        self.rounds(self._one_round)

    def _one_round(self) -> float:
        """Seconds of one batch, of a fresh worker."""
        number = len(self.schedule)
        self.schedule.append([self._row.name])
        outcome = self._block(f"round {number + 1}").measure([self._row], self.plan.figures, lambda part: None)
        told = outcome[self._row.name]
        if isinstance(told, WorkerError):
            raise BenchError(f"{self._row.name} is {told.status}: {told.reason}")
        self.results[self._row.name].rounds.append(told)
        figure, measured = told["figures"][0]
        return float(figure.batch_size / sample(number, measured, throughput, keep=True).value)

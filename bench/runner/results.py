"""What is known of a plan's rows so far, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from bench.records.record import Record
from bench.runner.plan import Plan, Row
from bench.runner.record_builder import Context, RowResult, to_record


class Observer(Protocol):
    """Is told what begins and what a row came to; shows progress, keeps records."""

    def begins(self, what: str, done: int, total: int) -> None:
        """A job begins, or a part of one: ``done`` of ``total`` jobs are over."""

    def changed(self, records: Sequence[Record]) -> None:
        """A job of a row, or a round of all of them, has ended, whatever its outcome: this is all that is known of
        these rows now."""

    def trained(self, row: str, weights: Path) -> None:
        """The row of this id was trained with the first seed; its weights are in this file (npz) for now."""


class Silent:
    """An observer that shows and keeps nothing."""

    def begins(self, what: str, done: int, total: int) -> None:
        """Nothing is shown."""

    def changed(self, records: Sequence[Record]) -> None:
        """Nothing is kept."""

    def trained(self, row: str, weights: Path) -> None:
        """Nothing is kept."""


class Results:
    """The results of all rows by id. They are whole at any moment: Ctrl-C loses the job that it interrupts, no more."""

    def __init__(self, plan: Plan, context: Context, observer: Observer, total: int) -> None:
        """``total``: the jobs that are expected, for progress. Rows that cannot run here have ended already."""
        self.plan, self.context, self.observer = plan, context, observer
        self.schedule: list[list[str]] = []
        """Row ids of every round that has begun, in their order."""
        self.done, self.total = 0, total
        self._by_id: dict[str, RowResult] = {}
        for row in plan.rows:
            source = None if row.source is None else self._by_id[row.source.id]
            result = self._by_id[row.id] = RowResult(row, plan, source)
            if row.problem is not None:
                result.fail(*row.problem)

    def __getitem__(self, row: Row) -> RowResult:
        return self._by_id[row.id]

    def records(self, rows: Sequence[Row] | None = None) -> list[Record]:
        """Of the rows that were asked for, as far as they are known."""
        asked = [row for row in (self.plan.rows if rows is None else rows) if row.asked]
        return [to_record(self[row], self.context) for row in asked]

    def report(self, rows: Sequence[Row]) -> None:
        """Tell the observer what is known of these rows now."""
        self.observer.changed(self.records(rows))

    def report_problems(self) -> None:
        """Tell the observer of the rows that cannot run here."""
        for row in self.plan.rows:
            if row.problem is not None:
                self.report([row])

    def announcer(self, what: str) -> Callable[[str], None]:
        """A function that tells the observer which part of ``what`` begins."""
        return lambda part: self.observer.begins(f"{part}: {what}", self.done, self.total)

    def interrupt(self) -> None:
        """Mark the rows that are not done: the user stopped the run."""
        unfinished = [
            row
            for row in self.plan.rows
            if row.asked and self[row].status == "ok" and len(self[row].rounds) < self.plan.rounds
        ]
        for row in unfinished:
            self[row].fail("interrupted", "stopped by the user")
        self.report(unfinished)

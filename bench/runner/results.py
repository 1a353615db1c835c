"""The results of a plan's rows so far, and the observer of their changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from bench.records.record import Record
from bench.runner.plan import Plan, Row
from bench.runner.record_builder import Context, to_record
from bench.runner.row_result import RowResult


class Observer(Protocol):
    """Receives the beginning of jobs and the results of rows; shows progress, keeps records."""

    def begins(self, what: str, done: int, total: int) -> None:
        """A job or a part of one begins; ``done`` of ``total`` jobs have ended."""

    def changed(self, records: Sequence[Record]) -> None:
        """A job of a row, or a round of all rows, has ended with any outcome; ``records`` are complete so far."""

    def trained(self, row: str, weights: Path) -> None:
        """The row with this id was trained with the first seed; ``weights`` is a temporary file (npz)."""


class Silent:
    """An observer that shows and keeps nothing."""

    def begins(self, what: str, done: int, total: int) -> None:
        """Nothing is shown."""

    def changed(self, records: Sequence[Record]) -> None:
        """Nothing is kept."""

    def trained(self, row: str, weights: Path) -> None:
        """Nothing is kept."""


class Results:
    """The results of all rows by id. They are consistent at any time: Ctrl-C loses only the job that it interrupts."""

    def __init__(self, plan: Plan, context: Context, observer: Observer, total: int) -> None:
        """``total``: the expected number of jobs, for progress. Rows that cannot run here fail at once."""
        self.plan, self.context, self.observer = plan, context, observer
        self.schedule: list[list[str]] = []
        """The row ids of every round that has begun, in the order of measurement."""
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
        """The current records of the requested rows."""
        requested = [row for row in (self.plan.rows if rows is None else rows) if row.requested]
        return [to_record(self[row], self.context) for row in requested]

    def report(self, rows: Sequence[Row]) -> None:
        """Pass the current records of these rows to the observer."""
        self.observer.changed(self.records(rows))

    def report_problems(self) -> None:
        """Pass the records of the rows that cannot run here to the observer."""
        for row in self.plan.rows:
            if row.problem is not None:
                self.report([row])

    def announcer(self, what: str) -> Callable[[str], None]:
        """A function that notifies the observer that a part of ``what`` begins."""
        return lambda part: self.observer.begins(f"{part}: {what}", self.done, self.total)

    def expect_rounds(self, number: int) -> None:
        """So many rounds are still to come."""
        self.total = self.done + number * len(self.plan.order(0))

    def interrupt(self) -> None:
        """Mark the unfinished rows as interrupted: the user stopped the run."""
        unfinished = [
            row
            for row in self.plan.rows
            if row.requested and self[row].status == "ok" and len(self[row].rounds) < self.plan.rounds
        ]
        for row in unfinished:
            self[row].fail("interrupted", "stopped by the user")
        self.report(unfinished)

"""The results of a plan's rows so far, and the observer of their changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Protocol

from backends.model import Weights
from bench.records.record import CurvePoint, Record
from bench.runner.checkpoints import COURSE, Course, course_of, parts_of, restore
from bench.runner.plan import Plan, Row
from bench.runner.record_builder import Context, to_record
from bench.runner.row_result import RowResult
from bench.runner.timing import Timing
from bench.store.weights import from_safetensors

REPORTED = 50
"""Records that are in memory together while a run goes on."""


class Observer(Protocol):
    """Receives the beginning of jobs and the results of rows; shows progress, keeps records."""

    def begins(self, what: str, done: int, total: int) -> None:
        """A job or a part of one begins; ``done`` of ``total`` jobs have ended."""

    def changed(self, records: Sequence[Record], parts: Mapping[str, bytes]) -> None:
        """A job of a row, or a round of all rows, has ended with any outcome; ``records`` are complete so far;
        from ``parts`` it goes on after an early end (``bench.runner.checkpoints``)."""

    def evaluated(self, row: str, seed: int, score: Callable[[], CurvePoint]) -> None:
        """A training of the row with this id was evaluated, and goes on; ``score`` computes the scores."""

    def trained(self, row: str, weights: Path) -> None:
        """The row with this id was trained with the first seed; ``weights`` is a temporary file (npz)."""


class Silent:
    """An observer that shows and keeps nothing."""

    def begins(self, what: str, done: int, total: int) -> None:
        """Nothing is shown."""

    def changed(self, records: Sequence[Record], parts: Mapping[str, bytes]) -> None:
        """Nothing is kept."""

    def evaluated(self, row: str, seed: int, score: Callable[[], CurvePoint]) -> None:
        """Nothing is scored."""

    def trained(self, row: str, weights: Path) -> None:
        """Nothing is kept."""


class Results:
    """The results of all rows by id. They are consistent at any time: Ctrl-C loses only the job that it interrupts."""

    def __init__(
        self, plan: Plan, context: Context, observer: Observer, total: int, timing: Timing | None = None
    ) -> None:
        """``total``: the expected number of jobs, for progress. Rows that cannot run here fail at once."""
        self.plan, self.context, self.observer = plan, context, observer
        self.timing = timing or Timing()
        self.schedule: list[list[str]] = []
        """The row ids of every round that has begun, in the order of measurement."""
        self.done, self.total = 0, total
        self.began: float | None = None
        """Monotonic time from which ``timing.wall`` counts."""
        self.allow_changes = False
        """Whether a row that goes on may have other versions than when it stopped."""
        self._stored: dict[str, set[int]] = {}
        """By row id: the rounds that the observer has got."""
        self._weights: Mapping[str, bytes] = {}
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
        """Pass the current records of these rows to the observer, at most ``REPORTED`` at once."""
        for begin in range(0, len(rows), REPORTED):
            some = rows[begin : begin + REPORTED]
            records = self.records(some)  # building one may end its row
            self.observer.changed(records, self.parts(some))

    def parts(self, rows: Sequence[Row]) -> dict[str, bytes]:
        """What changed in what these rows go on from; those that are not ok keep what they had."""
        if self.began is not None:
            self.timing.wall = time.monotonic() - self.began
        failed = [(row_id, result) for row_id, result in self._by_id.items() if result.status != "ok"]
        ended = {row_id: (result.status, result.error or "") for row_id, result in failed}
        parts = {COURSE: Course(schedule=self.schedule, timing=self.timing, ended=ended).encoded()}
        for row in rows:
            result = self[row]
            if result.status == "ok":
                stored = self._stored.setdefault(row.id, set())
                parts |= parts_of(result, stored)
                stored |= set(result.rounds)
        return parts

    def rounds_missing(self) -> int:
        """The rounds that some row still needs; one that had failed and goes on is measured beside all others."""
        going = [self[row] for row in self.plan.order(0) if self[row].status == "ok"]
        return max([0, *(self.plan.rounds - len(result.rounds) for result in going)])

    def restore(self, parts: Mapping[str, bytes], weights: Mapping[str, bytes], owner: str, again: bool) -> None:
        """Go on from what was stored. ``weights``: of trained rows (safetensors) by row id. ``again``: rows that ended
        are tried again.

        Raises:
            BenchError: it is damaged.
        """
        course = course_of(parts, owner)
        if course is None:
            return
        restore(self._by_id, parts, owner)
        for row_id, (status, reason) in course.ended.items() if not again else ():
            if row_id in self._by_id:
                self._by_id[row_id].fail(status, reason)
        done = {number for result in self._by_id.values() for number in result.rounds}
        self.schedule = course.schedule[: max(done, default=-1) + 1]  # not one that was half measured
        for each in fields(Timing):
            setattr(self.timing, each.name, getattr(course.timing, each.name))
        self._stored = {row_id: set(result.rounds) for row_id, result in self._by_id.items()}
        self._weights = weights

    def weights(self, row: Row) -> Weights | None:
        """The stored weights of a trained row that goes on; None: there are none."""
        content = self._weights.get(row.id)
        return None if content is None else from_safetensors(content, row.name)

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

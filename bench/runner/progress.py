"""Progress on standard error, and every outcome into the store as it comes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.errors import BenchError
from bench.records.gate_result import Check, Sides
from bench.records.record import Record, Run
from bench.store.schema import CHECKS, SIDES
from bench.store.store import Store
from bench.store.weights import packed


@dataclass
class Bar:
    """Rich's bar on a terminal, plain lines elsewhere. Drawn only when something happens: a bar that refreshes
    itself would take processor time from the worker that is timed."""

    _bar: Progress | None = None
    _console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    store_error: BenchError | None = None
    steps: Sequence[float] | None = None
    """Seconds that every step is expected to take; None: not known."""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
            )
            self._bar = Progress(*columns, console=self._console, auto_refresh=False, transient=True)
            self._bar.start()
            self._bar_task = self._bar.add_task("", total=None, left="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begins(self, what: str, done: int, total: int) -> None:
        left = self._left(done)
        if self._bar is not None:
            self._bar.update(self._bar_task, description=what, completed=done, total=total, left=left)
            self._bar.refresh()
        else:
            told = f" ({left})" if left else ""
            print(f"[{min(done + 1, total)}/{total}] {what}{told}", file=sys.stderr, flush=True)

    def _left(self, done: int) -> str:
        """By the history, in whole seconds or minutes; empty where it does not tell."""
        if self.steps is None or done >= len(self.steps):
            return ""
        seconds = sum(self.steps[done:])
        return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"

    def stored(self, write: Callable[[], None]) -> None:
        """Write to a store; one that fails is told once and does not end the measuring."""
        try:
            write()
        except BenchError as error:
            if self.store_error is None:
                self._console.print(f"bench: {error}", markup=False, soft_wrap=True)
            self.store_error = error


@dataclass
class RunProgress(Bar):
    """Stores the records of a run as they come."""

    store: Store = field(kw_only=True)
    run_name: str = field(kw_only=True)

    def changed(self, records: Sequence[Record]) -> None:
        """Store rows as they are now, in one transaction."""
        self.stored(lambda: self.store.save(self.run_name, *records))

    def trained(self, row: str, weights: Path) -> None:
        """Keep the weights for runs that begin with them."""
        self.stored(lambda: self.store.keep_weights(self.run_name, row, packed(weights)))

    def ended(self, run: Run) -> None:
        """Store what is known of the run at its end."""
        self.stored(lambda: self.store.end_run(run))


@dataclass
class CheckProgress(Bar):
    """Stores a check with its pairs as they come."""

    store: Store = field(kw_only=True)

    def changed(self, records: Sequence[Record]) -> None:
        """A check holds its records itself."""

    def trained(self, row: str, weights: Path) -> None:
        """A check keeps no weights."""

    def keep(self, check: Check) -> None:
        """Store all that is known of the check now, in one transaction."""
        self.stored(lambda: self.store.put(CHECKS, check.name, check.model_dump_json()))

    def keep_sides(self, check: Check, sides: Sides) -> None:
        """Store the records behind a check that has ended."""
        self.stored(lambda: self.store.put(SIDES, check.name, sides.model_dump_json()))

"""Progress on standard error, and every outcome into the store as it comes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.errors import BenchError
from bench.job import Record, Run
from bench.store import Store


@dataclass
class StoringProgress:
    """Rich's bar on a terminal, plain lines elsewhere. Drawn only when something happens: a bar that refreshes
    itself would take processor time from the worker that is timed."""

    store: Store
    run_name: str
    store_error: BenchError | None = None
    _bar: Progress | None = None
    _console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def __enter__(self) -> StoringProgress:
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=self._console, auto_refresh=False, transient=True)
            self._bar.start()
            self._bar_task = self._bar.add_task("", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begins(self, what: str, done: int, total: int) -> None:
        if self._bar is not None:
            self._bar.update(self._bar_task, description=what, completed=done, total=total)
            self._bar.refresh()
        else:
            print(f"[{min(done + 1, total)}/{total}] {what}", file=sys.stderr, flush=True)

    def changed(self, record: Record) -> None:
        """Store a row as it is now; a store that fails is told once and does not end the run."""
        self._store(lambda: self.store.save(self.run_name, record))

    def ended(self, run: Run) -> None:
        """Store what is known of the run at its end."""
        self._store(lambda: self.store.end_run(run))

    def _store(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BenchError as error:
            if self.store_error is None:
                self._console.print(f"bench: {error}", markup=False, soft_wrap=True)
            self.store_error = error

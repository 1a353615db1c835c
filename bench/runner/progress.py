"""Show progress on standard error and store every outcome at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.errors import BenchError
from bench.records.gate_result import Check, Sides
from bench.records.record import CurvePoint, Record, Run
from bench.runner.checkpoints import WEIGHTS
from bench.store.schema import CHECKS
from bench.store.store import Store
from bench.store.weights import to_safetensors

Watch: TypeAlias = Callable[[str, str, int, CurvePoint], None]
"""Gets the evaluations of trainings that go on: run, id of the row, seed, scores."""


class NotebookLine:
    """A line in the output of a notebook's cell (Jupyter), which each text replaces."""

    def __init__(self) -> None:
        self._shown: Any = None

    @staticmethod
    def is_possible() -> bool:
        """Whether this process is the kernel of a notebook."""
        ipython = sys.modules.get("IPython")  # a kernel has imported it
        shell = None if ipython is None else ipython.get_ipython()
        return getattr(shell, "kernel", None) is not None

    def show(self, text: str) -> None:
        """Show this text in the place of the last one."""
        from IPython import display

        show: Any = display.display
        if self._shown is None:
            self._shown = show({"text/plain": text}, raw=True, display_id=True)
        else:
            self._shown.update({"text/plain": text}, raw=True)


@dataclass
class Bar:
    """Rich's bar on a terminal, a line that changes in a notebook, plain lines elsewhere. It is drawn only at events:
    automatic refreshing would take CPU time from the timed worker."""

    _bar: Progress | None = None
    _line: NotebookLine | None = None
    _console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    store_error: BenchError | None = None
    step_seconds: Sequence[float] | None = None
    """Expected seconds of every step; None if not known."""
    ends_at: float | None = None
    """Monotonic time at which a time budget ends."""

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
        elif NotebookLine.is_possible():
            self._line = NotebookLine()
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            self._line.show("")
        if self._bar is not None:
            self._bar.stop()

    def begins(self, what: str, done: int, total: int) -> None:
        left = self._left(done)
        if self._bar is not None:
            self._bar.update(self._bar_task, description=what, completed=done, total=total, left=left)
            self._bar.refresh()
            return
        suffix = f" ({left})" if left else ""
        text = f"[{min(done + 1, total)}/{total}] {what}{suffix}"
        if self._line is not None:
            self._line.show(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def _left(self, done: int) -> str:
        """The expected remaining time, in whole seconds or minutes; empty if not known."""
        if self.ends_at is not None:
            seconds = self.ends_at - time.monotonic()
            if seconds < 0:
                return ""
        elif self.step_seconds is None or done >= len(self.step_seconds):
            return ""
        else:
            seconds = sum(self.step_seconds[done:])
        return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"

    def evaluated(self, row: str, seed: int, score: Callable[[], CurvePoint]) -> None:
        """Nothing is scored before the training has ended."""

    def write_to_store(self, write: Callable[[], None]) -> None:
        """Write to the store. A failure is printed once and does not end the run."""
        try:
            write()
        except BenchError as error:
            if self.store_error is None:
                self._console.print(f"bench: {error}", markup=False, soft_wrap=True)
            self.store_error = error


class Shown(Bar):
    """Shows progress, and stores nothing."""

    def changed(self, records: Sequence[Record], parts: Mapping[str, bytes]) -> None:
        """Nothing is kept."""

    def trained(self, row: str, weights: Path) -> None:
        """Nothing is kept."""


def not_ended(record: Record) -> Record:
    """The record as it is stored until its run ends: whatever ends the process, it is not taken for a whole one."""
    if record.status != "ok":
        return record
    return record.model_copy(update={"status": "interrupted", "error": "the run has not ended"})


@dataclass
class RunProgress(Bar):
    """Stores the records of a run as they change."""

    store: Store = field(kw_only=True)
    run_name: str = field(kw_only=True)
    watch: Watch | None = field(kw_only=True, default=None)
    _weights_lost: bool = False

    def changed(self, records: Sequence[Record], parts: Mapping[str, bytes]) -> None:
        """Store the current records in one transaction, as those of a run that has not ended, with what it goes on
        from."""
        self.write_to_store(lambda: self.store.save(self.run_name, *map(not_ended, records), parts=parts))

    def evaluated(self, row: str, seed: int, score: Callable[[], CurvePoint]) -> None:
        """Tell who watches the training. If it cannot be written, that is said once and costs the training nothing."""
        if self.watch is None:
            return
        try:
            self.watch(self.run_name, row, seed, score())
        except OSError as error:
            self.watch = None
            self._console.print(
                f"bench: the course of trainings cannot be written: {error}", markup=False, soft_wrap=True
            )

    def trained(self, row: str, weights: Path) -> None:
        """Store the weights, for later runs that start from them."""
        self.store_error, earlier = None, self.store_error
        self.write_to_store(lambda: self.store.keep_weights(self.run_name, row, to_safetensors(weights)))
        self._weights_lost |= self.store_error is not None
        self.store_error = self.store_error or earlier

    def ended(self, run: Run, whole: bool) -> None:
        """Store the run's final fields, with all records. ``whole``: nothing is missing. An earlier failure is over, if
        no weights were lost by it."""
        if not self._weights_lost:
            self.store_error = None
        self.write_to_store(lambda: self.store.end_run(run, whole))


@dataclass
class CheckProgress(Bar):
    """Stores a check with its pairs as they are measured."""

    store: Store = field(kw_only=True)

    name: str = field(kw_only=True)

    def changed(self, records: Sequence[Record], parts: Mapping[str, bytes]) -> None:
        """Store what the check goes on from; ``ended`` stores the records."""
        self.write_to_store(lambda: self.store.keep_parts(self.name, parts))

    def trained(self, row: str, weights: Path) -> None:
        """Store the weights until the check has ended."""
        self.write_to_store(lambda: self.store.keep_parts(self.name, {WEIGHTS + row: to_safetensors(weights)}))

    def keep(self, check: Check, parts: Mapping[str, bytes]) -> None:
        """Store the current state of the check in one transaction, with what it goes on from."""
        self.write_to_store(lambda: self.store.put(CHECKS, check.name, check.model_dump_json(), parts))

    def ended(self, check: Check, sides: Sides, whole: bool) -> None:
        """Store a check with its records. ``whole``: it has not been interrupted."""
        self.write_to_store(lambda: self.store.end_check(check, sides, whole))

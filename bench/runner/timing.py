"""Where a run's wall time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Timing:
    """A run's wall time by use, in seconds; ``phases`` sums the phases of all its workers."""

    wall: float = 0.0
    timed: float = 0.0
    """The parent's waiting for timed slices."""
    parent_cpu_while_timed: float = 0.0
    """CPU time of the parent during that waiting."""
    asleep_wait: float = 0.0
    """Waiting until the threads of the previous worker slept."""
    phases: dict[str, float] = field(default_factory=dict)
    turn: str = ""
    """Whether no other timed command ran on this machine (``bench.machine.turn``)."""
    waited: float = 0.0
    """Waiting for other timed commands, before all this."""
    judging: dict[str, float] = field(default_factory=dict)
    """The parent's time for each check of what workers did, while nothing is timed."""

    @contextmanager
    def judges(self, check: str) -> Iterator[None]:
        """Add the wall seconds of a ``with`` block to a check."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.judging[check] = self.judging.get(check, 0.0) + time.perf_counter() - begin

    def add(self, phases: Mapping[str, float]) -> None:
        """Add the phases of a finished worker."""
        for name, seconds in phases.items():
            self.phases[name] = self.phases.get(name, 0.0) + seconds

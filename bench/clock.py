"""The one clock: what is timed, and where its borders lie.

Both borders of a slice are fences (``synchronize``), so that work which a GPU has only queued is never counted as
done. The number of steps is fixed before the clock starts: reading the clock between queued steps would either wait
for the device or count what it has not done.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

now = time.perf_counter

MAX_LATENCIES = 1000
"""A latency slice ends after its seconds or this many calls, whichever comes first."""
MIN_WARM_UP_STEPS = 3
WARM_UP_SECONDS = 0.2


@dataclass(frozen=True)
class Timed:
    """Raw result of a slice: wall seconds between the fences, images done, and each call's seconds if asked for."""

    seconds: float
    images: int
    latencies: list[float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"seconds": self.seconds, "images": self.images, "latencies": self.latencies}


def warm_up(step: Callable[[], object], fence: Callable[[], None]) -> tuple[int, float]:
    """Run until at least ``MIN_WARM_UP_STEPS`` and ``WARM_UP_SECONDS`` are done; returns the number of steps and
    the median seconds of their later half, each fenced."""
    begin, seconds = now(), list[float]()
    while len(seconds) < MIN_WARM_UP_STEPS or now() - begin < WARM_UP_SECONDS:
        start = now()
        step()
        fence()
        seconds.append(now() - start)
    return len(seconds), statistics.median(seconds[len(seconds) // 2 :])


def throughput_slice(
    step: Callable[[], object], fence: Callable[[], None], seconds: float, step_seconds: float, images: int
) -> Timed:
    """As many steps as fit into ``seconds`` (at least one), each of ``images`` images, between two fences."""
    steps = max(1, math.floor(seconds / step_seconds)) if step_seconds > 0 else 1
    fence()
    begin = now()
    for _ in range(steps):
        step()
    fence()
    return Timed(now() - begin, steps * images)


def latency_slice(step: Callable[[], object], fence: Callable[[], None], seconds: float, images: int) -> Timed:
    """Calls timed one by one, each up to its fence; ``seconds`` of the result is the sum over the calls."""
    latencies: list[float] = []
    fence()
    end = now() + seconds
    while len(latencies) < MAX_LATENCIES:
        begin = now()
        step()
        fence()
        done = now()
        latencies.append(done - begin)
        if done >= end:
            break
    return Timed(math.fsum(latencies), images * len(latencies), latencies)

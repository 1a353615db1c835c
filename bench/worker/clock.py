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

from bench.worker import steady_state
from bench.worker.protocol import WarmedUp

now = time.perf_counter

MAX_LATENCIES = 500
"""A latency slice ends after its seconds or this many calls, whichever comes first."""
MIN_WARM_UP_STEPS = 3
MIN_WARM_UP_SECONDS = 0.2
MAX_WARM_UP_SECONDS = 2.0
"""A step that is not steady by then is timed as it is, and its figure says so."""
RAMP = 0.25
"""A slice begins with one step outside the clock, to wake threads and fill caches, unless a step takes more than
this share of the slice: then it matters little and costs much."""


@dataclass(frozen=True)
class Timed:
    """Raw result of a slice: wall seconds between the fences, images done, and each call's seconds if asked for."""

    seconds: float
    images: int
    latencies: tuple[float, ...] | None = None


def warm_up(step: Callable[[], object], fence: Callable[[], None]) -> WarmedUp:
    """Run fenced steps until they are steady (``steady_state.mser``), at least ``MIN_WARM_UP_STEPS`` and
    ``MIN_WARM_UP_SECONDS``, at most ``MAX_WARM_UP_SECONDS`` (and those steps)."""
    begin, seconds, next_look = now(), list[float](), steady_state.FEWEST
    while True:
        start = now()
        step()
        fence()
        done = now()
        seconds.append(done - start)
        spent, steps = done - begin, len(seconds)
        late = spent >= MAX_WARM_UP_SECONDS and steps >= MIN_WARM_UP_STEPS
        if late or (spent >= MIN_WARM_UP_SECONDS and steps >= next_look):
            verdict = steady_state.mser(seconds)
            if late or verdict.steady:
                median = statistics.median(seconds[verdict.warm_up :])
                return WarmedUp(steps=steps, steady=verdict.steady, step_seconds=median)
            next_look = math.ceil(1.25 * steps)


def throughput_slice(
    step: Callable[[], object], fence: Callable[[], None], seconds: float, step_seconds: float, images: int
) -> Timed:
    """As many steps as fit into ``seconds`` (at least one), each of ``images`` images, between two fences."""
    steps = max(1, round(seconds / step_seconds)) if step_seconds > 0 else 1
    _ramp(step, seconds, step_seconds)
    fence()
    begin = now()
    for _ in range(steps):
        step()
    fence()
    return Timed(now() - begin, steps * images)


def latency_slice(
    step: Callable[[], object], fence: Callable[[], None], seconds: float, step_seconds: float, images: int
) -> Timed:
    """Calls timed one by one, each up to its fence; ``seconds`` of the result is the sum over the calls."""
    latencies: list[float] = []
    _ramp(step, seconds, step_seconds)
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
    return Timed(math.fsum(latencies), images * len(latencies), tuple(latencies))


def _ramp(step: Callable[[], object], seconds: float, step_seconds: float) -> None:
    if step_seconds <= RAMP * seconds:
        step()

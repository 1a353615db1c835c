"""The only clock: it times slices and warm-up steps.

A slice begins and ends with a fence (``synchronize``), so that work which a GPU has only queued never counts as done.
The number of steps is fixed before the clock starts: reading the clock between queued steps would either wait for the
device or count work that is not done.
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

MAX_LATENCIES, MAX_UNDER_QUOTA = 500, 5000
"""A latency slice ends after its seconds or this many calls, whichever comes first; under a quota of CPU time it must
see the pauses at the ends of its periods."""
MIN_WARM_UP_STEPS = 3
MIN_WARM_UP_SECONDS = 0.2
MAX_WARM_UP_SECONDS = 2.0
"""If the steps are not steady by then, they are timed anyway, and the metric is marked."""
AGAIN_SECONDS, NOT_WARM = 0.05, 5.0
"""Seconds of steps that are known to be steady, and how many times longer than their median the first one takes where
something was compiled."""
MAX_UNTIMED_SHARE = 0.25
"""A slice begins with one untimed step that wakes threads and fills caches. It is left out if a step takes more than
this share of the slice: it would cost much and change little."""


@dataclass(frozen=True)
class Timed:
    """Raw result of a slice: wall seconds between the fences, number of images, and for a latency slice the seconds of
    each call."""

    seconds: float
    images: int
    latencies: tuple[float, ...] | None = None


def alone(number: float) -> float:
    """What a process on its own agrees on with itself."""
    return number


def warm_up(
    step: Callable[[], object],
    fence: Callable[[], None],
    renew: Callable[[], object] = lambda: None,
    agree: Callable[[float], float] = alone,
) -> WarmedUp:
    """Run fenced steps until they are steady (``steady_state.mser``). They take at least ``MIN_WARM_UP_STEPS`` and
    ``MIN_WARM_UP_SECONDS``, and end after ``MAX_WARM_UP_SECONDS`` if the minimum of steps is done. ``renew`` is called
    before every step, outside its time: it gives the steps new inputs. ``agree``: what one of several processes that
    train together says is the time of all, so that all make as many steps."""
    begin, seconds, next_test = now(), list[float](), steady_state.FEWEST
    while True:
        renew()
        start = now()
        step()
        fence()
        end_of_step = now()
        seconds.append(agree(end_of_step - start))
        spent, steps = agree(end_of_step - begin), len(seconds)
        out_of_time = spent >= MAX_WARM_UP_SECONDS and steps >= MIN_WARM_UP_STEPS
        if out_of_time or (spent >= MIN_WARM_UP_SECONDS and steps >= next_test):
            verdict = steady_state.mser(seconds)
            if out_of_time or verdict.steady:
                median = statistics.median(seconds[verdict.warm_up :])
                return WarmedUp(steps=steps, steady=verdict.steady, step_seconds=median, cut=verdict.warm_up)
            next_test = math.ceil(1.25 * steps)


def warm_up_again(
    step: Callable[[], object],
    fence: Callable[[], None],
    renew: Callable[[], object],
    cut: int,
    agree: Callable[[float], float] = alone,
) -> WarmedUp:
    """Fenced steps that are known to be steady after the first ``cut``: at least ``MIN_WARM_UP_STEPS`` and
    ``AGAIN_SECONDS`` after these. If they are not (a framework may compile each boundary), a whole warm-up follows."""
    seconds: list[float] = []
    begin = now()
    while len(seconds) < cut + MIN_WARM_UP_STEPS or agree(now() - begin) < AGAIN_SECONDS:
        renew()
        start = now()
        step()
        fence()
        seconds.append(agree(now() - start))
    median = statistics.median(seconds[cut:])
    if seconds[cut] > NOT_WARM * median:
        return warm_up(step, fence, renew, agree)
    return WarmedUp(steps=len(seconds), steady=True, step_seconds=median, cut=cut)


def steps_of(seconds: float, step_seconds: float) -> int:
    """How many steps are timed in a slice of so many seconds."""
    return max(1, round(seconds / step_seconds)) if step_seconds > 0 else 1


def throughput_slice(
    step: Callable[[], object], fence: Callable[[], None], seconds: float, step_seconds: float, images: int
) -> Timed:
    """Time as many steps as fit into ``seconds`` (at least one), each of ``images`` images, between two fences."""
    steps = steps_of(seconds, step_seconds)
    _untimed_step(step, seconds, step_seconds)
    fence()
    begin = now()
    for _ in range(steps):
        step()
    fence()
    return Timed(now() - begin, steps * images)


def latency_slice(
    step: Callable[[], object],
    fence: Callable[[], None],
    seconds: float,
    step_seconds: float,
    images: int,
    most: int = MAX_LATENCIES,
) -> Timed:
    """Time calls one by one, each with its fence, at most so many. ``seconds`` of the result is the sum over them."""
    latencies: list[float] = []
    _untimed_step(step, seconds, step_seconds)
    fence()
    end = now() + seconds
    while len(latencies) < most:
        begin = now()
        step()
        fence()
        end_of_call = now()
        latencies.append(end_of_call - begin)
        if end_of_call >= end:
            break
    return Timed(math.fsum(latencies), images * len(latencies), tuple(latencies))


def _untimed_step(step: Callable[[], object], seconds: float, step_seconds: float) -> None:
    if step_seconds <= MAX_UNTIMED_SHARE * seconds:
        step()

"""What this machine can do at most in this framework: the rate of a large matrix product, of a convolution of as much
work, and of a memory triad.

The triad is STREAM's (McCalpin 1995): a = b + s c. Of each kernel the fastest of many calls counts: a limit is not a
mean.
"""

from __future__ import annotations

from collections.abc import Callable

from backends.base import Backend
from bench.worker import clock

SIZE = {"cpu": 1536, "cuda": 8192}
"""Sides of the matrices."""
MEMORY, CACHE = 2**23, 2**16
"""Numbers of each of the triad's arrays: 32 MiB, more than caches hold; 256 KiB, which they hold."""
SECONDS, CALLS = 0.25, 5
"""Of every kernel, at least."""
TRIAD_BYTES = 12
"""Two float32 numbers are read, one is written."""


def rates(backend: Backend, device: str) -> dict[str, float]:
    """``product`` and ``convolution`` (FLOP/s), ``triad`` and ``cached_triad`` (bytes/s), of those that the backend
    has."""
    size = SIZE["cpu" if device == "cpu" else "cuda"]
    found = {}
    for name, length, work in (
        ("product", CACHE, 2.0 * size**3),
        ("convolution", CACHE, 2.0 * size**3),
        ("triad", MEMORY, float(TRIAD_BYTES * MEMORY)),
        ("cached_triad", CACHE, float(TRIAD_BYTES * CACHE)),
    ):
        kernel = backend.roof_kernels(1 if "triad" in name else size, length).get(name.removeprefix("cached_"))
        seconds = _fastest(backend, kernel) if kernel is not None else 0.0
        if seconds > 0:  # a clock that stands still tells no rate
            found[name] = work / seconds
    return found


def _fastest(backend: Backend, kernel: Callable[[], object]) -> float:
    """Seconds of the fastest call, after one that may compile."""
    kernel()
    backend.synchronize()
    seconds, end = list[float](), clock.now() + SECONDS
    while len(seconds) < CALLS or (clock.now() < end and max(seconds) > 0):
        begin = clock.now()
        kernel()
        backend.synchronize()
        seconds.append(clock.now() - begin)
    return min(seconds)

"""The test whether a series of step times has become steady: MSER-5.

White (1997), "An effective truncation heuristic for bias reduction in simulation output", Simulation 69(6); with
batch means of five, White, Cobb & Spratt (2000), Winter Simulation Conference. The first
d of n observations are cut off so that the standard error of the mean of the rest is smallest. If the cut takes half of
the series or more, the series was still warming up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BATCH = 5
"""Number of observations that are averaged into one, if there are at least ``BATCHED_FROM``."""
BATCHED_FROM = 100
FEWEST = 10
"""The smallest number of steps for a verdict."""
FEWEST_LEFT = 5
"""A cut must leave at least this many observations; the spread of fewer can be small by chance."""
ROUNDING = 1e-6
"""A spread below this share of the mean counts as zero."""


@dataclass(frozen=True)
class Verdict:
    """The number of steps to cut off, and whether the rest is steady (None: too few steps to decide)."""

    warm_up: int
    steady: bool | None


def mser(steps: Sequence[float]) -> Verdict:
    """The verdict on the seconds of consecutive steps."""
    if len(steps) < FEWEST:
        return Verdict(len(steps) // 2, None)
    size = BATCH if len(steps) >= BATCHED_FROM else 1
    count = len(steps) // size
    observed = np.asarray(steps[: count * size], np.float64).reshape(count, size).mean(axis=1)
    left = np.arange(count, 0, -1)
    centred = observed - observed[-1]  # else the sums of squares of nearly equal numbers would cancel
    total, squares = (np.cumsum(values[::-1])[::-1] for values in (centred, centred**2))
    spread = np.maximum(squares - total**2 / left, left * (ROUNDING * observed.mean()) ** 2)
    cut = int(np.argmin((spread / left**2)[: count - FEWEST_LEFT + 1]))
    return Verdict(cut * size, cut < count / 2)

"""How many slices the processes of a pair have: pure functions of the pairs so far.

Two processes of one build differ, and more slices cannot lower that; a new pair costs its imports and its warm-up. With
the variance B between pairs and W/k of the median within one, k = sqrt(W/B * fixed/slice) slices give the narrowest
interval in a given time (Cochran 1977, "Sampling Techniques", section 10.6). Only spreads are looked at, never the
effect: which pairs are measured does not depend on it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.worker.protocol import TimedMetric

FEWEST_PAIRS = 4
"""Pairs from which the spreads are estimated."""
FEWEST_SLICES = 10
MEDIAN_VARIANCE = math.pi / 2
"""Of a median, over that of a mean, for normal values."""
NORMAL_DEVIATIONS = 1.4826
"""Standard deviations of a normal distribution in a median absolute deviation."""


def slices_of_pair(turns: Sequence[Sequence[float]], fixed: float, slice_seconds: float, most: int) -> int:
    """The number of slices of the next pair, between ``FEWEST_SLICES`` and ``most``.

    ``turns``: of every pair the logarithms of the ratios of its turns. ``fixed``: seconds of a pair without slices;
    ``slice_seconds``: of one slice of both sides.
    """
    if len(turns) < FEWEST_PAIRS or slice_seconds <= 0:
        return most
    medians = [statistics.median(ratios) for ratios in turns]
    within = MEDIAN_VARIANCE * statistics.fmean(
        (NORMAL_DEVIATIONS * statistics.median(abs(ratio - median) for ratio in ratios)) ** 2
        for ratios, median in zip(turns, medians, strict=True)
    )
    slices = statistics.fmean(len(ratios) for ratios in turns)
    between = statistics.variance(medians) - within / slices
    if between <= 0:
        return most
    return round(min(max(math.sqrt(within / between * fixed / slice_seconds), FEWEST_SLICES), most))


@dataclass
class PairLength:
    """The slices of a row's pairs by metric; ``most``: those of the profile, which its first pairs have."""

    most: int
    slices: dict[TimedMetric, int] = field(default_factory=dict)
    """Where they are not ``most``."""
    _turns: dict[TimedMetric, list[Sequence[float]]] = field(default_factory=dict)

    def add(
        self, turns: Mapping[TimedMetric, Sequence[float]], seconds: float, slice_seconds: Mapping[TimedMetric, float]
    ) -> None:
        """Note a pair that took ``seconds``, and plan the next one. ``turns``: as in ``slices_of_pair``."""
        in_slices = math.fsum(slice_seconds[metric] * self.slices.get(metric, self.most) for metric in slice_seconds)
        fixed = max(0.0, seconds - in_slices) / max(len(turns), 1)
        for metric, ratios in turns.items():
            so_far = self._turns.setdefault(metric, [])
            so_far += [ratios] if ratios else []
            self.slices[metric] = slices_of_pair(so_far, fixed, slice_seconds[metric], self.most)

"""How many rounds and slices fit into a run's time budget: pure functions of what the rounds so far have cost.

Rounds come first, because processes of one build differ and Student's t falls with their number. What is left of a
round's time goes to the metrics whose slices vary most for what they cost.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.worker.protocol import TimedMetric

BASE_SECONDS, ROW_SECONDS = 60.0, 24.0
"""The budget of a run without ``--budget``: so much, and so much more for every row; for five rows 3 minutes. The rows'
part is for the rounds, however long certificates and trainings take."""
MOST_ROUNDS = 40
"""What is left of the budget of a fast run goes to its slices."""
FEWEST_SLICES, USUAL_SLICES, MOST_SLICES = 2, 4, 24
"""Slices per metric and process. A round is added where it can have the usual number."""
UNKNOWN_SPREAD = 0.05
"""Standard deviation of a slice's logarithm, where none was measured."""

Slices = Mapping[TimedMetric, int]


@dataclass(frozen=True)
class RoundCost:
    """Seconds that a round takes: ``fixed`` without slices, and one slice of every row, by metric."""

    fixed: float
    slice: Mapping[TimedMetric, float]

    def of(self, slices: Slices) -> float:
        """Seconds of a round with so many slices."""
        return self.fixed + math.fsum(seconds * slices[metric] for metric, seconds in self.slice.items())


def default_seconds(rows: int) -> float:
    """The budget of a run of so many rows, if the user gives none."""
    return BASE_SECONDS + ROW_SECONDS * rows


def mean_cost(costs: Sequence[RoundCost]) -> RoundCost:
    """The mean over rounds; a metric that was not timed in all of them counts where it was."""
    metrics = {metric for cost in costs for metric in cost.slice}
    return RoundCost(
        statistics.fmean(cost.fixed for cost in costs),
        {metric: statistics.fmean(cost.slice[metric] for cost in costs if metric in cost.slice) for metric in metrics},
    )


def rounds_left(cost: RoundCost, usual: Slices, seconds: float, missing: int, most: int = MOST_ROUNDS) -> int:
    """How many rounds of the usual numbers of slices to measure in so many seconds: at least those that are missing,
    and at ``most`` so many."""
    return min(max(missing, math.floor(seconds / max(cost.of(usual), 1e-3))), most)


def slices_of_round(cost: RoundCost, seconds: float, spreads: Mapping[TimedMetric, float]) -> dict[TimedMetric, int]:
    """The number of slices by metric in a round of so many seconds.

    ``spreads``: standard deviation of a slice's logarithm, by metric. One slice after the other goes to the metric in
    which it lowers the variance of a process' mean, spread^2 / slices, most per second (Neyman's allocation).
    """
    chosen = dict.fromkeys(cost.slice, FEWEST_SLICES)
    left = seconds - cost.of(chosen)

    def gain(metric: TimedMetric) -> float:
        variance = spreads.get(metric, UNKNOWN_SPREAD) ** 2
        return variance / (chosen[metric] * (chosen[metric] + 1)) / max(cost.slice[metric], 1e-9)

    while True:
        open_ones = [m for m, each in cost.slice.items() if each <= left and chosen[m] < MOST_SLICES]
        if not open_ones:
            return chosen
        best = max(open_ones, key=gain)
        chosen[best] += 1
        left -= cost.slice[best]

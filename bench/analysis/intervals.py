"""Pure functions of numbers: summaries over processes, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.metrics import CONFIDENCE


@dataclass(frozen=True)
class Estimate:
    """A central value with its 95% interval (None with fewer than two samples) and the number of samples."""

    value: float
    low: float | None
    high: float | None
    n: int


def geometric_mean(values: Sequence[float]) -> Estimate:
    """Geometric mean with a Student t interval on the logarithms (Fleming & Wallace 1986 for the mean; speeds of
    processes vary by factors, so logs are nearer to normal).

    Raises:
        ValueError: no values, or one that is not positive and finite.
    """
    if not values or any(not (math.isfinite(value) and value > 0) for value in values):
        raise ValueError(f"a geometric mean needs positive finite values, got {list(values)}")
    logs = arithmetic_mean([math.log(value) for value in values])
    low, high = (None if bound is None else math.exp(bound) for bound in (logs.low, logs.high))
    return Estimate(math.exp(logs.value), low, high, logs.n)


def arithmetic_mean(values: Sequence[float]) -> Estimate:
    """Mean with a Student t interval: mean +- t(0.975, n-1) * s / sqrt(n), s with n-1.

    Raises:
        ValueError: no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("a mean needs at least one value")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = student_t(n - 1) * deviation / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def student_t(degrees: int) -> float:
    """Two-sided 95% quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + CONFIDENCE / 2))


def percentile(sorted_values: Sequence[float], percent: float) -> float:
    """Linear interpolation between order statistics (type 7 of Hyndman & Fan 1996, NumPy's default)."""
    position = (len(sorted_values) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(sorted_values) - 1)
    return sorted_values[below] + (sorted_values[above] - sorted_values[below]) * (position - below)

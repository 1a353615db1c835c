"""Pure functions of numbers: summaries over processes, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.records.metrics import CONFIDENCE
from bench.values import Measured


def geometric_mean(values: Sequence[float]) -> Measured:
    """Geometric mean with a Student t interval on the logarithms (Fleming & Wallace 1986 for the mean; speeds of
    processes vary by factors, so logs are nearer to normal).

    Raises:
        ValueError: no values, or one that is not positive and finite.
    """
    if not values or any(not (math.isfinite(value) and value > 0) for value in values):
        raise ValueError(f"a geometric mean needs positive finite values, got {list(values)}")
    logs = arithmetic_mean([math.log(value) for value in values])
    low, high = (None if bound is None else math.exp(bound) for bound in (logs.low, logs.high))
    return Measured(math.exp(logs.value), low, high, logs.n)


def arithmetic_mean(values: Sequence[float]) -> Measured:
    """Mean with a Student t interval: mean +- t(0.975, n-1) * s / sqrt(n), s with n-1.

    Raises:
        ValueError: no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("a mean needs at least one value")
    mean = math.fsum(values) / n
    if n == 1:
        return Measured(mean, None, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = student_t(n - 1, 0.5 + CONFIDENCE / 2) * deviation / math.sqrt(n)
    return Measured(mean, mean - half, mean + half, n)


FEWEST_RANKED = 6
"""The smallest number of values whose range holds the median of all with at least 95%."""


def median(values: Sequence[float]) -> Measured:
    """Median with the narrowest interval of order statistics that holds the median of all such values with a
    probability of at least 95%, whatever their distribution: 1 - 2 P(B < k), B binomial with n and 1/2 (Conover 1999,
    3.2). Fewer than six values have none.

    Raises:
        ValueError: no values.
    """
    ordered, n = sorted(values), len(values)
    if n == 0:
        raise ValueError("a median needs at least one value")
    outside, left_out = 0.0, 0
    while (outside := outside + 2 * math.comb(n, left_out) / 2**n) <= 1 - CONFIDENCE:
        left_out += 1
    middle = percentile(ordered, 50)
    if left_out == 0:
        return Measured(middle, None, None, n)
    return Measured(middle, ordered[left_out - 1], ordered[n - left_out], n)


def student_t(degrees: float, level: float) -> float:
    """Quantile of Student's t distribution: a variate lies below it with probability ``level``."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, level))


def percentile(sorted_values: Sequence[float], percent: float) -> float:
    """Linear interpolation between order statistics (type 7 of Hyndman & Fan 1996, NumPy's default)."""
    position = (len(sorted_values) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(sorted_values) - 1)
    return sorted_values[below] + (sorted_values[above] - sorted_values[below]) * (position - below)

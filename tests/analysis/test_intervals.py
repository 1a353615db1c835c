"""Statistics against closed forms, SciPy and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis import intervals
from bench.values import Measured

POSITIVE = st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=20)


def test_geometric_mean_by_hand() -> None:
    estimate = intervals.geometric_mean([1.0, 4.0])
    assert estimate.value == pytest.approx(2.0)
    half = 12.7062047 * math.log(4) / 2  # t(0.975, 1) * s / sqrt(2), s = |log 4| / sqrt 2
    assert math.log(estimate.high / estimate.value) == pytest.approx(half)
    assert math.log(estimate.value / estimate.low) == pytest.approx(half)


def test_one_process_has_no_interval() -> None:
    assert intervals.geometric_mean([3.0]) == Measured(pytest.approx(3.0), None, None, 1)


@pytest.mark.parametrize("values", [[], [0.0], [-1.0, 2.0], [math.nan], [math.inf]])
def test_nothing_but_positive_numbers(values: list[float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        intervals.geometric_mean(values)


@given(POSITIVE)
def test_interval_holds_its_value_and_scales(values: list[float]) -> None:
    estimate, scaled = intervals.geometric_mean(values), intervals.geometric_mean([7 * value for value in values])
    assert estimate.low <= estimate.value * (1 + 1e-12)
    assert estimate.value <= estimate.high * (1 + 1e-12)
    assert scaled.value == pytest.approx(7 * estimate.value)


def test_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for values in rng.lognormal(0.0, 0.1, (2000, 3)).tolist():
        estimate = intervals.geometric_mean(values)
        covered += estimate.low <= 1.0 <= estimate.high
    assert 0.935 < covered / 2000 < 0.965


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=50), st.sampled_from([50, 90, 99]))
def test_percentile_is_numpys(values: list[float], percent: int) -> None:
    assert intervals.percentile(sorted(values), percent) == pytest.approx(np.percentile(values, percent), abs=1e-9)


def test_student_t() -> None:
    assert intervals.student_t(2, 0.975) == pytest.approx(4.30265, rel=1e-5)


@pytest.mark.parametrize(("n", "places"), [(5, None), (6, (0, 5)), (9, (1, 7)), (20, (5, 14))])
def test_the_interval_of_a_median_is_between_order_statistics(n: int, places: tuple[int, int] | None) -> None:
    """Places as in the tables of Conover (1999): 95% at least, and the next narrower interval would have less."""
    values = [float(2**number) for number in range(n)]
    found = intervals.median(values[::-1])
    assert found.value == pytest.approx(intervals.percentile(values, 50))
    assert (found.low, found.high) == ((None, None) if places is None else (values[places[0]], values[places[1]]))


def test_the_interval_of_a_median_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    tails = rng.lognormal(0, 1.5, (4000, 8))
    covered = [estimate.low <= 1 <= estimate.high for estimate in map(intervals.median, tails.tolist())]
    assert np.mean(covered) > 0.945

"""Two one-sided tests: by hand, by their error rate, and how many seeds are told to be missing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from bench.analysis.equivalence import tost


def test_agrees_with_two_t_tests_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        differences, margin = rng.normal(0.005, 0.01, 6), 0.015
        lower = ttest_1samp(differences, -margin, alternative="greater").pvalue
        upper = ttest_1samp(differences, margin, alternative="less").pvalue
        assert (tost(differences.tolist(), margin).kind == "equivalent") == (max(lower, upper) <= 0.05)


def test_at_the_margin_it_is_called_the_same_in_five_of_a_hundred() -> None:
    rng = np.random.default_rng(1)
    called = sum(tost(rng.normal(0.02, 0.005, 5).tolist(), 0.02).kind == "equivalent" for _ in range(4000))
    assert 0.035 < called / 4000 < 0.065


def test_different_only_when_the_whole_interval_is_beyond_the_margin() -> None:
    assert tost([0.05, 0.051, 0.049], 0.02).kind == "different"
    assert tost([-0.05, -0.051, -0.049], 0.02).kind == "different"
    assert tost([0.021, 0.0, 0.042], 0.02).kind == "inconclusive"


def test_equal_to_the_last_digit() -> None:
    found = tost([0.001, 0.001, 0.001], 0.02)
    assert (found.kind, found.low, found.high) == ("equivalent", 0.001, 0.001)


def test_one_seed_settles_nothing() -> None:
    found = tost([0.0], 0.02)
    assert (found.kind, found.low, found.seeds_needed) == ("inconclusive", None, None)


def test_the_seeds_that_are_missing_would_settle_it() -> None:
    found = tost([0.0, 0.03, -0.02], 0.02)
    assert found.kind == "inconclusive"
    needed = found.seeds_needed
    assert needed is not None
    assert 3 < needed < 50
    spread = np.std([0.0, 0.03, -0.02], ddof=1)

    def series(n: int) -> list[float]:
        """Of this mean and spread."""
        values = np.linspace(-1, 1, n)
        values = (values - values.mean()) / values.std(ddof=1) * spread
        return list(values + np.mean([0.0, 0.03, -0.02]))

    assert tost(series(needed), 0.02).kind == "equivalent"
    assert tost(series(needed - 1), 0.02).kind == "inconclusive"


def test_no_number_of_seeds_settles_a_difference_at_the_margin() -> None:
    assert tost([0.01, 0.02, 0.03], 0.02).seeds_needed is None


def test_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="at least one"):
        tost([], 0.02)

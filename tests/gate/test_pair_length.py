"""How many slices a pair has, from the spreads within and between pairs."""

from __future__ import annotations

import numpy as np
import pytest

from bench.gate.pair_length import FEWEST_PAIRS, FEWEST_SLICES, PairLength, slices_of_pair
from bench.worker.protocol import TimedMetric

METRIC = TimedMetric("throughput", "train", 128, "end-to-end")


def turns(pairs: int, between: float, within: float, slices: int = 40, effect: float = 0.0) -> list[list[float]]:
    rng = np.random.default_rng(3)
    return [list(effect + rng.normal(0, between) + rng.normal(0, within, slices)) for _ in range(pairs)]


def test_processes_that_differ_have_many_short_pairs() -> None:
    assert slices_of_pair(turns(8, 0.02, 0.01), 5.0, 0.3, 40) == FEWEST_SLICES


def test_processes_that_agree_have_long_pairs() -> None:
    assert slices_of_pair(turns(400, 0.001, 0.05), 5.0, 0.3, 40) == 40


def test_it_is_the_optimum_of_two_stage_sampling() -> None:
    """Of the variance (B + W / k) in a time of (fixed + k * slice) per pair."""
    between, within, fixed, slice_seconds = 0.008, 0.02, 5.0, 0.3
    found = slices_of_pair(turns(400, between, within), fixed, slice_seconds, 40)
    cost = {k: (between**2 + np.pi / 2 * within**2 / k) * (fixed + k * slice_seconds) for k in range(FEWEST_SLICES, 41)}
    assert found == pytest.approx(min(cost, key=lambda k: cost[k]), abs=2)


def test_the_effect_has_no_part_in_it() -> None:
    plain, moved = (slices_of_pair(turns(8, 0.008, 0.03, effect=effect), 5.0, 0.3, 40) for effect in (0.0, 0.1))
    assert plain == moved


def test_the_first_pairs_have_the_slices_of_the_profile() -> None:
    assert slices_of_pair(turns(FEWEST_PAIRS - 1, 0.02, 0.001), 5.0, 0.3, 40) == 40
    length = PairLength(most=40)
    for ratios in turns(FEWEST_PAIRS, 0.02, 0.001):
        assert length.slices.get(METRIC, 40) == 40
        length.add({METRIC: ratios}, seconds=17.0, slice_seconds={METRIC: 0.3})
    assert length.slices == {METRIC: FEWEST_SLICES}

"""Rounds and slices that fill a time budget: pure functions of what rounds cost."""

from __future__ import annotations

import pytest

from bench.runner import budget
from bench.runner.budget import FEWEST_SLICES, MOST_SLICES, RoundCost
from bench.worker.protocol import TimedMetric

FAST = TimedMetric("throughput", "infer", 128, "device")
SLOW = TimedMetric("throughput", "train", 128, "device")
COST = RoundCost(fixed=10.0, slice={FAST: 1.0, SLOW: 2.0})
USUAL = {FAST: 4, SLOW: 4}


def test_five_rows_have_three_minutes() -> None:
    assert budget.default_seconds(5) == 180.0


def test_as_many_rounds_as_have_the_usual_slices() -> None:
    assert COST.of(USUAL) == 22.0
    assert budget.rounds_left(COST, USUAL, 70.0, missing=1) == 3


def test_the_fewest_rounds_are_measured_whatever_is_left() -> None:
    assert budget.rounds_left(COST, USUAL, -5.0, missing=4) == 4
    assert budget.rounds_left(COST, USUAL, -5.0, missing=-1) <= 0


def test_a_fast_run_has_no_more_rounds_than_pay() -> None:
    assert budget.rounds_left(RoundCost(0.0, {FAST: 1e-6}), {FAST: 4}, 60.0, missing=-3, most=7) == 7


def test_what_is_left_of_a_round_goes_where_slices_vary_most() -> None:
    chosen = budget.slices_of_round(COST, 40.0, {FAST: 0.001, SLOW: 0.1})
    assert (chosen[FAST], chosen[SLOW]) == (FEWEST_SLICES, 14)
    assert COST.of(chosen) == 40.0
    assert budget.slices_of_round(COST, 40.0, {FAST: 0.1, SLOW: 0.001}) == {FAST: 24, SLOW: 3}


def test_equal_spreads_favour_the_cheaper_slice() -> None:
    chosen = budget.slices_of_round(COST, 40.0, {})
    assert chosen[FAST] > chosen[SLOW] > FEWEST_SLICES


@pytest.mark.parametrize(("seconds", "number"), [(0.0, FEWEST_SLICES), (1e6, MOST_SLICES)])
def test_a_round_has_neither_too_few_slices_nor_more_than_pay(seconds: float, number: int) -> None:
    assert set(budget.slices_of_round(COST, seconds, {}).values()) == {number}


def test_the_mean_cost_counts_a_metric_where_it_was_timed() -> None:
    mean = budget.mean_cost([COST, RoundCost(20.0, {FAST: 3.0})])
    assert (mean.fixed, mean.slice) == (15.0, {FAST: 2.0, SLOW: 2.0})

"""MSER-5 on series of which it is known whether and where they become steady."""

from __future__ import annotations

import numpy as np
import pytest

from bench.worker import steady_state


def test_too_few_steps_tell_nothing() -> None:
    assert steady_state.mser([1.0] * (steady_state.FEWEST - 1)).steady is None


@pytest.mark.parametrize("count", [10, 50, 99, 100, 1000])
def test_a_constant_series_is_steady_from_its_first_step(count: int) -> None:
    assert steady_state.mser([0.1] * count) == steady_state.Verdict(0, True)


@pytest.mark.parametrize(("slow", "count"), [(1, 20), (4, 20), (30, 100), (100, 1000)])
def test_slow_first_steps_are_cut_off_and_nothing_else(slow: int, count: int) -> None:
    verdict = steady_state.mser([1.0] * slow + [0.1] * (count - slow))
    assert verdict.steady
    assert slow <= verdict.warm_up < slow + steady_state.BATCH


@pytest.mark.parametrize("count", [20, 200, 1000])
def test_a_drift_is_never_steady(count: int) -> None:
    assert steady_state.mser(np.linspace(1.0, 2.0, count)).steady is False
    assert steady_state.mser(np.linspace(2.0, 1.0, count)).steady is False


@pytest.mark.parametrize("count", [20, 100, 400])
def test_a_series_still_warming_up_in_its_second_half_is_not_steady(count: int) -> None:
    assert steady_state.mser(1 + 20 * np.exp(-np.arange(count) / (0.4 * count))).steady is False


def test_noise_is_mostly_steady() -> None:
    rng = np.random.default_rng(5)
    verdicts = [steady_state.mser(1 + 0.05 * rng.standard_normal(200)).steady for _ in range(400)]
    assert np.mean(verdicts) > 0.7


def test_the_cut_removes_the_bias_of_an_exponential_warm_up() -> None:
    rng = np.random.default_rng(6)
    steps = 1 + 5 * np.exp(-np.arange(600) / 30) + 0.02 * rng.standard_normal(600)
    verdict = steady_state.mser(steps)
    assert verdict.steady
    assert abs(np.mean(steps[verdict.warm_up :]) - 1) < 0.01
    assert abs(np.mean(steps) - 1) > 0.2

"""The search for the highest rate, on a queue whose answer is known: M/D/1."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import brentq

from bench.analysis.load_search import MOST_PROBES, Late, RateSearch, count_late, requests_needed
from bench.values import Measured, Missing

SERVICE = 0.002
CAPACITY = 1 / SERVICE


def waits_less(time: float, rate: float, service: float = SERVICE) -> float:
    """P(W <= time) of M/D/1 (Erlang 1909; Crommelin 1932)."""
    busy = rate * service
    return (1 - busy) * sum(
        (rate * (k * service - time)) ** k / math.factorial(k) * math.exp(-rate * (k * service - time))
        for k in range(int(time / service) + 1)
    )


def highest_rate(bound: float, share: float = 0.99, service: float = SERVICE) -> float:
    """At which this share of the latencies of M/D/1 is within the bound."""
    return float(brentq(lambda rate: waits_less(bound - service, rate, service) - share, 1.0, 0.99 / service))


def latencies(rate: float, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Of a queue with random arrivals and one server of constant time."""
    arrivals = np.cumsum(rng.exponential(1 / rate, count))
    free, found = 0.0, np.empty(count)
    for i, arrival in enumerate(arrivals):
        free = max(free, arrival) + SERVICE
        found[i] = free - arrival
    return found


def search(bound: float, seed: int, capacity: float = CAPACITY, count: int = 3000) -> RateSearch:
    rng, searched = np.random.default_rng(seed), RateSearch(0.01, capacity)
    while (rate := searched.next_rate()) is not None:
        searched.probes.append((rate, count_late(latencies(rate, count, rng), bound)))
    return searched


@pytest.mark.parametrize("bound", [0.006, 0.010, 0.02])
def test_the_search_finds_the_capacity_of_a_known_queue(bound: float) -> None:
    want = highest_rate(bound)
    for seed in range(10):
        searched = search(bound, seed)
        found = searched.result
        assert isinstance(found, Measured)
        assert found.value == pytest.approx(want, rel=0.05), seed
        assert len(searched.probes) <= MOST_PROBES


def test_the_intervals_hold_the_true_rate_nearly_always() -> None:
    want = highest_rate(0.01)
    found = [result for seed in range(40) if isinstance(result := search(0.01, seed, count=2000).result, Measured)]
    held = sum(
        result.low is not None and result.high is not None and result.low <= want <= result.high for result in found
    )
    assert len(found) == 40
    assert held >= 32, "95% of one search; ending early makes it somewhat less"


@pytest.mark.parametrize("capacity", [CAPACITY / 5, CAPACITY * 5])
def test_a_wrong_capacity_only_takes_longer(capacity: float) -> None:
    found = search(0.01, 3, capacity).result
    assert isinstance(found, Measured)
    assert found.value == pytest.approx(highest_rate(0.01), rel=0.05)


def test_a_bound_below_the_service_time_holds_nowhere() -> None:
    searched = search(SERVICE / 2, 0)
    found = searched.result
    assert isinstance(found, Missing)
    assert "holds at no rate" in found.reason
    assert searched.bracket[0] is None


def test_a_bound_that_always_holds_says_so() -> None:
    searched = RateSearch(0.01, 100.0)
    while (rate := searched.next_rate()) is not None:
        searched.probes.append((rate, Late(0, 5000)))
    assert isinstance(searched.result, Missing)
    assert "no probe shows a rate at which it fails" in searched.result.reason


def test_late_requests_in_clusters_count_less() -> None:
    even, clustered = np.zeros(2000), np.zeros(2000)
    even[::100] = 1.0
    clustered[300:320] = 1.0
    apart, together = count_late(even, 0.5), count_late(clustered, 0.5)
    assert (apart.late, together.late) == (20, 20)
    assert apart.clustering == 1
    assert together.clustering > 10
    assert together.interval[1] > 2 * apart.interval[1]


@pytest.mark.parametrize(
    ("late", "verdict"), [(Late(0, 2000), "holds"), (Late(60, 2000), "fails"), (Late(18, 2000), "undecided")]
)
def test_what_holds_is_shown_by_an_interval(late: Late, verdict: str) -> None:
    assert late.verdict(0.01) == verdict


def test_a_percentile_needs_so_many_requests() -> None:
    assert requests_needed(99) == 2000
    assert requests_needed(90) == 200

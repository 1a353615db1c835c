"""What a test under load counts for, and the figures of a row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from worker_replies import result

from bench.analysis.load_search import Late
from bench.records.record import Figure
from bench.runner import load_record
from bench.runner.kept_rounds import KeptRounds
from bench.runner.load import TOO_SHORT, Load, LoadTest, of_probe
from bench.worker.protocol import Probed

GOOD = "Result is : VALID\n  Min duration satisfied : Yes\n  Min queries satisfied : Yes\n"
LOAD = Load(bound=0.010)


def probed(latencies: list[float], slips: list[float] | None = None, summary: str = GOOD) -> Probed:
    return Probed(
        latencies=tuple(latencies), slips=tuple(slips or [0.0] * len(latencies)), samples=len(latencies), batches=10,
        seconds=2.0, summary=summary,
    )  # fmt: skip


def test_late_requests_are_counted_against_the_bound() -> None:
    test = of_probe("server", 100.0, LOAD, probed([0.001] * 990 + [0.011] * 10))
    assert test.late is not None
    assert (test.late.late, test.late.requests) == (10, 1000)
    assert test.percentiles["50"] == 0.001
    assert test.achieved == 500
    assert of_probe("server", 100.0, Load(rates=(100.0,)), probed([0.001])).late is None, "no bound"


def test_offline_throughput_is_until_the_last_answer() -> None:
    assert of_probe("offline", None, LOAD, probed([0.5, 1.0])).achieved == 2.0


@pytest.mark.parametrize(
    ("slips", "invalid"), [([0.0] * 1000, False), ([0.0] * 980 + [0.002] * 20, True), ([0.0009] * 1000, False)]
)
def test_a_generator_that_fell_behind_makes_a_test_invalid(slips: list[float], invalid: bool) -> None:
    test = of_probe("server", 100.0, LOAD, probed([0.001] * 1000, slips))
    assert test.invalid.startswith("the generator fell behind") is invalid
    assert (test.verdict(LOAD.allowed) is None) is invalid


def test_loadgens_own_checks_count() -> None:
    assert of_probe("offline", None, LOAD, probed([1.0], summary="Min duration satisfied : NO")).invalid == TOO_SHORT


def searched(rate: float, late: int, invalid: str = "") -> LoadTest:
    test = of_probe("server", rate, LOAD, probed([0.001]))
    return replace(test, late=Late(late, 4000), searched=True, invalid=invalid)


def figure(tests: list[LoadTest], name: str = "server_rate") -> Figure:
    known = result()
    known.rounds = KeptRounds({0: replace(known.rounds[0], metrics=[], load=tests)})
    return next(each for each in load_record.figures(known, LOAD) if each.name == name)


def fallen_behind(test: LoadTest) -> LoadTest:
    return replace(test, invalid="the generator fell behind: late")


AROUND = [searched(rate, late) for rate, late in ((80, 4), (90, 15), (95, 28), (105, 60), (110, 90))]


def test_the_rate_is_where_the_curve_crosses_what_is_allowed() -> None:
    value = figure(AROUND).value
    assert value is not None
    assert 95 < value < 105, "1% of 4,000 are 40"


def test_a_rate_that_the_generator_could_not_issue_is_not_told() -> None:
    missing = figure([fallen_behind(test) if (test.rate or 0) >= 90 else test for test in AROUND])
    assert missing.value is None
    text = "the generator fell behind: late, at 90 requests/s: the row bears 80 requests/s, and may bear more"
    assert missing.reason == text
    above = [fallen_behind(test) if test.rate == 110 else test for test in AROUND]
    assert figure(above).value is not None, "beyond the rate that was found it is no matter"


def test_a_generator_that_was_held_up_once_tells_nothing_of_a_rate() -> None:
    held_up = replace(fallen_behind(searched(85, 3000)), reasons=())
    assert figure([held_up, *AROUND]).value == figure(AROUND).value, "it issued higher rates in time"


def test_what_was_made_again_does_not_count() -> None:
    disturbed = replace(searched(85, 3000), searched=False, reasons=("others",))
    assert figure([disturbed, *AROUND]).value == figure(AROUND).value


def test_a_scenario_that_was_not_tested_says_so() -> None:
    missing: Any = figure(AROUND, "offline_throughput")
    assert missing.value is None
    assert missing.reason == "no offline test has ended"

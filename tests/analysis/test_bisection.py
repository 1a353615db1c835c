"""Bisection over releases: judged by a made-up judge whose truth is known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.analysis import bisection
from bench.analysis.bisection import Bisection, Step
from bench.errors import UsageError
from reports.content import verdicts

VERSIONS = [f"1.{i}.0" for i in range(9)]


class Truth:
    """Releases from ``first_bad`` on are bad, those of ``broken`` cannot be judged."""

    def __init__(self, first_bad: int, broken: frozenset[int] = frozenset(), dies_after: int = 1000) -> None:
        self.first_bad, self.broken, self.left, self.requested = first_bad, broken, dies_after, list[int]()

    def __call__(self, version: str) -> Step:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        number = VERSIONS.index(version)
        self.requested.append(number)
        outcome = "skipped" if number in self.broken else "bad" if number >= self.first_bad else "good"
        return Step(version=version, outcome=outcome, evidence="told")


def begun() -> Bisection:
    return Bisection(package="torch", metric="throughput", versions=VERSIONS)


@given(first_bad=st.integers(1, 8))
def test_the_first_bad_release_in_few_steps(first_bad: int) -> None:
    truth = Truth(first_bad)
    found = bisection.search(begun(), truth, lambda now: None)
    assert found.suspects == VERSIONS[first_bad - 1 : first_bad + 1]
    assert len(truth.requested) <= 1 + math.ceil(math.log2(8)) + 1
    assert verdicts.conclusion(found) == f"first bad release: torch 1.{first_bad}.0 (good: 1.{first_bad - 1}.0)"


def test_where_the_newest_is_not_bad_there_is_nothing_to_search_for() -> None:
    truth = Truth(99)
    found = bisection.search(begun(), truth, lambda now: None)
    assert truth.requested == [8]
    assert "there is nothing to search for" in verdicts.conclusion(found)


@given(first_bad=st.integers(1, 7), broken=st.frozensets(st.integers(1, 7), max_size=3))
def test_releases_that_cannot_be_judged_are_skipped(first_bad: int, broken: frozenset[int]) -> None:
    truth = Truth(first_bad, broken)
    found = bisection.search(begun(), truth, lambda now: None)
    assert VERSIONS[first_bad] in found.suspects[1:], "the culprit is among those that are left"
    assert len(truth.requested) == len(set(truth.requested)), "none is tried twice"
    judged = [version for version in found.suspects[1:-1] if VERSIONS.index(version) not in broken]
    assert judged == [], "all that could be judged were"


def test_a_newest_release_that_cannot_be_judged_is_said_and_tried_again() -> None:
    found = bisection.search(begun(), Truth(3, broken=frozenset({8})), lambda now: None)
    assert "torch 1.8.0 could not be judged (told)" in verdicts.conclusion(found)
    again = Truth(3)
    assert bisection.search(found, again, lambda now: None).suspects == VERSIONS[2:4]
    assert again.requested[0] == 8


def test_an_interrupted_search_goes_on_where_it_was() -> None:
    kept: list[Bisection] = []
    with pytest.raises(KeyboardInterrupt):
        bisection.search(begun(), Truth(3, dies_after=2), kept.append)
    again = Truth(3)
    found = bisection.search(Bisection.model_validate_json(kept[-1].model_dump_json()), again, kept.append)
    assert found.suspects == VERSIONS[2:4]
    assert not set(again.requested) & {VERSIONS.index(step.version) for step in kept[1].steps}


def test_candidates_are_the_releases_between() -> None:
    released = ["2.10.0", "2.9.0", "2.11.0", "3.0.0"]
    assert bisection.candidates(released, "2.9.0", "2.11.0") == ["2.9.0", "2.10.0", "2.11.0"]
    for good, bad in (("2.11.0", "2.9.0"), ("2.9.0", "2.9.0"), ("2.9.0", "2.9.5"), ("x", "1")):
        with pytest.raises(UsageError):
            bisection.candidates(released, good, bad)

"""Processes that fall into two groups."""

from __future__ import annotations

from typing import Any

import pytest
from worker_replies import CONTEXT, result

from bench.analysis import groups
from bench.records.record import Record
from bench.runner.record_builder import to_record

BIMODAL = [100.0, 102.0, 131.0, 101.0, 130.0, 132.0]


def with_speeds(name: str, values: list[float], faults: list[float]) -> Record:
    """A record whose device throughput of training has these samples, with so many page faults per step."""
    plain = to_record(result(), CONTEXT).model_dump()
    figure: dict[str, Any] = next(
        f for f in plain["figures"] if (f["name"], f["task"], f["boundary"]) == ("throughput", "train", "device")
    )
    template = figure["samples"][0]
    figure["samples"] = [
        template
        | {"round": number, "value": value}
        | {
            "slices": [
                piece | {"noise": {"minor_faults": count * piece["images"] / figure["batch_size"], "major_faults": 0}}
                for piece in template["slices"]
            ]
        }
        for number, (value, count) in enumerate(zip(values, faults, strict=True))
    ]
    plain["job"] = {**plain["job"], "backend": name}
    return Record.model_validate(plain)


def found(values: list[float], faults: list[float], peers: list[float]) -> list[groups.Groups]:
    records = [with_speeds("one", values, faults), with_speeds("peer", peers, [0.0] * len(peers))]
    return groups.of_row(records[0], records)


def test_two_groups_are_named_with_their_rounds_and_page_faults() -> None:
    (state,) = found(BIMODAL, [9000, 9100, 3000, 9000, 3100, 3000], [50.0] * 6)
    assert (state.slow.rounds, state.fast.rounds) == ((0, 1, 3), (2, 4, 5))
    assert state.slow.value == pytest.approx(101.0, rel=0.01)
    assert state.by_page_faults


def test_groups_without_more_page_faults_have_no_known_cause() -> None:
    (state,) = found(BIMODAL, [3000.0] * 6, [50.0] * 6)
    assert not state.by_page_faults


def test_a_slow_period_of_the_machine_makes_no_groups() -> None:
    assert found(BIMODAL, [0.0] * 6, [value / 2 for value in BIMODAL]) == []


@pytest.mark.parametrize(
    "values",
    [
        [100.0, 101.0, 102.0, 103.0, 104.0, 150.0],  # one process that is off
        [100.0, 110.0, 120.0, 130.0, 140.0, 150.0],  # no gap
        [100.0, 100.1, 100.2, 105.0, 105.1, 105.2],  # too near
        [100.0, 130.0, 131.0],  # too few
    ],
)
def test_no_groups(values: list[float]) -> None:
    assert groups.split_at_gap(values) is None

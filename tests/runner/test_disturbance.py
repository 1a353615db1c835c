"""A row's disturbance from the readings of its slices, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bench.records.record import Figure, Sample, Slice
from bench.runner import disturbance

STEAL = "the hypervisor took {}% of its cores (steal)"


def piece(disturbed: bool | None = False, seconds: float = 0.1, reason: str = "", **noise: Any) -> Slice:
    return Slice(
        seconds=seconds, images=10, disturbed=disturbed, reasons=[reason] if reason else [], noise=noise
    )  # fmt: skip


def figure(*samples: list[Slice], name: str = "throughput") -> Figure:
    made = [Sample(round=i, value=100.0, slices=slices) for i, slices in enumerate(samples)]
    return Figure(name=name, task="infer", batch_size=10, boundary="device", value=100.0, unit="images/s", samples=made)


def test_shares_are_over_all_slices() -> None:
    readings = {"ran": 0.06, "waited": 0.02, "pressure": 0.05, "switches": 7, "minor_faults": 30, "major_faults": 0}
    slices = [piece(steal=0.02, others=0.0, **readings), piece(steal=0.0, others=0.04, **readings)]
    summary = disturbance.summarize([figure(slices)], [0, 1])
    assert (summary.steal, summary.others) == (pytest.approx(0.02 / 0.4), pytest.approx(0.04 / 0.4))
    assert summary.waited == pytest.approx(0.25)
    assert summary.pressure == pytest.approx(0.5)
    assert (summary.switches, summary.minor_faults) == (pytest.approx(70), pytest.approx(300))
    assert (summary.disturbed, summary.slices, summary.marked) == (False, 2, 0)


def test_a_row_stays_disturbed_if_more_than_half_of_a_process_slices_are() -> None:
    half = [piece(True, reason=STEAL.format(30)), piece()]
    assert disturbance.summarize([figure(half)], [0]).disturbed is False
    most = [
        piece(True, reason="3 page faults"),
        piece(True, reason=STEAL.format(30)),
        piece(True, reason=STEAL.format(12)),
    ]
    summary = disturbance.summarize([figure(half, [*most, piece()])], [0])
    assert summary.disturbed is True
    assert summary.reason == STEAL.format(30) + " (in infer throughput device, round 2)"
    assert summary.marked == 4


def test_without_readings_the_values_are_null_with_a_reason() -> None:
    summary = disturbance.summarize([figure([piece(None), piece(None)])], None)
    assert summary.disturbed is None
    assert summary.reason.startswith("not visible here")
    assert (summary.steal, summary.others, summary.frequency) == (None, None, None)
    assert disturbance.summarize([], None).reason == "nothing was timed"


def test_clocks_are_a_range() -> None:
    summary = disturbance.summarize([figure([piece(frequency=2000.0), piece(frequency=3000.0)])], [0])
    assert summary.frequency == (2000.0, 3000.0)


def test_a_value_uses_the_undisturbed_slices_and_all_slices_are_kept() -> None:
    sample = Sample(round=0, value=1.0, slices=[piece(True), piece(), piece(None)])
    assert [s.disturbed for s in sample.used] == [False, None]
    assert Sample(round=0, value=1.0, slices=[piece(True)]).used == [piece(True)], "all slices are disturbed"


def test_page_faults_per_step() -> None:
    slices = [piece(minor_faults=300, major_faults=0), piece(minor_faults=100, major_faults=2)]
    assert figure(slices).faults_per_step == pytest.approx(201)  # 10 images are a step of batch 10
    assert figure([piece()]).faults_per_step is None

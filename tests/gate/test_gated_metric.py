"""What a pair of live workers comes to: harm is positive where the present is worse, whatever the direction."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from worker_replies import result

from bench.gate.gated_metric import GatedMetric, as_change, needs, read_pair
from bench.records.metrics import gated
from bench.runner.interleaving import MeasuredRound
from bench.worker.protocol import TimedMetric


def target(gate: str) -> GatedMetric:
    place = {"throughput": ("infer", 128, "device"), "latency": ("infer", 1, "device"), "memory": ("infer", None, None)}
    return GatedMetric("row", gated()[gate].name, *place[gate])


def outcomes() -> tuple[MeasuredRound, MeasuredRound]:
    """Base, and a present that is half as fast and takes twice the memory."""
    base, present = result(speed=1.0).rounds[0], result(speed=0.5).rounds[0]
    peaks = {task: 2 * peak for task, peak in present.finished.peak_rss.items()}
    return base, replace(present, finished=replace(present.finished, peak_rss=peaks))


@pytest.mark.parametrize(("gate", "change"), [("throughput", -0.5), ("latency", 1.0), ("memory", 1.0)])
def test_a_worse_present_is_a_positive_harm(gate: str, change: float) -> None:
    base, present = outcomes()
    pair = read_pair(target(gate), 3, True, base, present)
    assert (pair.number, pair.base_first, pair.counts) == (3, True, True)
    assert pair.harm == pytest.approx(math.log(2))
    assert pair.present / pair.base == pytest.approx(1 + change)
    assert as_change(target(gate), pair.harm) == pytest.approx(change)
    assert read_pair(target(gate), 3, True, present, base).harm == pytest.approx(-math.log(2))


def test_what_has_to_be_timed() -> None:
    timed = [
        TimedMetric(name, "infer", size, boundary)
        for name, size in (("throughput", 128), ("latency", 1))
        for boundary in ("end-to-end", "device")
    ]
    of = {gate: [figure for figure in timed if needs(target(gate), figure)] for gate in ("throughput", "latency")}
    assert of == {"throughput": [timed[1]], "latency": [timed[3]]}
    assert [f for f in timed if needs(target("memory"), f)] == timed[:2], "memory needs any slice of its task"


def test_accuracy_is_a_difference() -> None:
    accuracy = GatedMetric("row", "accuracy", None, None, None)
    assert accuracy.criterion == "accuracy"
    assert as_change(accuracy, 0.01) == -0.01
    assert str(as_change(accuracy, 0.0)) == "0.0"

"""When page faults make another allocator worth a try, and what comes of the trial."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worker_replies import CONTEXT, REQUEST, result

from bench.machine import allocators
from bench.records.record import Record
from bench.runner import page_faults
from bench.runner.planner import timed_metrics
from bench.runner.record_builder import RowResult, to_record

FIGURES = tuple(timed_metrics(REQUEST))
TRAINING = next(f for f in FIGURES if (f.task, f.name, f.boundary) == ("train", "throughput", "device"))


def with_faults(per_step: int, status: str = "ok", allocator: str = "system") -> Record:
    """Steps of 128 images in 64 ms, of which those of device-resident training fault ``per_step`` times."""
    made = result()
    for measured in made.rounds:
        for readings in measured.metrics:
            if readings.metric.name == "throughput":
                (reading,) = readings.slices
                faults = 10 * per_step if readings.metric == TRAINING else 0
                readings.slices[0] = replace(
                    reading,
                    timed=replace(reading.timed, seconds=0.64, images=1280),
                    noise=replace(reading.noise, minor_faults=faults),
                )
    made.row = replace(made.row, job=replace(made.row.job, allocator=allocator))
    return to_record(made, CONTEXT).model_copy(update={"status": status})


@pytest.fixture(autouse=True)
def glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocators, "is_glibc", lambda: True)


def test_the_figure_that_suffers_most_is_tried() -> None:
    enough = int(page_faults.WORTH_A_TRY * 0.064 / page_faults.FAULT_SECONDS)
    assert page_faults.worst_metric(with_faults(enough + 10), FIGURES) == TRAINING
    assert page_faults.worst_metric(with_faults(enough - 10), FIGURES) is None


def test_what_cannot_gain_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert page_faults.worst_metric(with_faults(50_000, status="failed"), FIGURES) is None
    assert page_faults.worst_metric(with_faults(50_000, allocator="arena"), FIGURES) is None
    monkeypatch.setattr(allocators, "is_glibc", lambda: False)
    assert page_faults.worst_metric(with_faults(50_000), FIGURES) is None


def test_the_trial_is_a_ratio_with_its_interval() -> None:
    made: RowResult = result()
    made.arena.append((TRAINING, [1.2, 1.25, 1.3]))
    (ratio,) = to_record(made, CONTEXT).arena
    assert (ratio.name, ratio.task, ratio.boundary, ratio.n) == ("throughput", "train", "device", 3)
    assert ratio.value == pytest.approx((1.2 * 1.25 * 1.3) ** (1 / 3))
    assert ratio.low < ratio.value < ratio.high
    assert ratio.against == "--allocator system"


def test_a_trial_that_failed_is_in_the_record() -> None:
    made: RowResult = result()
    made.arena_error = "crashed: signal SIGSEGV"
    assert to_record(made, CONTEXT).settings["arena_trial"] == "crashed: signal SIGSEGV"

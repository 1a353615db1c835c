"""When page faults lead to a trial of another allocator, and how the trial is recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worker_replies import CONTEXT, REQUEST, result

from bench.machine import allocators
from bench.records.record import Record
from bench.runner import page_faults
from bench.runner.planner import timed_metrics
from bench.runner.record_builder import to_record
from bench.runner.row_result import RowResult

METRICS = tuple(timed_metrics(REQUEST))
TRAINING = next(m for m in METRICS if (m.task, m.name, m.boundary) == ("train", "throughput", "device"))

FAULTY = (TRAINING.name, TRAINING.task, TRAINING.batch_size, TRAINING.boundary)


def with_faults(per_step: int, status: str = "ok", allocator: str = "system") -> Record:
    """A record with steps of 128 images in 64 ms; device-resident training has ``per_step`` faults per step."""
    measured_row = result()
    for number, measured in list(measured_row.rounds.items()):
        for readings in measured.metrics:
            if readings.metric.name == "throughput":
                (reading,) = readings.slices
                faults = 10 * per_step if readings.metric == TRAINING else 0
                readings.slices[0] = replace(
                    reading,
                    timed=replace(reading.timed, seconds=0.64, images=1280),
                    noise=replace(reading.noise, minor_faults=faults),
                )
        measured_row.rounds.keep(number, measured)
    measured_row.row = replace(measured_row.row, job=replace(measured_row.row.job, allocator=allocator))
    return to_record(measured_row, CONTEXT).model_copy(update={"status": status})


@pytest.fixture(autouse=True)
def glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocators, "is_glibc", lambda: True)


def test_the_metric_with_most_faults_is_tried() -> None:
    enough = int(page_faults.WORTH_A_TRY * 0.064 / page_faults.FAULT_SECONDS)
    assert page_faults.worst_metric(with_faults(enough + 10), METRICS) == TRAINING
    assert page_faults.worst_metric(with_faults(enough - 10), METRICS) is None


def test_rows_that_cannot_improve_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert page_faults.worst_metric(with_faults(50_000, status="failed"), METRICS) is None
    assert page_faults.worst_metric(with_faults(50_000, allocator="arena"), METRICS) is None
    monkeypatch.setattr(allocators, "is_glibc", lambda: False)
    assert page_faults.worst_metric(with_faults(50_000), METRICS) is None


def test_the_trial_is_a_ratio_with_its_interval() -> None:
    with_trial: RowResult = result()
    with_trial.arena.append((TRAINING, [1.2, 1.25, 1.3]))
    (ratio,) = to_record(with_trial, CONTEXT).arena
    assert (ratio.name, ratio.task, ratio.boundary, ratio.n) == ("throughput", "train", "device", 3)
    assert ratio.value == pytest.approx((1.2 * 1.25 * 1.3) ** (1 / 3))
    assert ratio.low < ratio.value < ratio.high
    assert ratio.against == "--allocator system"


def test_a_trial_that_failed_is_in_the_record() -> None:
    with_trial: RowResult = result()
    with_trial.arena_error = "crashed: signal SIGSEGV"
    assert to_record(with_trial, CONTEXT).settings["arena_trial"] == "crashed: signal SIGSEGV"


def test_the_faults_of_a_loader_are_not_the_row_s() -> None:
    pipeline = replace(TRAINING, task="input", name="input_throughput")
    record = with_faults(100_000)
    figures = [
        figure.model_copy(update={"name": "input_throughput", "task": "input"}) if figure.key == FAULTY else figure
        for figure in record.figures
    ]
    spoiled = record.model_copy(update={"figures": figures})
    assert page_faults.worst_metric(record, [TRAINING]) == TRAINING
    assert page_faults.worst_metric(spoiled, [pipeline]) is None

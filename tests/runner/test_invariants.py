"""Self-checks: a correct record passes; each violation is named and fails its row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from worker_replies import CONTEXT, finished, result, spoil_round

from bench.records.record import Record
from bench.runner.invariants import CHECKS, violations
from bench.runner.record_builder import to_record
from bench.runner.row_result import RowResult


def test_a_correct_record_passes() -> None:
    record = to_record(result(), CONTEXT)
    assert record.status == "ok"
    assert violations(record) == []


def pinned(broken: RowResult, cpus: list[int]) -> None:
    """The job requests these CPUs; the worker reports that it ran on two."""
    broken.row = replace(broken.row, job=replace(broken.row.job, cpus=tuple(cpus)))
    spoil_round(broken, 2, finished=finished(settings={"cpus": [0, 1]}))


BREAK: dict[str, Callable[[RowResult], object]] = {
    "memory": lambda r: spoil_round(r, 1, finished=finished(rss=300_000_000)),
    "timed": lambda r: spoil_round(r, 2, finished=finished(phases={"timed": 3.0})),
    "life": lambda r: spoil_round(r, 0, finished=finished(life=20.0)),
    "threads": lambda r: spoil_round(r, 2, finished=finished(settings={"threads": 1})),
    "cpus": lambda r: pinned(r, [1]),
    "allocator": lambda r: spoil_round(r, 2, finished=finished(settings={"allocator": "arena"})),
}


@pytest.mark.parametrize("name", BREAK)
def test_worker_reports_are_checked(name: str) -> None:
    broken = result()
    BREAK[name](broken)
    record = to_record(broken, CONTEXT)
    assert record.status == "failed"
    assert record.error.startswith(f"self-check {name}: ")
    assert record.figure("throughput", "train", "device").value is not None, "the metrics stay in the record"
    assert [text.split(":")[0] for text in violations(record)] == [name]


def spoiled(name: str, spoil: Callable[[dict[str, Any]], object]) -> Record:
    """A correct record with one metric changed afterwards."""
    plain = to_record(result(), CONTEXT).model_dump()
    spoil(next(figure for figure in plain["figures"] if figure["name"] == name))
    return Record.model_validate(plain)


def test_a_throughput_that_is_not_images_over_time() -> None:
    record = spoiled("throughput", lambda figure: figure["samples"][1].update(value=200_000.0))
    assert violations(record) == ["throughput: 200000 images/s is not 1000 images in 0.5 s"]


def test_percentiles_out_of_order() -> None:
    record = spoiled("latency_p90", lambda figure: figure["samples"][0].update(value=1e-9))
    (text,) = violations(record)
    assert text.startswith("percentiles: round 0")


HONEST = {"wall": 0.1005, "elapsed": 0.1, "cpu": 0.101, "after": 0.001, "strayed": 0}
HONEST |= {"read": 1e-5, "ready": 1e-5, "step": 0.01}
"""What the kernel and both clocks say of an honest slice of 0.1 s on one thread."""

BY_THE_KERNEL = {
    "clock": [{"elapsed": 0.08}, {"elapsed": 0.11}],
    "cpu_time": [{"cpu": 0.35}],
    "affinity": [{"strayed": 1}],
    "asynchronous": [{"after": 0.35}],
    "late": [{"read": 0.02, "step": 0.01}, {"ready": 0.02, "step": 0.01}],
    "prefetched": [{"halves": 1.5}],
}
"""By check: readings of a slice that break it, and no other."""


def with_readings(readings: dict[str, float]) -> Record:
    """A correct record whose slices of one figure have these readings."""

    def spoil(figure: dict[str, Any]) -> None:
        for sample in figure["samples"]:
            for piece in sample["slices"]:
                piece["noise"] = readings

    return spoiled("throughput", spoil)


def test_an_honest_slice_passes() -> None:
    assert violations(with_readings(HONEST)) == []


@pytest.mark.parametrize(("name", "changes"), [(name, each) for name, all_ in BY_THE_KERNEL.items() for each in all_])
def test_what_the_kernel_says_is_held_against_the_row(name: str, changes: dict[str, float]) -> None:
    assert [text.split(":")[0] for text in violations(with_readings(HONEST | changes))] == [name]


@pytest.mark.parametrize(("boundary", "broken"), [("end-to-end", []), ("device", ["cpu_time"])])
def test_end_to_end_a_thread_may_bring_the_next_inputs_meanwhile(boundary: str, broken: list[str]) -> None:
    """JAX's training on one thread was refused by mistake."""

    def spoil(figure: dict[str, Any]) -> None:
        figure["boundary"] = boundary
        for piece in (piece for sample in figure["samples"] for piece in sample["slices"]):
            piece["noise"] = HONEST | {"cpu": 0.245}

    assert [text.split(":")[0] for text in violations(spoiled("throughput", spoil))] == broken


@pytest.mark.parametrize(("workers", "broken"), [(None, ["cpu_time"]), (0, ["cpu_time"]), (1, [])])
def test_the_workers_of_an_input_pipeline_have_cpu_time_of_their_own(workers: int | None, broken: list[str]) -> None:
    plain = with_readings(HONEST | {"cpu": 0.30}).model_dump()
    plain["job"]["input_workers"] = workers
    assert [text.split(":")[0] for text in violations(Record.model_validate(plain))] == broken


def test_a_loader_goes_on_with_what_was_asked_for_ahead() -> None:
    plain = with_readings(HONEST | {"after": 0.35}).model_dump()
    plain["job"]["input_workers"] = 2
    assert violations(Record.model_validate(plain)) == []


@pytest.mark.parametrize(("pace", "breaks"), [(0.99, False), (0.75, True), (1.1, True)])
def test_on_a_busy_machine_a_clock_is_compared_over_a_worker_s_life(pace: float, breaks: bool) -> None:
    """There the parent, too, waits for its core in every slice."""
    plain = with_readings(HONEST | {"elapsed": 0.08}).model_dump()
    for sample in (sample for figure in plain["figures"] for sample in figure["samples"]):
        for piece in sample["slices"]:
            piece |= {"disturbed": True, "reasons": ["others"]}
    plain["phases"][-1]["clock_pace"] = pace
    assert bool(violations(Record.model_validate(plain))) is breaks


def test_a_calm_slice_among_busy_ones_does_not_make_the_machine_quiet() -> None:
    """Found on a machine with other work: 47 of 48 slices were marked, and the one left lagged by 6 ms."""

    def spoil(figure: dict[str, Any]) -> None:
        for sample in figure["samples"]:
            for number, piece in enumerate(sample["slices"]):
                piece["noise"] = HONEST | {"wall": 0.067, "elapsed": 0.061, "cpu": 0.06}
                if number or sample["round"]:
                    piece |= {"disturbed": True, "reasons": ["others"]}

    assert violations(spoiled("throughput", spoil)) == []


def test_one_odd_slice_of_many_breaks_nothing() -> None:
    """A parent that was kept from its core for a moment, a thread that slept late."""

    def spoil(figure: dict[str, Any]) -> None:
        for sample in figure["samples"]:
            for number, piece in enumerate(sample["slices"]):
                odd = {"wall": 0.2, "after": 0.05, "cpu": 0.4}
                piece["noise"] = HONEST | odd if number == 0 and sample["round"] == 0 else HONEST

    assert violations(spoiled("throughput", spoil)) == []


def test_every_check_is_tried_here() -> None:
    assert set(CHECKS) == {*BREAK, *BY_THE_KERNEL, "throughput", "percentiles"}


def test_a_loader_that_a_busy_machine_slowed_down_in_some_slices_is_not_accused() -> None:
    def spoil(figure: dict[str, Any]) -> None:
        for number, piece in enumerate(piece for sample in figure["samples"] for piece in sample["slices"]):
            piece["noise"] = HONEST | {"halves": 0.7 if number % 3 == 0 else 1.6}

    assert violations(spoiled("throughput", spoil)) == []

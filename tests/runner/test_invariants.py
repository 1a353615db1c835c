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


def test_every_check_is_tried_here() -> None:
    assert set(CHECKS) == {*BREAK, "throughput", "percentiles"}

"""The roofline: the best kernels of a run are the roof, and no row is above it."""

from __future__ import annotations

from typing import Any

import pytest
from builders import figure, row, run

from bench.analysis.roofs import attained, with_roofs
from bench.records.record import Record
from reports.content import roofs, tables
from reports.content.notes import Notes
from reports.content.plots import run_sections

FLOPS, IO, PARAMETERS = 1e6, 4000.0, 1000.0
FAST = {"product": 100e9, "triad": 8e9, "cached_triad": 50e9}
QUOTA = {"threads": 3, "cpu_quota": 1.5}
SLOW = {"product": 60e9, "triad": 10e9, "cached_triad": 20e9}


def timed(backend: str, rate: float, task: str = "infer", job: Any = None, kernels: Any = None) -> Record:
    work = [figure("flops", [FLOPS]), figure("io_bytes", [IO]), figure("parameters", [PARAMETERS])]
    speed = figure("throughput", [rate], task=task, batch_size=10, boundary="device")
    return row(backend, [speed, *work], job, kernels=kernels or {})


def test_the_roof_is_the_best_of_all_frameworks_of_a_kind() -> None:
    fast, slow, other = with_roofs(
        [
            timed("a", 1e4, kernels=FAST),
            timed("b", 1e4, kernels=SLOW),
            timed("c", 1e4, job={"threads": 2}, kernels=SLOW),
        ]
    )
    assert fast.roof == slow.roof
    assert fast.roof is not None
    assert (fast.roof.product, fast.roof.triad) == (100e9, 10e9)
    assert fast.roof.by == {"product": fast.id, "triad": slow.id, "cached_triad": fast.id}
    assert other.roof is not None
    assert other.roof.product == 60e9, "of two threads"


def test_the_share_is_of_what_this_work_allows() -> None:
    (record,) = with_roofs([timed("a", 5e4, kernels=FAST)])
    (found,) = attained(record)
    assert found.flops == pytest.approx(5e10)
    of_image = IO + 4 * PARAMETERS / 10
    assert found.bytes == pytest.approx(5e4 * of_image)
    assert found.intensity == pytest.approx(FLOPS / of_image)
    assert found.share == pytest.approx(0.5), "many FLOPs per byte: the product is its roof"
    (starved,) = with_roofs([timed("a", 5e4, kernels=FAST | {"cached_triad": 1e8})])
    assert attained(starved)[0].share == pytest.approx(5e4 * of_image / 1e8)


def test_a_training_step_is_three_times_an_inference() -> None:
    (record,) = with_roofs([timed("a", 1e4, task="train", kernels=FAST)])
    assert attained(record)[0].flops == pytest.approx(3e10)


@pytest.mark.parametrize(("task", "rate"), [("infer", 1.2e5), ("train", 6e4)])
def test_a_row_above_the_roof_fails(task: str, rate: float) -> None:
    (over,) = with_roofs([timed("a", rate, task, kernels=FAST)])
    assert over.status == "failed"
    assert over.error is not None
    assert over.error.startswith("self-check roof: 1.2e+11 FLOP/s")
    (under,) = with_roofs([timed("a", rate * 0.8, task, kernels=FAST)])
    assert under.status == "ok"


def test_a_roof_of_slower_libraries_accuses_nobody() -> None:
    """MKL multiplies at half of what ONNX Runtime reaches on processors that are not Intel's."""
    rows = [timed("slow", 2e4, kernels=SLOW), timed("fast", 1e5), timed("other", 3e4)]
    slow, fast, other = with_roofs(rows)
    assert [record.status for record in (slow, fast, other)] == ["ok"] * 3
    assert [len(attained(record)) for record in (slow, fast, other)] == [1, 0, 1]
    assert roofs.lines([slow, fast, other]) == [
        f"machine's limit not measured: {fast.id}: its own framework does not tell it, and it is above what the others"
        " reach"
    ]
    (_, told) = with_roofs([rows[0], timed("fast", 1e5, kernels={"product": 80e9})])
    assert told.status == "failed", "its own product says that it cannot be"
    (_, convolved) = with_roofs([rows[0], timed("fast", 1e5, kernels={"product": 80e9, "convolution": 120e9})])
    assert convolved.status == "ok"
    assert convolved.roof is not None
    assert (convolved.roof.product, convolved.roof.by["product"]) == (120e9, convolved.id)
    (_, on_gpu) = with_roofs(
        [timed(each, 1e5, job={"device": "cuda:0"}, kernels=k) for each, k in (("a", SLOW), ("b", {}))]
    )
    assert on_gpu.status == "failed", "all frameworks have the same library there"


def test_a_row_without_a_limit_says_why() -> None:
    both = with_roofs(
        [timed("a", 1e4, kernels=FAST), timed("judge", 1e3, job={"precision": "fp64"}), timed("b", 1e3, job=QUOTA)]
    )
    assert roofs.lines(both) == [
        "machine's limit not measured: judge/cpu/fp64/usual: no framework of the run tells it in fp64",
        "machine's limit not measured: b/cpu/fp32/usual: a quota of CPU time hides it",
    ]


def test_without_kernels_there_is_no_roof_and_no_table() -> None:
    (record,) = with_roofs([timed("a", 1e9)])
    assert (record.status, record.roof, attained(record)) == ("ok", None, [])
    assert roofs.tables(["a"], [record]) == []


def test_tables_and_the_page_show_it() -> None:
    shown = run(*with_roofs([timed("a", 5e4, kernels=FAST), timed("b", 2e4)]))
    (table,) = [each for each in tables.build(shown, Notes()) if each.title.startswith("Distance")]
    assert [cells[:5] for cells in table.rows] == [
        ["a", "inference, batch 10", "50", "0.22", "50%"],
        ["b", "inference, batch 10", "20", "0.088", "20%"],
    ]
    (section,) = [each for each in run_sections(shown) if each.key == "roofline"]
    (plot,) = section.plots
    assert plot.alternative == ("Roofline, cpu, fp32, 1 thread: of 100 GFLOP/s and 8 GB/s; a infer 50%; b infer 20%.")

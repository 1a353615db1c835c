"""From workers' answers to figures and ratios, with numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.job import Data, Job
from bench.layout import _figures
from bench.models import MODELS
from bench.plan import Plan, Request, Row
from bench.ratios import with_ratios
from bench.summary import Context, RowResult, to_record
from bench.workloads import RECIPES, Workload

REQUEST = Request(("all",), Workload(MODELS["article-keras"], "digits", RECIPES["article-keras"]))
CONTEXT = Context({"gpus": []}, Data(name="digits", sha256="0" * 64, train=10, test=5), None, "2026-01-01T00:00:00")
QUIET = {"steal": 0.0, "others": 0.01, "waited": 0.0, "ran": 0.9, "switches": 3, "minor_faults": 20, "major_faults": 0}
CERTIFICATE = {
    "checks": [{"name": "logits", "value": 1e-7, "tolerance": 1e-6, "passed": True, "note": "", "details": {}}],
    "phases": {},
    "life": 1.0,
    "settings": {"threads": 2},
    "versions": {},
}


def row(name: str, tasks: frozenset[str] = frozenset({"train", "infer", "fit", "export"})) -> Row:
    job = Job(backend=name, mode="eager", model="article-keras", dataset="digits", recipe="article-keras", threads=2)
    return Row(job, name, tasks, "python", None)


def result(name: str = "fast", speed: float = 1.0, **changes: Any) -> RowResult:
    """Three rounds of a row; throughput 1000, 2000, 4000 images/s times ``speed``."""
    figures = tuple(_figures(REQUEST))
    the_row = replace(row(name), **changes)
    rounds = []
    for number in range(3):
        slices = []
        for figure in figures:
            if figure.task in the_row.tasks:
                seconds = 0.5 / speed
                raw: dict[str, Any] = {"seconds": seconds, "images": 500 * 2**number, "latencies": None}
                if figure.name == "latency":
                    raw = {"seconds": 1.0, "images": 100, "latencies": [i / 1000 / speed for i in range(1, 101)]}
                told = {"turn": 0, "noise": dict(QUIET), "reasons": []}
                slices.append((figure, {"warm_up": {"steps": 12, "steady": True}, "slices": [raw | told]}))
        finished = {
            "peak_rss": {"infer": 100e6, "train": 200e6},
            "phases": {"timed": 30.0},
            "life": 40.0,
            "rss": 90_000_000,
            "settings": {"threads": 2},
            "versions": {"x": "1"},
        }
        prepared = {"cold_start": 1.5, "first_call": 0.1, "alive_with": ["slow"]}
        measured = {"prepared": prepared, "figures": slices, "finished": finished}
        rounds.append({**measured, "device_memory": None, "device_memory_method": "this row runs on the CPU"})
    plan = Plan(REQUEST, (the_row,), figures)
    return RowResult(the_row, plan, certified=CERTIFICATE, rounds=rounds)


def test_throughput_is_images_over_time_not_over_mean_latency() -> None:
    figure = to_record(result(), CONTEXT).figure("throughput", "train", "end-to-end")
    assert [sample.value for sample in figure.samples] == [1000, 2000, 4000]
    assert figure.value == pytest.approx(2000)
    assert (figure.unit, figure.batch_size, figure.n) == ("images/s", 128, 3)
    assert figure.low < 2000 < figure.high


def test_latency_percentiles_are_of_single_calls_in_seconds() -> None:
    record = to_record(result(), CONTEXT)
    values = [record.figure(f"latency_p{p}", "infer", "device").value for p in (50, 90, 99)]
    assert values == pytest.approx([0.0505, 0.0901, 0.09901])
    assert values == sorted(values)
    assert record.figure("latency_p50", "infer", "device").samples[0].slices[0].latencies is not None
    assert record.figure("latency_p99", "infer", "device").samples[0].slices == []


def test_what_was_not_measured_says_why() -> None:
    record = to_record(result(tasks=frozenset({"infer"})), CONTEXT)
    figure = record.figure("throughput", "train", "end-to-end")
    assert (figure.value, figure.n, figure.reason) == (None, 0, "fast does not train")
    assert record.figure("peak_device_memory").reason == "this row runs on the CPU"
    assert all(figure.reason for figure in record.figures if figure.value is None)


def test_ratios_are_of_pairs_against_the_fastest_comparable_row() -> None:
    slow, fast = with_ratios([to_record(result("slow", 0.5), CONTEXT), to_record(result("fast"), CONTEXT)])
    throughput = next(ratio for ratio in slow.ratios if ratio.name == "throughput")
    assert (throughput.value, throughput.low, throughput.high) == pytest.approx((0.5, 0.5, 0.5))
    assert throughput.against == "fast"
    latency = next(ratio for ratio in slow.ratios if ratio.name == "latency_p99")
    assert latency.value == pytest.approx(2.0)
    assert all(ratio.value == pytest.approx(1.0) for ratio in fast.ratios)


def test_a_row_that_is_not_comparable_is_no_yardstick() -> None:
    cheat = result("cheat", 100)
    failed = {**CERTIFICATE["checks"][0], "passed": False}
    cheat.certified = {**CERTIFICATE, "checks": [failed]}
    cheating, honest = with_ratios([to_record(cheat, CONTEXT), to_record(result("honest"), CONTEXT)])
    assert cheating.ratios == []
    assert all(ratio.against == "honest" for ratio in honest.ratios)


def test_an_answer_that_does_not_hold_fails_the_row() -> None:
    broken = result()
    broken.rounds[1]["figures"][0][1]["slices"][0]["images"] = -5
    record = to_record(broken, CONTEXT)
    assert record.status == "failed"
    assert "positive" in record.error
    for spoil in (
        lambda r: r.rounds[2]["finished"].update(versions={"x": None}),
        lambda r: r.rounds[2]["finished"].update(phases=None, settings=None),
        lambda r: r.rounds[0].update(prepared={}),
        lambda r: r.rounds[0]["figures"][0][1]["slices"][0].update(latencies=None, images="many"),
    ):
        spoiled = result()
        spoil(spoiled)
        assert to_record(spoiled, CONTEXT).status == "failed"
    nan = result()
    nan.rounds[0]["prepared"]["cold_start"] = float("nan")
    assert to_record(nan, CONTEXT).status == "failed"


def test_a_runtime_is_comparable_only_if_its_source_is() -> None:
    source = result("source")
    failed = {**CERTIFICATE["checks"][0], "passed": False}
    runtime = replace(result("runtime"), source=source)
    assert to_record(runtime, CONTEXT).parity.comparable
    source.certified = {**CERTIFICATE, "checks": [failed]}
    parity = to_record(runtime, CONTEXT).parity
    assert not parity.comparable
    assert [check.name for check in parity.checks if not check.passed] == ["source"]

"""Metrics and ratios from the replies of workers, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worker_replies import CONTEXT, FAILED, QUIET, REQUEST, result, slice_reading, spoil_round, spoil_slice

from bench.analysis.ratios import with_ratios
from bench.records.record import Sample
from bench.runner.interleaving import MetricReadings
from bench.runner.kept_rounds import KeptRounds
from bench.runner.over_processes import over_processes
from bench.runner.planner import timed_metrics
from bench.runner.record_builder import to_record
from bench.values import Missing
from bench.worker.protocol import Prepared, WarmedUp


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


def test_a_missing_value_has_a_reason() -> None:
    record = to_record(result(tasks=frozenset({"infer"})), CONTEXT)
    figure = record.figure("throughput", "train", "end-to-end")
    assert (figure.value, figure.n, figure.reason) == (None, 0, "the backend does not train")
    assert record.figure("peak_device_memory").reason == "this row runs on the CPU"
    assert all(figure.reason for figure in record.figures if figure.value is None)


def test_ratios_are_of_pairs_against_the_fastest_comparable_row() -> None:
    slow, fast = with_ratios([to_record(result("slow", 0.5), CONTEXT), to_record(result("fast"), CONTEXT)])
    throughput = next(ratio for ratio in slow.ratios if ratio.name == "throughput")
    assert (throughput.value, throughput.low, throughput.high) == pytest.approx((0.5, 0.5, 0.5))
    assert throughput.against == "fast/cpu/fp32/eager"
    latency = next(ratio for ratio in slow.ratios if ratio.name == "latency_p99")
    assert latency.value == pytest.approx(2.0)
    assert all(ratio.value == pytest.approx(1.0) for ratio in fast.ratios)


def test_a_row_that_is_not_comparable_is_not_a_reference() -> None:
    cheat = result("cheat", 100)
    cheat.checks = [FAILED]
    cheating, honest = with_ratios([to_record(cheat, CONTEXT), to_record(result("honest"), CONTEXT)])
    assert cheating.ratios == []
    assert all(ratio.against == "honest/cpu/fp32/eager" for ratio in honest.ratios)


def test_an_impossible_number_fails_the_row() -> None:
    broken = result()
    spoil_slice(broken, 1, images=-5)
    record = to_record(broken, CONTEXT)
    assert record.status == "failed"
    assert "positive" in record.error
    nan = result()
    spoil_round(nan, 0, prepared=Prepared(first_call=0.1, cold_start=float("nan")))
    assert to_record(nan, CONTEXT).status == "failed"
    no_time = result()
    spoil_slice(no_time, 2, seconds=0.0)
    assert to_record(no_time, CONTEXT).status == "failed"


def test_readings_are_rounded_by_their_type() -> None:
    noisy = result()
    measured = noisy.rounds[0]
    readings = measured.metrics[0]
    noise = replace(QUIET, asleep=True, switches=7, steal=0.12345678, throttled=["power cap"])
    readings.slices[0] = replace(readings.slices[0], noise=noise)
    noisy.rounds.keep(0, measured)
    metric = readings.metric
    figure = to_record(noisy, CONTEXT).figure(metric.name, metric.task, metric.boundary)
    kept = figure.samples[0].slices[0].noise
    assert kept["asleep"] is True, "a flag is not a number"
    assert (kept["switches"], kept["steal"], kept["throttled"]) == (7, 0.123457, ["power cap"])
    assert type(kept["switches"]) is int


def test_a_runtime_is_comparable_only_if_its_source_is() -> None:
    source = result("source")
    runtime = replace(result("runtime"), source=source)
    assert to_record(runtime, CONTEXT).parity.comparable
    source.checks = [FAILED]
    parity = to_record(runtime, CONTEXT).parity
    assert not parity.comparable
    assert [check.name for check in parity.checks if not check.passed] == ["source"]


def test_the_judge_of_parity_is_not_recorded_as_a_contender() -> None:
    assert to_record(result(), CONTEXT).contender
    assert not to_record(result(contender=False), CONTEXT).contender


@pytest.mark.parametrize("processes", [3, 6])
def test_percentiles_over_processes_stay_in_order(processes: int) -> None:
    """One slow process of six: a geometric mean of p50 beside a median of p90 would be above it."""
    p50 = [1.0] * (processes - 1) + [10.0]
    metric = {"task": "infer", "batch_size": 1, "boundary": "device"}
    figures = [
        over_processes(
            name, [Sample(round=i, value=factor * value) for i, value in enumerate(p50)], Missing(""), **metric
        )
        for name, factor in (("latency_p50", 1.0), ("latency_p90", 1.01), ("latency_p99", 1.02))
    ]
    values = [figure.value for figure in figures]
    assert values == sorted(values)
    assert [figure.low is None for figure in figures] == [False, processes < 6, processes < 6]


def test_a_stall_is_a_share_of_the_time_and_may_be_nothing() -> None:
    request = replace(REQUEST, task="input", input_workers=(0,))
    known = result(tasks=frozenset({"input"}))
    known.plan = replace(known.plan, request=request, metrics=tuple(timed_metrics(request)))
    rounds = {}
    for number, waited in enumerate((0.1, 0.3, 0.0)):
        readings = []
        for metric in known.plan.metrics:
            reading = slice_reading(metric, 0, 1.0)
            reading = replace(reading, noise=replace(reading.noise, stalled=waited))
            readings.append(MetricReadings(metric, WarmedUp(steps=9, steady=True, step_seconds=0.01), [reading]))
        rounds[number] = replace(known.rounds[0], metrics=readings)
    known.rounds = KeptRounds(rounds)
    record = to_record(known, CONTEXT)
    stall = record.figure("stall", "input", "end-to-end")
    assert [sample.value for sample in stall.samples] == pytest.approx([0.2, 0.6, 0.0])
    assert stall.value == pytest.approx(0.8 / 3), "the arithmetic mean"
    assert stall.interval == "student-t over processes"
    fed = record.figure("fed_throughput", "input", "end-to-end")
    assert (fed.value, fed.unit) == (pytest.approx(1000), "images/s")
    assert record.figure("input_throughput", "input", "end-to-end").value == pytest.approx(1000)

"""What workers would answer, with numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.machine.slice_noise import Noise
from bench.records.record import Data
from bench.runner.interleaving import MeasuredRound, MetricReadings, SliceReading
from bench.runner.judges.result import Result
from bench.runner.kept_rounds import KeptRounds
from bench.runner.plan import Plan, Request, Row
from bench.runner.planner import timed_metrics
from bench.runner.record_builder import Context
from bench.runner.row_result import RowResult
from bench.values import Missing
from bench.worker.protocol import (
    Certified,
    Finished,
    Job,
    Prepared,
    TimedMetric,
    TimedSlice,
    WarmedUp,
    WorkerReport,
)
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES, Workload

REQUEST = Request(("all",), Workload(MODELS["article-keras"], "digits", RECIPES["article-keras"]))
CONTEXT = Context({"gpus": []}, Data(name="digits", sha256="0" * 64, train=10, test=5), None, "2026-01-01T00:00:00")
QUIET = Noise(steal=0.0, others=0.01, waited=0.0, ran=0.9, switches=3, minor_faults=20, major_faults=0)
PASSED = Result("logits", 1e-7, 1e-6)
REPORT = WorkerReport(versions={"x": "1"}, settings={"threads": 2}, phases={}, peak_rss=100_000_000, life=1.0)
FAILED = replace(PASSED, value=1.0)
CERTIFICATE = Certified(adapter_files=(), report=REPORT)


def row(name: str, tasks: frozenset[str] = frozenset({"train", "infer", "fit"})) -> Row:
    job = Job(backend=name, mode="eager", model="article-keras", dataset="digits", recipe="article-keras", threads=2)
    return Row(job, name, tasks, "python", None)


def slice_reading(metric: TimedMetric, number: int, speed: float) -> SliceReading:
    """500, 1000, 2000 images in half a second, by the number of the round; or 100 calls of 1 to 100 ms."""
    if metric.name == "latency":
        calls = tuple(i / 1000 / speed for i in range(1, 101))
        timed = TimedSlice(seconds=1.0, images=100, latencies=calls, counters={}, elapsed=1.0, ready=0.0)
    else:
        timed = TimedSlice(
            seconds=0.5 / speed, images=500 * 2**number, latencies=None, counters={}, elapsed=0.5, ready=0.0
        )
    return SliceReading(timed, 0, QUIET, [])


def finished(**changes: Any) -> Finished:
    """A worker's last reply; ``changes`` are of its report, ``rss`` of itself."""
    rss = changes.pop("rss", 90_000_000)
    report = replace(REPORT, **{"phases": {"timed": 30.0}, "life": 40.0, **changes})
    return Finished(peak_rss={"infer": 100_000_000, "train": 200_000_000}, rss=rss, framework_memory={}, report=report)


def result(name: str = "fast", speed: float = 1.0, **changes: Any) -> RowResult:
    """Three rounds of a row; throughput 1000, 2000, 4000 images/s times ``speed``."""
    metrics = tuple(timed_metrics(REQUEST))
    the_row = replace(row(name), **changes)
    rounds = {
        number: MeasuredRound(
            Prepared(first_call=0.1, cold_start=1.5),
            ("slow/cpu/fp32/eager",),
            [
                MetricReadings(
                    metric, WarmedUp(steps=12, steady=True, step_seconds=0.01), [slice_reading(metric, number, speed)]
                )
                for metric in metrics
                if metric.task in the_row.tasks
            ],
            finished(),
            Missing("this row runs on the CPU"),
        )
        for number in range(3)
    }
    plan = Plan(REQUEST, (the_row,), metrics)
    return RowResult(the_row, plan, certified=CERTIFICATE, checks=[PASSED], rounds=KeptRounds(rounds))


def spoil_round(spoiled: RowResult, number: int, **changes: Any) -> None:
    """Change fields of what one worker measured."""
    spoiled.rounds.keep(number, replace(spoiled.rounds[number], **changes))


def spoil_slice(spoiled: RowResult, number: int, index: int = 0, **changes: Any) -> None:
    """Change fields of the only timed slice of one of a worker's metrics."""
    measured = spoiled.rounds[number]
    readings = measured.metrics[index]
    (reading,) = readings.slices
    readings.slices[0] = replace(reading, timed=replace(reading.timed, **changes))
    spoiled.rounds.keep(number, measured)

"""What workers would answer, with numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.records.record import Data, Job
from bench.runner.plan import Plan, Request, Row
from bench.runner.planner import _figures
from bench.runner.record_builder import Context, RowResult
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES, Workload

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

"""Pages of every kind, built of known numbers."""

from __future__ import annotations

from functools import cache

from builders import hostile_run, recorded, row, run, speed

from bench.analysis import run_comparison, trends
from bench.records.gate_result import Check
from bench.records.series import Point, Series
from bench.worker.protocol import RowKey
from reports.pages import html

MACHINE = {"id": "feedc0de"}


def check(**changes: object) -> Check:
    place = {
        "row": "pytorch/cpu/fp32/eager",
        "label": "pytorch",
        "name": "throughput",
        "task": "train",
        "batch_size": 128,
        "boundary": "end-to-end",
    }
    pair = {"number": 0, "base_first": True, "base": 100.0, "present": 98.0, "harm": 0.02}
    told = {
        "unit": "images/s",
        "margin": 0.005,
        "verdict": "regression",
        "change": -0.02,
        "low": -0.025,
        "high": -0.015,
    }
    content = {
        "name": "check-1", "command": "bench check --against torch==2.13.0", "started_at": "2026-01-01T00:00:00+00:00",
        "base": {"label": "torch==2.13.0", "versions": {"torch": "2.13.0"}},
        "present": {"label": "this environment", "versions": {"torch": "2.14.1"}},
        "figures": [{**place, **told, "smallest": 0.006, "pairs": [pair] * 6}], "looks": [4, 6], "alpha": 0.05,
        "machine": MACHINE, "data": {"name": "d", "sha256": "0", "train": 1, "test": 1},
    }  # fmt: skip
    return Check.model_validate({**content, **changes})


def series(count: int, row_name: str = "pytorch", shift: float = 1.0) -> Series:
    """A level that changes in the middle."""
    points = [
        Point(
            run=f"r{i}",
            started_at=f"2026-01-{1 + i // 24:02}T{i % 24:02}:00:00+00:00",
            commit="c" * 40,
            versions={"torch": "2" if i < count / 2 else "3"},
            value=(100.0 if i < count / 2 else 100.0 * shift) * (1 + 0.001 * (i % 3)),
            low=None,
            high=None,
            acknowledged=None,
        )
        for i in range(count)
    ]
    key = ("throughput", "train", 128, "end-to-end")
    row = RowKey(row_name, None, "cpu", "fp32", "eager")
    return Series("digest", row, "m", "d", "r", "feedc0de", key, "images/s", tuple(points))


@cache
def pages() -> dict[str, str]:
    first, second = run(row("a", [speed([100.0])])), run(row("a", [speed([90.0])]), name="other")
    compared = run_comparison.compare(first, second, {}, frozenset())
    trend = [series(30, shift=0.9)]
    return {
        "run": html.run_page(recorded()),
        "hostile": html.run_page(hostile_run()),
        "check": html.check_page(check()),
        "comparison": html.comparison_page(compared, {"throughput": 0.005}, "bench compare a b"),
        "history": html.history_page(trend, trends.all_level_shifts(trend), "bench history --format html"),
    }

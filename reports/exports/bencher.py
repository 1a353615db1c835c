"""A run in Bencher Metric Format: benchmark to measure to value with bounds (bencher.dev, "Bencher Metric Format").

``throughput`` is in images per second and ``latency`` in nanoseconds, as Bencher's own measures of these names are.
Other measures are in the unit at the end of their name; times are in nanoseconds. Bounds are the 95% interval.
"""

from __future__ import annotations

import json
import re

from bench.records.metrics import Metric
from bench.records.record import Run
from reports.exports import selection
from reports.exports.selection import Value

BUILT_IN = {"throughput": "throughput", "latency_p50": "latency"}
"""Bencher's own measures."""


def document(run: Run) -> str:
    """The JSON document, with every metric that has a value."""
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for one in selection.values(run):
        benchmarks.setdefault(_benchmark(one), {})[measure(one.metric)] = _bounds(one)
    return json.dumps(benchmarks, allow_nan=False, indent=1)


def left_out(run: Run) -> dict[str, str]:
    """What the document leaves out, with the reason."""
    return selection.left_out(run)


def measure(metric: Metric) -> str:
    """``latency-p90-ns``: name and unit, in the characters of a slug."""
    if metric.name in BUILT_IN:
        return BUILT_IN[metric.name]
    unit = "ns" if metric.is_time else metric.unit
    return re.sub(r"[^a-z0-9]+", "-", f"{metric.name} {unit}".lower()).strip("-")


def _benchmark(one: Value) -> str:
    figure = one.figure
    name = " ".join(part for part in (one.workload, one.row, figure.task, figure.boundary) if part)
    return name if figure.batch_size is None else f"{name} batch={figure.batch_size}"


def _bounds(one: Value) -> dict[str, float]:
    factor = 1e9 if one.metric.is_time else 1
    bounds = {"value": one.value, "lower_value": one.figure.low, "upper_value": one.figure.high}
    return {name: factor * value for name, value in bounds.items() if value is not None}

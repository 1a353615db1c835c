"""A metric over fresh processes: its value and interval."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from bench.analysis import intervals
from bench.records.metrics import METRICS
from bench.records.record import Figure, Sample
from bench.values import Missing


def over_processes(name: str, samples: list[Sample], missing: Missing, **place: Any) -> Figure:
    """Geometric mean over processes with a Student t interval of the logarithms (of a share the arithmetic mean), for a
    ranked metric of enough processes their median with one of order statistics, or the reason for a missing value."""
    if not samples:
        return Figure(name=name, unit=METRICS[name].unit, value=None, reason=missing.reason, **place)
    metric, values = METRICS[name], [sample.value for sample in samples]
    ranked = metric.ranked and len(values) >= intervals.FEWEST_RANKED
    mean = intervals.arithmetic_mean if metric.quantity.absolute else intervals.geometric_mean
    estimate = intervals.median(values) if ranked else mean(values)
    if metric.ranked and not ranked and not metric.decisive:  # a tail: Student's t does not hold
        estimate = replace(estimate, low=None, high=None)
    return Figure(name=name, unit=METRICS[name].unit, **asdict(estimate), samples=samples, **place)

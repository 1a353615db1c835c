"""What a check judges: metrics of rows, the margins around them, and what a pair of live workers measured of one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.analysis.ratios import of_round
from bench.analysis.sequential_test import LOOKS
from bench.records.gate_result import Pair
from bench.runner.interleaving import MeasuredRound
from bench.runner.record_builder import percentile, sample, throughput
from bench.worker.protocol import TimedMetric

MARGINS = {"throughput": 0.005, "latency": 0.005, "memory": 0.01, "accuracy": 0.005}
"""What may be called no change: relative, for accuracy a difference (at least ``ACCURACY_IMAGES`` test images)."""
ACCURACY_IMAGES = 2
METRICS = tuple(MARGINS)
DEFAULT_METRICS = ("throughput", "latency", "memory")
DEFAULT_BUDGET = 600.0
"""Seconds of measuring pairs."""


@dataclass(frozen=True)
class Criteria:
    """What a check is about."""

    metrics: tuple[str, ...] = DEFAULT_METRICS
    """Of ``METRICS``."""
    boundary: str = "end-to-end"
    """Of speeds; ``device`` is the other one."""
    margins: Mapping[str, float] = field(default_factory=lambda: dict(MARGINS))
    looks: tuple[int, ...] = LOOKS
    budget: float = DEFAULT_BUDGET
    seeds: int = 1
    """Trainings per side, for accuracy."""

    def gated(self, row: str, tasks: frozenset[str], timed: Sequence[TimedMetric]) -> list[GatedMetric]:
        """What is judged of a row whose backend does these tasks, where these metrics are timed."""
        able = [metric for metric in timed if metric.task in tasks]
        names = {"throughput": "throughput", "latency": "latency_p50"}
        found = [
            GatedMetric(row, names[one.name], one.task, one.batch_size, one.boundary)
            for one in able
            if one.name in self.metrics
        ]
        if "memory" in self.metrics:
            found += [GatedMetric(row, "peak_rss", task) for task in dict.fromkeys(one.task for one in able)]
        if "accuracy" in self.metrics and "fit" in tasks:
            found.append(GatedMetric(row, "accuracy"))
        return found


class GatedMetric(NamedTuple):
    """A metric of a row that gets a verdict; the row's id is without its side."""

    row: str
    name: str
    task: str | None = None
    batch_size: int | None = None
    boundary: str | None = None

    @property
    def criterion(self) -> str:
        """Its name among ``METRICS``."""
        return {"latency_p50": "latency", "peak_rss": "memory"}.get(self.name, self.name)


UNITS = {"throughput": "images/s", "latency_p50": "s", "peak_rss": "bytes", "accuracy": "fraction"}
HIGHER_IS_BETTER = {"throughput", "accuracy"}


def unit_of(gated: GatedMetric) -> str:
    """Of its values."""
    return UNITS[gated.name]


def needs(gated: GatedMetric, metric: TimedMetric) -> bool:
    """Whether a metric has to be timed for a gated one: memory needs one metric of its task."""
    if gated.name == "peak_rss":
        return metric.task == gated.task and metric.name == "throughput"
    name = "latency" if gated.name == "latency_p50" else gated.name
    return (metric.name, metric.task, metric.batch_size, metric.boundary) == (name, *gated[2:])


def read_pair(gated: GatedMetric, number: int, base_first: bool, base: MeasuredRound, present: MeasuredRound) -> Pair:
    """What a pair of workers came to in one metric."""
    if gated.name == "peak_rss":
        peaks = [float(side.finished.peak_rss[str(gated.task)]) for side in (base, present)]
        harm = math.log(peaks[1] / peaks[0])
        return Pair(number=number, base_first=base_first, base=peaks[0], present=peaks[1], harm=harm)
    value = throughput if gated.name == "throughput" else percentile(50)
    samples = []
    for side in (base, present):
        readings = next(readings for readings in side.metrics if needs(gated, readings.metric))
        samples.append(sample(number, readings, value, keep=True))
    ratio = math.log(of_round(gated.name, samples[1], samples[0]))
    disturbed = [one for one in samples if one.disturbed]
    reasons = [reason for one in disturbed for piece in one.slices for reason in piece.reasons]
    return Pair(
        number=number,
        base_first=base_first,
        base=samples[0].value,
        present=samples[1].value,
        harm=-ratio if gated.name in HIGHER_IS_BETTER else ratio,
        disturbed=bool(disturbed) if any(one.disturbed is not None for one in samples) else None,
        reason=reasons[0] if reasons else "",
    )


def as_change(gated: GatedMetric, harm: float) -> float:
    """A harm as present over base less 1 (accuracy: present less base)."""
    if gated.name == "accuracy":
        return 0.0 - harm
    return math.expm1(-harm if gated.name in HIGHER_IS_BETTER else harm)

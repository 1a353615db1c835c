"""The metrics that a check judges, their margins, and how a pair of live workers is read as one of them.

Units, directions and default margins come from ``bench.records.metrics``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.analysis.ratios import round_ratio, turn_ratios
from bench.analysis.sequential_test import LOOKS
from bench.records.gate_result import Pair
from bench.records.metrics import METRICS, Metric, gated
from bench.records.record import Sample
from bench.runner.interleaving import MeasuredRound
from bench.runner.record_builder import percentile, sample, throughput
from bench.worker.protocol import TimedMetric

MARGINS = {name: metric.margin or 0.0 for name, metric in gated().items()}
"""The largest change that counts as none: relative; for accuracy a difference (at least ``ACCURACY_IMAGES`` test
images)."""
ACCURACY_IMAGES = 2
NAMES = tuple(MARGINS)
"""Names of the metrics that a check judges."""
IN_PAIRS = tuple(name for name, metric in gated().items() if metric.spread_over == "processes")
"""Metrics that pairs of live workers measure: a check's default. The others need trainings."""
DEFAULT_BUDGET = 600.0
"""Seconds of measuring pairs."""


@dataclass(frozen=True)
class Criteria:
    """What a check judges and how long it measures."""

    metrics: tuple[str, ...] = IN_PAIRS
    """Some of ``NAMES``."""
    boundary: str = "end-to-end"
    """Boundary of throughput and latency: ``end-to-end`` or ``device``."""
    margins: Mapping[str, float] = field(default_factory=lambda: dict(MARGINS))
    looks: tuple[int, ...] = LOOKS
    budget: float = DEFAULT_BUDGET
    seeds: int = 1
    """Trainings per side, for accuracy."""

    def gated_metrics(self, row: str, tasks: frozenset[str], timed: Sequence[TimedMetric]) -> list[GatedMetric]:
        """The gated metrics of a row, given its backend's tasks and the timed metrics of the plan."""
        timed_here = [metric for metric in timed if metric.task in tasks]
        metrics = [
            GatedMetric(row, gated()[one.name].name, one.task, one.batch_size, one.boundary)
            for one in timed_here
            if one.name in self.metrics
        ]
        if "memory" in self.metrics:
            metrics += [GatedMetric(row, "peak_rss", task) for task in dict.fromkeys(one.task for one in timed_here)]
        if "accuracy" in self.metrics and "fit" in tasks:
            metrics.append(GatedMetric(row, "accuracy"))
        return metrics


class GatedMetric(NamedTuple):
    """A metric of a row that gets a verdict; ``row`` is the row's id without its side."""

    row: str
    name: str
    task: str | None = None
    batch_size: int | None = None
    boundary: str | None = None

    @property
    def metric(self) -> Metric:
        """Its entry in ``METRICS``."""
        return METRICS[self.name]

    @property
    def criterion(self) -> str:
        """The name that a check uses for it, one of ``NAMES``."""
        return self.metric.gate or self.name


def needs(gated_metric: GatedMetric, timed: TimedMetric) -> bool:
    """Whether a gated metric needs this timed metric. Memory is not read from slices; it needs any throughput of its
    task."""
    if not gated_metric.metric.decisive:
        return timed.task == gated_metric.task and timed.name == "throughput"
    return (timed.name, timed.task, timed.batch_size, timed.boundary) == (gated_metric.criterion, *gated_metric[2:])


def read_pair(
    gated_metric: GatedMetric, number: int, base_first: bool, base: MeasuredRound, present: MeasuredRound
) -> Pair:
    """The pair of values of one metric that two workers measured."""
    if gated_metric.name == "peak_rss":
        peaks = [float(side.finished.peak_rss[str(gated_metric.task)]) for side in (base, present)]
        harm = math.log(peaks[1] / peaks[0])
        return Pair(number=number, base_first=base_first, base=peaks[0], present=peaks[1], harm=harm)
    samples = _samples(gated_metric, number, base, present)
    ratio = math.log(round_ratio(gated_metric.name, samples[1], samples[0]))
    disturbed = [one for one in samples if one.disturbed]
    reasons = [reason for one in disturbed for piece in one.slices for reason in piece.reasons]
    return Pair(
        number=number,
        base_first=base_first,
        base=samples[0].value,
        present=samples[1].value,
        harm=ratio if gated_metric.metric.lower_is_better else -ratio,
        disturbed=bool(disturbed) if any(one.disturbed is not None for one in samples) else None,
        reason=reasons[0] if reasons else "",
    )


def is_timed(gated_metric: GatedMetric, timed: TimedMetric) -> bool:
    """Whether a gated metric is read from the slices of this timed metric."""
    return gated_metric.metric.decisive and needs(gated_metric, timed)


def turns_of_pair(gated_metric: GatedMetric, base: MeasuredRound, present: MeasuredRound) -> list[float]:
    """The logarithms of the ratios of the turns of a pair's slices, present over base."""
    theirs, ours = _samples(gated_metric, 0, base, present)
    return [math.log(ratio) for ratio in turn_ratios(gated_metric.name, ours, theirs)]


def _samples(gated_metric: GatedMetric, number: int, *sides: MeasuredRound) -> list[Sample]:
    value = throughput if gated_metric.name == "throughput" else percentile(50)
    return [
        sample(number, next(one for one in side.metrics if needs(gated_metric, one.metric)), value, keep=True)
        for side in sides
    ]


def as_change(gated_metric: GatedMetric, harm: float) -> float:
    """Convert a harm to a change: present / base - 1, or present - base for an absolute metric (accuracy)."""
    signed = harm if gated_metric.metric.lower_is_better else 0.0 - harm
    return signed if gated_metric.metric.quantity.absolute else math.expm1(signed)

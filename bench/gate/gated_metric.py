"""What a check judges: metrics of rows, the margins around them, and what a pair of live workers measured of one.

Units, directions and default margins are those of ``bench.records.metrics``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.analysis.ratios import of_round
from bench.analysis.sequential_test import LOOKS
from bench.records.gate_result import Pair
from bench.records.metrics import METRICS, Metric, gated
from bench.runner.interleaving import MeasuredRound
from bench.runner.record_builder import percentile, sample, throughput
from bench.worker.protocol import TimedMetric

MARGINS = {name: metric.margin or 0.0 for name, metric in gated().items()}
"""What may be called no change: relative, for accuracy a difference (at least ``ACCURACY_IMAGES`` test images)."""
ACCURACY_IMAGES = 2
NAMES = tuple(MARGINS)
"""What a check calls the metrics that it judges."""
IN_PAIRS = tuple(name for name, metric in gated().items() if metric.spread_over == "processes")
"""What pairs of live workers decide, and a check judges by default; the others need trainings."""
DEFAULT_BUDGET = 600.0
"""Seconds of measuring pairs."""


@dataclass(frozen=True)
class Criteria:
    """What a check is about."""

    metrics: tuple[str, ...] = IN_PAIRS
    """Of ``NAMES``."""
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
        found = [
            GatedMetric(row, gated()[one.name].name, one.task, one.batch_size, one.boundary)
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
    def metric(self) -> Metric:
        """What is known of it."""
        return METRICS[self.name]

    @property
    def criterion(self) -> str:
        """What a check calls it."""
        return self.metric.gate or self.name


def needs(gated_metric: GatedMetric, timed: TimedMetric) -> bool:
    """Whether a metric has to be timed for a gated one: what is not read from slices (memory) needs any of its task."""
    if not gated_metric.metric.decisive:
        return timed.task == gated_metric.task and timed.name == "throughput"
    return (timed.name, timed.task, timed.batch_size, timed.boundary) == (gated_metric.criterion, *gated_metric[2:])


def read_pair(
    gated_metric: GatedMetric, number: int, base_first: bool, base: MeasuredRound, present: MeasuredRound
) -> Pair:
    """What a pair of workers came to in one metric."""
    if gated_metric.name == "peak_rss":
        peaks = [float(side.finished.peak_rss[str(gated_metric.task)]) for side in (base, present)]
        harm = math.log(peaks[1] / peaks[0])
        return Pair(number=number, base_first=base_first, base=peaks[0], present=peaks[1], harm=harm)
    value = throughput if gated_metric.name == "throughput" else percentile(50)
    samples = []
    for side in (base, present):
        readings = next(readings for readings in side.metrics if needs(gated_metric, readings.metric))
        samples.append(sample(number, readings, value, keep=True))
    ratio = math.log(of_round(gated_metric.name, samples[1], samples[0]))
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


def as_change(gated_metric: GatedMetric, harm: float) -> float:
    """A harm as present over base less 1 (absolute ones, accuracy: present less base)."""
    signed = harm if gated_metric.metric.lower_is_better else 0.0 - harm
    return signed if gated_metric.metric.quantity.absolute else math.expm1(signed)

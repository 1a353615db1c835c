"""What a check judges: metrics of rows, the margins around them, and what a pair of live workers says of one.

Units, directions and default margins are those of ``bench.records.metrics``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.analysis.ratios import of_round
from bench.analysis.sequential_test import LOOKS
from bench.records.gate_result import Pair
from bench.records.metrics import METRICS, Metric, gated
from bench.records.record import Sample
from bench.runner.plan import FigurePlan
from bench.runner.record_builder import percentile, sample, throughput

MARGINS = {name: metric.margin or 0.0 for name, metric in gated().items()}
"""What may be called no change: relative, for accuracy a difference (there at least ``IMAGES`` test images)."""
IN_PAIRS = tuple(name for name, metric in gated().items() if metric.spread_over == "processes")
"""What pairs of live workers decide; the others need trainings."""
IMAGES = 2
FIGURES = tuple(MARGINS)
DEFAULT_BUDGET = 600.0
"""Seconds of measuring pairs."""


@dataclass(frozen=True)
class Criteria:
    """What a check is about."""

    figures: tuple[str, ...] = IN_PAIRS
    """Of ``FIGURES``."""
    boundary: str = "end-to-end"
    """Of speeds; ``device`` is the other one."""
    margins: Mapping[str, float] = field(default_factory=lambda: dict(MARGINS))
    looks: tuple[int, ...] = LOOKS
    budget: float = DEFAULT_BUDGET
    seeds: int = 1
    """Trainings per side, for accuracy."""


class Target(NamedTuple):
    """A metric of a row that gets a verdict; the row's name is without its side."""

    row: str
    name: str
    task: str | None
    batch_size: int | None
    boundary: str | None

    @property
    def metric(self) -> Metric:
        """What is known of it."""
        return METRICS[self.name]

    @property
    def criterion(self) -> str:
        """Its name among ``FIGURES``."""
        return self.metric.gate or self.name


def needs(target: Target, figure: FigurePlan) -> bool:
    """Whether a figure has to be timed for a target: what is not read from slices (memory) needs any of its task."""
    if not target.metric.decisive:
        return figure.task == target.task and figure.name == "throughput"
    return (figure.name, figure.task, figure.batch_size, figure.boundary) == (target.criterion, *target[2:])


def read(target: Target, number: int, base_first: bool, both: Sequence[Any]) -> Pair:
    """What a pair of workers came to in one metric."""
    place: dict[str, Any] = {"number": number, "base_first": base_first}
    if target.name == "peak_rss":
        base, present = (float(outcome["finished"]["peak_rss"][target.task]) for outcome in both)
        return Pair(**place, base=base, present=present, harm=math.log(present / base))
    value = throughput if target.name == "throughput" else percentile(50)
    samples: list[Sample] = []
    for outcome in both:
        measured = next(measured for figure, measured in outcome["figures"] if needs(target, figure))
        samples.append(sample(number, measured, value, keep=True))
    ratio = math.log(of_round(target.name, samples[1], samples[0]))
    bad = [one for one in samples if one.disturbed]
    reasons = [reason for one in bad for piece in one.slices for reason in piece.reasons]
    return Pair(
        **place,
        base=samples[0].value,
        present=samples[1].value,
        harm=ratio if target.metric.lower_is_better else -ratio,
        disturbed=bool(bad) if any(one.disturbed is not None for one in samples) else None,
        reason=reasons[0] if reasons else "",
    )


def as_change(target: Target, harm: float) -> float:
    """A harm as present over base less 1 (absolute ones, accuracy: present less base)."""
    signed = harm if target.metric.lower_is_better else 0.0 - harm
    return signed if target.metric.quantity.absolute else math.expm1(signed)

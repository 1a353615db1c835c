"""What a check judges: figures of rows, the margins around them, and what a pair of live workers says of one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.analysis.ratios import of_round
from bench.analysis.sequential_test import LOOKS
from bench.records.gate_result import Pair
from bench.records.record import Sample
from bench.runner.plan import FigurePlan
from bench.runner.record_builder import percentile, sample, throughput

MARGINS = {"throughput": 0.005, "latency": 0.005, "memory": 0.01, "accuracy": 0.005}
"""What may be called no change: relative, for accuracy a difference (there at least ``IMAGES`` test images)."""
IMAGES = 2
FIGURES = tuple(MARGINS)
DEFAULT_BUDGET = 600.0
"""Seconds of measuring pairs."""


@dataclass(frozen=True)
class Criteria:
    """What a check is about."""

    figures: tuple[str, ...] = ("throughput", "latency", "memory")
    """Of ``FIGURES``."""
    boundary: str = "end-to-end"
    """Of speeds; ``device`` is the other one."""
    margins: Mapping[str, float] = field(default_factory=lambda: dict(MARGINS))
    looks: tuple[int, ...] = LOOKS
    budget: float = DEFAULT_BUDGET
    seeds: int = 1
    """Trainings per side, for accuracy."""


class Target(NamedTuple):
    """A figure of a row that gets a verdict; the row's name is without its side."""

    row: str
    name: str
    task: str | None
    batch_size: int | None
    boundary: str | None

    @property
    def criterion(self) -> str:
        """Its name among ``FIGURES``."""
        return {"latency_p50": "latency", "peak_rss": "memory"}.get(self.name, self.name)


UNITS = {"throughput": "images/s", "latency_p50": "s", "peak_rss": "bytes", "accuracy": "fraction"}
HIGHER_IS_BETTER = {"throughput", "accuracy"}


def needs(target: Target, figure: FigurePlan) -> bool:
    """Whether a figure has to be timed for a target: memory needs one figure of its task."""
    if target.name == "peak_rss":
        return figure.task == target.task and figure.name == "throughput"
    name = "latency" if target.name == "latency_p50" else target.name
    return (figure.name, figure.task, figure.batch_size, figure.boundary) == (name, *target[2:])


def read(target: Target, number: int, base_first: bool, both: Sequence[Any]) -> Pair:
    """What a pair of workers came to in one figure."""
    told: dict[str, Any] = {"number": number, "base_first": base_first}
    if target.name == "peak_rss":
        base, present = (float(outcome["finished"]["peak_rss"][target.task]) for outcome in both)
        return Pair(**told, base=base, present=present, harm=math.log(present / base))
    value = throughput if target.name == "throughput" else percentile(50)
    samples: list[Sample] = []
    for outcome in both:
        measured = next(measured for figure, measured in outcome["figures"] if needs(target, figure))
        samples.append(sample(number, measured, value, keep=True))
    ratio = math.log(of_round(target.name, samples[1], samples[0]))
    bad = [one for one in samples if one.disturbed]
    reasons = [reason for one in bad for piece in one.slices for reason in piece.reasons]
    return Pair(
        **told,
        base=samples[0].value,
        present=samples[1].value,
        harm=-ratio if target.name in HIGHER_IS_BETTER else ratio,
        disturbed=bool(bad) if any(one.disturbed is not None for one in samples) else None,
        reason=reasons[0] if reasons else "",
    )


def as_change(target: Target, harm: float) -> float:
    """A harm as present over base less 1 (accuracy: present less base)."""
    if target.name == "accuracy":
        return 0.0 - harm
    return math.expm1(-harm if target.name in HIGHER_IS_BETTER else harm)

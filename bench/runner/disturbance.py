"""A row's disturbance, summed over the slices of its metrics: a pure function of numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from bench.machine.host import available_cpus
from bench.records.record import Disturbance, Figure, Sample, Slice

NOT_VISIBLE = "not visible here: neither /proc nor pressure information shows other processes"


def summarize(figures: Sequence[Figure], cpus: Sequence[int] | None) -> Disturbance:
    """The disturbance of a row that is pinned to ``cpus`` (None: not pinned, so all available CPUs count)."""
    samples = [(figure, sample) for figure in figures for sample in figure.samples if sample.slices]
    slices = [piece for _, sample in samples for piece in sample.slices]
    if not slices:
        return Disturbance(reason="nothing was timed")
    seconds = math.fsum(piece.seconds for piece in slices)
    cores = seconds * len(cpus or available_cpus())
    ran, waited = _sum(slices, "ran"), _sum(slices, "waited")
    disturbed, reason = _verdict(samples, slices)
    return Disturbance(
        disturbed=disturbed,
        reason=reason,
        slices=len(slices),
        marked=sum(bool(piece.disturbed) for piece in slices),
        steal=_divide(_sum(slices, "steal"), cores),
        others=_divide(_sum(slices, "others"), cores),
        waited=None if ran is None or waited is None else _divide(waited, ran + waited),
        pressure=_divide(_sum(slices, "pressure"), seconds),
        held_back=_divide(_sum(slices, "held_back"), cores),
        switches=_divide(_sum(slices, "switches"), seconds),
        minor_faults=_divide(_sum(slices, "minor_faults"), seconds),
        major_faults=_divide(_sum(slices, "major_faults"), seconds),
        frequency=_range(slices, "frequency"),
        gpu_clock=_range(slices, "gpu_clock"),
    )


def _verdict(samples: Sequence[tuple[Figure, Sample]], slices: Sequence[Slice]) -> tuple[bool | None, str]:
    """Disturbed if a process is disturbed in any metric, with the most frequent reason of those processes' slices."""
    if all(piece.disturbed is None for piece in slices):
        return None, NOT_VISIBLE
    disturbed = [(figure, sample) for figure, sample in samples if sample.disturbed]
    if not disturbed:
        return False, ""
    reasons = [reason for _, sample in disturbed for piece in sample.slices for reason in piece.reasons]
    kinds = Counter(map(_kind, reasons))
    commonest = next(reason for reason in reasons if _kind(reason) == kinds.most_common(1)[0][0])
    figure, sample = disturbed[0]
    where = f"{figure.task} {figure.name.partition('_')[0]} {figure.boundary}"
    more = f" and {len(disturbed) - 1} more" if len(disturbed) > 1 else ""
    return True, f"{commonest} (in {where}, round {sample.round + 1}{more})"


def _kind(reason: str) -> str:
    """The reason without its numbers."""
    return re.sub(r"\d+", "", reason)


def _sum(slices: Sequence[Slice], name: str) -> float | None:
    readings = [reading for piece in slices if (reading := piece.reading(name)) is not None]
    return math.fsum(readings) if readings else None


def _range(slices: Sequence[Slice], name: str) -> tuple[float, float] | None:
    readings = [reading for piece in slices if (reading := piece.reading(name)) is not None]
    return (min(readings), max(readings)) if readings else None


def _divide(part: float | None, whole: float) -> float | None:
    return None if part is None or whole <= 0 else part / whole

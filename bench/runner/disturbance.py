"""A row's disturbance, summed over the slices of its figures: a pure function of numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from bench.machine.host import available_cpus
from bench.records.record import Disturbance, Figure, Sample, Slice

NOT_VISIBLE = "not visible here: neither /proc nor pressure information tells of other processes"


def of(figures: Sequence[Figure], cpus: Sequence[int] | None) -> Disturbance:
    """Over all figures of a row that is pinned to ``cpus`` (None: to no one, all available ones count)."""
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
        steal=_over(_sum(slices, "steal"), cores),
        others=_over(_sum(slices, "others"), cores),
        waited=None if ran is None or waited is None else _over(waited, ran + waited),
        pressure=_over(_sum(slices, "pressure"), seconds),
        switches=_over(_sum(slices, "switches"), seconds),
        minor_faults=_over(_sum(slices, "minor_faults"), seconds),
        major_faults=_over(_sum(slices, "major_faults"), seconds),
        frequency=_range(slices, "frequency"),
        gpu_clock=_range(slices, "gpu_clock"),
    )


def _verdict(samples: Sequence[tuple[Figure, Sample]], slices: Sequence[Slice]) -> tuple[bool | None, str]:
    """Disturbed if one process stayed so in one figure; the reason is that of most slices there."""
    if all(piece.disturbed is None for piece in slices):
        return None, NOT_VISIBLE
    bad = [(figure, sample) for figure, sample in samples if sample.disturbed]
    if not bad:
        return False, ""
    why = [reason for _, sample in bad for piece in sample.slices for reason in piece.reasons]
    kinds = Counter(map(_kind, why))
    commonest = next(reason for reason in why if _kind(reason) == kinds.most_common(1)[0][0])
    figure = bad[0][0]
    where = f"{figure.task} {figure.name.partition('_')[0]} {figure.boundary}"
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return True, f"{commonest} (in {where}, round {bad[0][1].round + 1}{more})"


def _kind(reason: str) -> str:
    """A reason without its numbers."""
    return re.sub(r"\d+", "", reason)


def _sum(slices: Sequence[Slice], name: str) -> float | None:
    found = [reading for piece in slices if (reading := piece.reading(name)) is not None]
    return math.fsum(found) if found else None


def _range(slices: Sequence[Slice], name: str) -> tuple[float, float] | None:
    found = [reading for piece in slices if (reading := piece.reading(name)) is not None]
    return (min(found), max(found)) if found else None


def _over(part: float | None, whole: float) -> float | None:
    return None if part is None or whole <= 0 else part / whole

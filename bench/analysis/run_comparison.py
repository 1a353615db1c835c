"""Two stored runs side by side: ratios whose intervals hold the variance between runs. Pure functions.

Absolute figures of one machine differ by some percent from run to run though nothing changed. How much is learnt from
the figure's own series: from differences of successive runs of the same versions (von Neumann 1941, Annals of
Mathematical Statistics 12:367), which a change of version or a slow trend hardly touches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.intervals import student_t
from bench.errors import UsageError
from bench.records import series_key
from bench.records.metrics import CONFIDENCE
from bench.records.record import Figure, Record, Run, label
from bench.records.series import FigureKey, Point

FEWEST_DIFFERENCES = 4
"""Differences of successive runs with the same versions that an interval needs at least."""
EFFICIENCY = 2 / 3
"""Degrees of freedom per difference: two successive ones share a run (von Neumann 1941)."""
MACHINE_FACTS = ("kernel", "driver", "governor", "cpu_quota", "hostname")

History = Mapping[tuple[str, FigureKey], Sequence[Point]]
"""Points by the digest of a comparability key and the metric."""


@dataclass(frozen=True)
class Noise:
    """Variance between runs of a logarithm, with its degrees of freedom.

    ``missing`` counts the further runs that are needed to estimate it.
    """

    variance: float
    degrees: float
    missing: int


@dataclass(frozen=True)
class Compared:
    """A metric of a row in both runs: second over first, with a 95% interval (None where history is too short)."""

    row: str
    figure: FigureKey
    unit: str
    first: float
    second: float
    ratio: float
    low: float | None
    high: float | None
    missing: int
    """Further runs that an interval needs."""


@dataclass(frozen=True)
class Comparison:
    """Two runs, what differs between them, and what both have."""

    first: str
    second: str
    changed: tuple[tuple[str, str, str], ...]
    """What, before, after: versions, commit, facts of the machine, and parts of the key that were allowed to differ."""
    figures: tuple[Compared, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    """Rows that the other run does not have, or has but not comparable."""
    disturbed: tuple[tuple[str, str, str], ...] = ()
    """Run, row, and what disturbed the row in it."""


def noise(points: Sequence[Point]) -> Noise:
    """Between-run variance of the logarithm of a metric."""
    pairs = [(a, b) for a, b in itertools.pairwise(points) if a.versions == b.versions and a.value > 0 and b.value > 0]
    squares = [math.log(b.value / a.value) ** 2 for a, b in pairs]
    if len(squares) < FEWEST_DIFFERENCES:
        return Noise(math.nan, 0.0, FEWEST_DIFFERENCES - len(squares))
    return Noise(math.fsum(squares) / (2 * len(squares)), EFFICIENCY * len(squares), 0)


def compare(first: Run, second: Run, history: History, across: frozenset[str]) -> Comparison:
    """Compare the rows of the same key, metric by metric.

    Raises:
        UsageError: rows of the same name differ in a part of the key that ``across`` does not name.
    """
    a, b = _rows(first), _rows(second)
    both = [name for name in a if name in b]
    differing: dict[str, tuple[str, str]] = {}
    for name in both:
        differing |= series_key.differences(series_key.key(a[name]), series_key.key(b[name]))
    if forbidden := sorted(set(differing) - across):
        differences = "; ".join(f"{part}: {differing[part][0]} and {differing[part][1]}" for part in forbidden)
        names = ",".join(forbidden)
        raise UsageError(
            f"{first.name} and {second.name} are not comparable ({differences}); --across {names} does it all the same"
        )
    return Comparison(
        first=first.name,
        second=second.name,
        changed=tuple((part, *values) for part, values in differing.items()) + _changed(a, b, both),
        figures=tuple(one for name in both for one in _figures(name, a[name], b[name], history)),
        only_first=tuple(name for name in a if name not in b),
        only_second=tuple(name for name in b if name not in a),
        disturbed=tuple(
            (run.name, name, f"{noise.reason}; {noise.marked} of {noise.slices} slices")
            for run, rows in ((first, a), (second, b))
            for name, record in rows.items()
            if (noise := record.disturbance).disturbed
        ),
    )


def _rows(run: Run) -> dict[str, Record]:
    """Comparable rows by name."""
    jobs = [record.job for record in run.records]
    return {label(record.job, jobs): record for record in run.records if record.comparable}


def _changed(a: Mapping[str, Record], b: Mapping[str, Record], both: Sequence[str]) -> tuple[tuple[str, str, str], ...]:
    """Facts that differ between the rows of both, each once."""
    differences: dict[tuple[str, str, str], None] = {}
    for name in both:
        before, after = _facts(a[name]), _facts(b[name])
        for fact in sorted({*before, *after}):
            if before.get(fact) != after.get(fact):
                differences[fact, str(before.get(fact, "not there")), str(after.get(fact, "not there"))] = None
    return tuple(differences)


def _facts(record: Record) -> dict[str, object]:
    machine = {name: record.machine.get(name) for name in MACHINE_FACTS}
    return {**machine, **record.versions, "commit": record.commit}


def _figures(name: str, a: Record, b: Record, history: History) -> list[Compared]:
    compared = []
    for figure in a.figures:
        other = next((f for f in b.figures if f.key == figure.key), None)
        if other is not None and min(figure.value or 0, other.value or 0) > 0:
            compared.append(_compared(name, a, b, figure, other, history))
    return compared


def _compared(name: str, a: Record, b: Record, figure: Figure, other: Figure, history: History) -> Compared:
    assert figure.value is not None
    assert other.value is not None
    sides = [series_key.digest(series_key.key(record)) for record in (a, b)]
    noises = [noise(history.get((side, figure.key), [])) for side in sides]
    ratio = other.value / figure.value
    low, high = _interval(ratio, noises, sides[0] == sides[1])
    missing = max(one.missing for one in noises)
    return Compared(name, figure.key, figure.unit, figure.value, other.value, ratio, low, high, missing)


def _interval(ratio: float, noises: Sequence[Noise], same: bool) -> tuple[float | None, float | None]:
    """Student's t on logarithms.

    For two different series the degrees of freedom are those of Welch and Satterthwaite (1947).
    """
    if any(one.missing for one in noises):
        return None, None
    variance = sum(one.variance for one in noises)
    degrees = noises[0].degrees
    if not same and variance > 0:
        degrees = variance**2 / sum(one.variance**2 / one.degrees for one in noises)
    half = student_t(degrees, 0.5 + CONFIDENCE / 2) * math.sqrt(variance)
    return ratio * math.exp(-half), ratio * math.exp(half)

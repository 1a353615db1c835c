"""Whether two backends train to the same accuracy: two one-sided tests over seeds. Pure functions.

Schuirmann 1987 (J. Pharmacokinet. Biopharm. 15): equivalent at level alpha exactly when the 1 - 2 alpha interval of
the mean difference lies within the margin. Seeds are pairs: the same initial weights, batches and pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from bench.analysis.intervals import student_t
from bench.records.record import Record

ALPHA = 0.05
MOST_SEEDS = 10_000
Kind = Literal["equivalent", "different", "inconclusive"]


@dataclass(frozen=True)
class Equivalence:
    """Of a mean difference: its 90% interval against the margin, all as fractions."""

    kind: Kind
    difference: float
    low: float | None
    high: float | None
    n: int
    seeds_needed: int | None = None
    """Where inconclusive: seeds with which the interval would settle it, if mean and spread stay as they are."""


def tost(differences: Sequence[float], margin: float) -> Equivalence:
    """The verdict on paired differences, one per seed.

    Raises:
        ValueError: no differences.
    """
    n = len(differences)
    if n == 0:
        raise ValueError("a test of equivalence needs at least one pair")
    mean = math.fsum(differences) / n
    if n == 1:
        return Equivalence("inconclusive", mean, None, None, 1)
    deviation = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1))
    half = _half_width(deviation, n)
    low, high = mean - half, mean + half
    if -margin <= low and high <= margin:
        return Equivalence("equivalent", mean, low, high, n)
    if low > margin or high < -margin:
        return Equivalence("different", mean, low, high, n)
    return Equivalence("inconclusive", mean, low, high, n, _needed(mean, deviation, margin, n))


def judge_pairs(records: Sequence[Record], margin: float) -> list[tuple[Record, Record, Equivalence]]:
    """The verdict on every pair of trained rows that share seeds; none where there is one seed only."""
    trained = [(record, by_seed) for record in records if (by_seed := _by_seed(record))]
    verdicts = []
    for (a, of_a), (b, of_b) in combinations(trained, 2):
        shared = sorted(of_a.keys() & of_b.keys())
        if len(shared) > 1:
            verdicts.append((a, b, tost([of_a[seed] - of_b[seed] for seed in shared], margin)))
    return verdicts


def _by_seed(record: Record) -> dict[int, float]:
    """Accuracies of a row that was trained, by number of the seed."""
    figure = record.figure("accuracy")
    if record.job.source is not None or figure is None or not record.comparable:
        return {}
    return {sample.round: sample.value for sample in figure.samples}


def _half_width(deviation: float, n: int) -> float:
    return student_t(n - 1, 1 - ALPHA) * deviation / math.sqrt(n)


def _needed(mean: float, deviation: float, margin: float, n: int) -> int | None:
    room = abs(abs(mean) - margin)
    if room == 0:
        return None
    low, high = n, MOST_SEEDS
    if _half_width(deviation, high) > room:
        return None
    while low < high:
        middle = (low + high) // 2
        if _half_width(deviation, middle) <= room:
            high = middle
        else:
            low = middle + 1
    return low

"""Verdicts of a gate: pure functions of the pairs' harms.

A *harm* is the natural logarithm of present over base, turned so that positive is worse (for accuracy the loss in
points). Pairs are a two-period crossover: the worker that begins alternates, and what the place costs is taken out
(Grizzle 1965, Biometrics 21:467; Senn 2002, "Cross-over Trials in Clinical Research", section 3.5).

Looks are preplanned, and every look has its own share of the error rate (alpha spending, Lan & DeMets 1983, Biometrika
70:659). The shares add up to ``ALPHA`` and no use is made of the looks' correlation, so that the union bound holds for
Student's t as it is. Intervals are repeated confidence intervals (Jennison & Turnbull 1989, JRSS B 51:305): those of a
figure hold together with 1 - 2 ALPHA, whenever its check stops. Over the figures of a check a regression, or an
improvement, must hold after Holm's correction (Holm 1979, Scandinavian Journal of Statistics 6:65), within each look.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.analysis.intervals import student_t
from bench.records.gate_result import Kind

ALPHA = 0.05
"""Error rate of a whole check in each direction: intervals are of 90%."""
LOOKS = (4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Pairs after which a check is judged; half of them each way round."""
POWER = 0.8
"""Chance with which the smallest effect that is printed would have been found."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Evidence:
    """Mean harm over pairs, its standard error and degrees of freedom, and the number of pairs."""

    harm: float
    error: float
    degrees: int
    pairs: int

    def bound(self, alpha: float) -> float:
        """Half-width of a one-sided interval of level 1 - alpha."""
        return student_t(self.degrees, 1 - alpha) * self.error


@dataclass(frozen=True)
class Verdict:
    """What a figure came to: the harm's interval, and the smallest true harm found with a chance of ``POWER``."""

    kind: Kind
    harm: float
    low: float
    high: float
    smallest: float
    reason: str = ""


def crossover(harms: Sequence[float], base_first: Sequence[bool]) -> Evidence | None:
    """Evidence of pairs of both orders: the mean of the two orders' means; None with fewer than two pairs each way."""
    groups = [
        [harm for harm, first in zip(harms, base_first, strict=True) if first == which] for which in (True, False)
    ]
    sizes = [len(group) for group in groups]
    if min(sizes) < 2:
        return None
    means = [math.fsum(group) / len(group) for group in groups]
    degrees = sum(sizes) - 2
    squares = math.fsum((harm - mean) ** 2 for group, mean in zip(groups, means, strict=True) for harm in group)
    error = math.sqrt(squares / degrees * (1 / sizes[0] + 1 / sizes[1]) / 4)
    return Evidence(math.fsum(means) / 2, error, degrees, sum(sizes))


def paired(harms: Sequence[float]) -> Evidence | None:
    """Evidence of pairs that have no order (seeds); None with fewer than two."""
    if len(harms) < 2:
        return None
    error = statistics.stdev(harms) / math.sqrt(len(harms))
    return Evidence(math.fsum(harms) / len(harms), error, len(harms) - 1, len(harms))


def share(look: int, looks: Sequence[int] = LOOKS) -> float:
    """What a look may spend of ``ALPHA``: in proportion to its pairs. A small harm is only found at the late looks; a
    large one still is at the early ones."""
    return ALPHA * look / sum(looks)


def judge(evidence: Mapping[Key, Evidence], margins: Mapping[Key, float], alpha: float) -> dict[Key, Verdict]:
    """Verdicts at one look that may spend ``alpha``, of the figures that no look before it has settled: Holm's
    correction is over those that are left, and a true null hypothesis among them falls with at most ``alpha``."""
    worse = _holm({key: _p_above(e, margins[key]) for key, e in evidence.items()}, alpha)
    better = _holm({key: _p_above(_mirrored(e), margins[key]) for key, e in evidence.items()}, alpha)
    alone = alpha / max(len(evidence), 1)
    return {key: _verdict(e, margins[key], alpha, alone, key in worse, key in better) for key, e in evidence.items()}


def _verdict(e: Evidence, margin: float, alpha: float, alone: float, worse: bool, better: bool) -> Verdict:
    """``alone`` is what a single regression among all figures has to pass after Holm's correction."""
    half = e.bound(alpha)
    low, high = e.harm - half, e.harm + half
    smallest = margin + e.bound(alone) + student_t(e.degrees, POWER) * e.error
    kind: Kind = "inconclusive"
    reason = f"the interval reaches over the margin of {100 * margin:.2g}%"
    if worse:
        kind, reason = "regression", ""
    elif better:
        kind, reason = "improvement", ""
    elif -margin < low and high < margin:
        kind, reason = "no change", ""
    elif low > margin or high < -margin:
        reason = "beyond the margin, but not after Holm's correction over the check's figures"
    return Verdict(kind, e.harm, low, high, smallest, reason)


def _holm(p_values: Mapping[Key, float], alpha: float) -> set[Key]:
    """The hypotheses that fall: in the order of p, each against alpha over those that are left."""
    fallen: set[Key] = set()
    for key, p in sorted(p_values.items(), key=lambda item: item[1]):
        if p > alpha / (len(p_values) - len(fallen)):
            break
        fallen.add(key)
    return fallen


def _p_above(e: Evidence, margin: float) -> float:
    """One-sided p-value against "the harm is at most the margin"."""
    if e.error == 0:
        return 0.0 if e.harm > margin else 1.0
    from scipy.special import stdtr

    return float(stdtr(e.degrees, -(e.harm - margin) / e.error))


def _mirrored(e: Evidence) -> Evidence:
    return Evidence(-e.harm, e.error, e.degrees, e.pairs)

"""Which layers explain that one side's step is slower than the other's.

Pairs of live processes are profiled one after the other. A layer's part is the mean over pairs of what it took longer,
as a share of the base's step, with Student's t interval; the level is divided by the number of layers (Bonferroni), so
that with equal sides none is blamed in 99 of 100 comparisons.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.intervals import student_t

LEVEL = 0.99
"""Of all layers' intervals together."""
LEAST = 0.002
"""Share of a step below which a difference is not worth a word, whatever its interval."""
UNMAPPED, BETWEEN = "(unmapped)", "(between operators)"
"""In place of a layer: operators of no known layer; the time in which no operator ran."""

Part = tuple[str, bool]
"""Layer, and whether its backward pass."""


@dataclass(frozen=True)
class Profile:
    """One process: seconds of a step, in all and by part."""

    step: float
    parts: Mapping[Part, float]


@dataclass(frozen=True)
class Blame:
    """What a part contributes. ``change``: of its own time, as a fraction; ``explains``: of the step's."""

    layer: str
    backward: bool
    base: float
    """Seconds of the base's step."""
    change: float | None
    """None: the base has no such part."""
    change_low: float | None
    change_high: float | None
    explains: float
    low: float
    high: float

    @property
    def blamed(self) -> bool:
        """Whether it is slower for certain, by more than nothing to speak of."""
        return self.low > 0 and self.explains >= LEAST

    @property
    def credited(self) -> bool:
        """Whether it is faster for certain."""
        return self.high < 0 and self.explains <= -LEAST

    @property
    def name(self) -> str:
        """``conv2d_2 backward``."""
        return f"{self.layer} backward" if self.backward else self.layer


def attribute(pairs: Sequence[tuple[Profile, Profile]]) -> list[Blame]:
    """Every part with its contribution, the largest first. At least two pairs of base and present.

    Raises:
        ValueError: fewer pairs.
    """
    if len(pairs) < 2:
        raise ValueError("two pairs at least show how much they differ")
    parts = sorted({part for pair in pairs for side in pair for part in side.parts})
    level = 1 - (1 - LEVEL) / max(1, len(parts))
    width = student_t(len(pairs) - 1, 0.5 + level / 2) / math.sqrt(len(pairs))
    found = [_blame(part, pairs, width) for part in parts]
    return sorted(found, key=lambda blame: -abs(blame.explains))


def _blame(part: Part, pairs: Sequence[tuple[Profile, Profile]], width: float) -> Blame:
    base = statistics.fmean(one.parts.get(part, 0.0) for one, _ in pairs)
    step = statistics.fmean(one.step for one, _ in pairs)
    differences = [(other.parts.get(part, 0.0) - one.parts.get(part, 0.0)) / step for one, other in pairs]
    mean, half = statistics.fmean(differences), width * statistics.stdev(differences)
    scale = step / base if base > 0 else None
    change, low, high = (None if scale is None else scale * each for each in (mean, mean - half, mean + half))
    return Blame(part[0], part[1], base, change, low, high, mean, mean - half, mean + half)

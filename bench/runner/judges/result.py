"""One check: what was found, beside the largest value that passes; and the error of an array."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.records.record import Check


@dataclass(frozen=True)
class Result:
    """One check. It passes if ``value`` is not above ``tolerance`` (NaN never passes)."""

    name: str
    value: float
    tolerance: float
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the value is within the tolerance."""
        return bool(self.value <= self.tolerance)

    @property
    def share(self) -> float:
        """The value over the tolerance; infinite if it is no number."""
        if not math.isfinite(self.value):
            return math.inf
        if self.tolerance == 0:
            return 0.0 if self.passed else math.inf
        return self.value / self.tolerance

    def to_record(self) -> Check:
        """For the record. A value that is not finite becomes the largest float, because JSON has no NaN."""
        return Check(
            name=self.name,
            value=float(self.value if math.isfinite(self.value) else np.finfo(np.float64).max),
            tolerance=float(self.tolerance),
            passed=self.passed,
            note=self.note,
            details=self.details,
        )


def worst_of(results: Iterable[Result]) -> list[Result]:
    """Of every check the result that is nearest to failing, or the farthest beyond."""
    worst: dict[str, Result] = {}
    for result in results:
        if result.name not in worst or result.share > worst[result.name].share:
            worst[result.name] = result
    return list(worst.values())


def relative_l2(got: npt.NDArray[Any], want: npt.NDArray[Any]) -> float:
    """||got - want|| / ||want|| (L2 over all elements, float64); infinite if the shapes differ."""
    if got.shape != want.shape:
        return float("inf")
    difference = np.linalg.norm(np.asarray(got, np.float64) - want)
    return float(difference / max(float(np.linalg.norm(want)), np.finfo(np.float64).tiny))


def relative_l2_of_all(pairs: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float:
    """The same over all pairs together, such as the tensors of a layer: before batch normalization, the gradient of a
    bias is only rounding."""
    if any(got.shape != want.shape for got, want in pairs):
        return float("inf")
    got, want = (np.concatenate([np.ravel(pair[side]) for pair in pairs]) for side in (0, 1))
    return relative_l2(got, want)

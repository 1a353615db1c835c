"""A value with its interval, or the reason for which there is none: one type from the worker to a table's cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Measured:
    """A central value with its 95% interval (None with fewer than two samples) and the number of samples."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 1


@dataclass(frozen=True)
class Missing:
    """Nothing was measured, for ``reason`` (one line)."""

    reason: str


Value: TypeAlias = Measured | Missing

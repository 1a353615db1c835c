"""What is read across runs: a run in a list, and series of one figure over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

FigureKey: TypeAlias = tuple[str, str | None, int | None, str | None]
"""Name, task, batch size, boundary."""


@dataclass(frozen=True)
class Listed:
    """A run in a list."""

    name: str
    started_at: str
    rows: tuple[str, ...]
    """``backend`` or ``backend: status`` of those that are not ok."""
    workloads: tuple[str, ...]
    machines: tuple[str, ...]
    commits: tuple[str, ...]
    tags: tuple[str, ...]
    acknowledged: str | None


@dataclass(frozen=True)
class Point:
    """A figure of one run in a series."""

    run: str
    started_at: str
    commit: str | None
    versions: dict[str, str]
    value: float
    low: float | None
    high: float | None
    acknowledged: str | None


@dataclass(frozen=True)
class Series:
    """A figure of a row over the runs of one comparability key, oldest first."""

    digest: str
    row: str
    """With its device, where that is not the CPU."""
    backend: str
    device: str
    workload: str
    machine: str
    figure: FigureKey
    unit: str
    points: tuple[Point, ...]

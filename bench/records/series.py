"""What is read across runs: a run in a list, and series of one figure over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bench.records.record import label
from bench.worker.protocol import RowKey

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
    key: RowKey
    model: str
    dataset: str
    recipe: str
    machine: str
    figure: FigureKey
    unit: str
    points: tuple[Point, ...]

    @property
    def workload(self) -> str:
        """``model/dataset/recipe``."""
        return f"{self.model}/{self.dataset}/{self.recipe}"


def row_name(series: Series, among: Sequence[Series]) -> str:
    """``onnxruntime <- keras``, with a device, precision and mode that are not the usual ones or differ ``among``."""
    usual = series.key._replace(device="cpu", precision="fp32")
    return label(series.key, [usual, *(other.key for other in among)])

"""Level shifts in stored series: when, by how much, what changed then, and the command that confirms them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis import change_points
from bench.records.metrics import METRICS
from bench.records.series import Point, Series
from bench.workloads import workload
from bench.workloads.onnx_file import RANDOM


@dataclass(frozen=True)
class LevelShift:
    """A new level of a series: ``first`` is its first run, ``last`` the last one before."""

    series: Series
    last: Point
    first: Point
    ratio: float
    """New level over the old one (geometric means)."""
    size: float
    """In standard deviations of the noise between runs."""
    noise: float
    """Relative standard deviation between runs."""
    points: int
    """Runs since then, to the next change."""

    @property
    def changed(self) -> dict[str, tuple[str, str]]:
        """Packages whose version changed between the two runs: old and new version by name."""
        before, after = self.last.versions, self.first.versions
        names = sorted({*before, *after})
        return {n: (before.get(n, ""), after.get(n, "")) for n in names if before.get(n) != after.get(n)}

    @property
    def confirm(self) -> str:
        """The command that measures both levels again, now. It is empty if no recorded version or commit differs, or if
        the gate does not judge the metric or the workload. A user's file is named without its folder."""
        name, task, batch_size, boundary = self.series.figure
        requirements = " ".join(f"{package}=={old}" for package, (old, _) in self.changed.items() if old)
        commit = self.last.commit
        gate = METRICS[name].gate if name in METRICS else None
        if gate is None or self.series.dataset == RANDOM:
            return ""
        if requirements:
            against = requirements
        elif commit and commit != self.first.commit and not commit.endswith("+dirty"):
            against = f"git:{commit[:12]}"
        else:
            return ""
        key = self.series.key
        options = ["--backend", key.backend, "--device", key.device, "--precision", key.precision, "--mode", key.mode]
        options += workload.as_options(self.series.model, self.series.dataset, self.series.recipe)
        options += ["--metric", gate]
        for option, value in (("--task", task), ("--boundary", boundary)):
            options += [option, value] if value else []
        options += ["--batch-size", str(batch_size)] if name == "throughput" else []
        return shlex.join(["bench", "check", "--against", against, *options])


def level_shifts(series: Series) -> list[LevelShift]:
    """Change points of one series, oldest first. Metrics that can be zero have none: levels are relative."""
    points = series.points
    if any(point.value <= 0 for point in points):
        return []
    changes = change_points.find_relative_changes([point.value for point in points])
    ends = [*(change.index for change in changes), len(points)][1:]
    return [
        LevelShift(
            series,
            last=points[change.index - 1],
            first=points[change.index],
            ratio=math.exp(change.after - change.before),
            size=change.size,
            noise=change.noise,
            points=end - change.index,
        )
        for change, end in zip(changes, ends, strict=True)
    ]


def all_level_shifts(series: Sequence[Series]) -> list[LevelShift]:
    """The level shifts of all series, newest first."""
    shifts = [shift for one in series for shift in level_shifts(one)]
    return sorted(shifts, key=lambda shift: shift.first.started_at, reverse=True)

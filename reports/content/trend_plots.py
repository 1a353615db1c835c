"""Plots of the history: a metric over time with its intervals; level shifts are marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bench.analysis.trends import LevelShift
from bench.records.metrics import METRICS, in_unit
from bench.records.series import Point, Series, row_name
from reports import plot as plots
from reports.content.cells import with_unit
from reports.content.comparison import metric_name
from reports.plot import Axis, Plot


@dataclass(frozen=True)
class Trend:
    """The plot of a series, and the values that the page's filters use."""

    row: str
    backend: str
    machine: str
    workload: str
    metric: str
    plot: Plot


def all_trends(series: Sequence[Series], shifts: Sequence[LevelShift]) -> list[Trend]:
    """One trend for each series that has points."""
    return [
        _trend(number, one, row_name(one, series), [shift for shift in shifts if shift.series is one])
        for number, one in enumerate(series)
        if one.points
    ]


def _trend(number: int, series: Series, row: str, shifts: Sequence[LevelShift]) -> Trend:
    name = metric_name(series.figure)
    title = f"{row}: {name}"
    scale, axis = _scale(series)
    first, last = series.points[0], series.points[-1]
    span = f"from {first.started_at} to {last.started_at}"
    words = [f"{len(series.points)} runs {span}; the last {with_unit(series.figure[0], last.value, series.unit)}"]
    words += [f"{100 * (shift.ratio - 1):+.1f}% since run {shift.first.run} ({changed(shift)})" for shift in shifts]
    lines = tuple((_seconds(shift.first), f"{100 * (shift.ratio - 1):+.1f}%: {changed(shift)}") for shift in shifts)
    axes = Axis("started [UTC]", dates=True), Axis(axis, from_zero=False)
    alternative = f"{title}: {'; '.join(words)}."
    plot = Plot(f"series-{number}", title, *axes, (_line(row, series, scale),), alternative, lines=lines)
    return Trend(row, series.key.backend, series.machine, series.workload, name, plot)


def _scale(series: Series) -> tuple[float, str]:
    """The factor from stored to shown values, and the title of the axis. A metric that this version does not know has
    factor 1."""
    metric = METRICS.get(series.figure[0])
    if metric is None:
        return 1.0, f"{series.figure[0]} [{series.unit}]"
    metric = in_unit(metric, series.unit)
    return metric.quantity.factor, metric.titled(metric.title, always=True)


def _line(row: str, series: Series, scale: float) -> plots.Series:
    low, high = (
        tuple(None if bound is None else scale * bound for bound in bounds)
        for bounds in ([point.low for point in series.points], [point.high for point in series.points])
    )
    xs = tuple(_seconds(point) for point in series.points)
    ys = tuple(scale * point.value for point in series.points)
    return plots.Series(row, "line", xs, ys, low, high, hover=tuple(_hover(point) for point in series.points))


def changed(shift: LevelShift) -> str:
    """The versions and the commit that differ since the shift."""
    changes = [f"{name} {old or 'not there'} to {new or 'not there'}" for name, (old, new) in shift.changed.items()]
    if shift.last.commit != shift.first.commit:
        changes.append(f"commit {(shift.last.commit or 'none')[:12]} to {(shift.first.commit or 'none')[:12]}")
    if shift.first.acknowledged:
        changes.append(f"acknowledged: {shift.first.acknowledged}")
    return "; ".join(changes) or "nothing that was recorded"


def _seconds(point: Point) -> float:
    return datetime.fromisoformat(point.started_at).timestamp()


def _hover(point: Point) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in list(point.versions.items())[:3])
    return f"run {point.run}, commit {(point.commit or 'none')[:12]}; {versions}"

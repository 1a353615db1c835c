"""Series of the history as plots: the figure over time with its intervals, changes of level marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bench.analysis.trends import Turn
from bench.records.series import Point, Series, row_name
from reports import plot as plots
from reports.content.comparison import metric_name
from reports.plot import Axis, Plot


@dataclass(frozen=True)
class Trend:
    """A series with its plot, and by what a reader may filter it."""

    row: str
    backend: str
    machine: str
    workload: str
    figure: str
    plot: Plot


def of(series: Sequence[Series], turns: Sequence[Turn]) -> list[Trend]:
    """One per series that has points."""
    return [
        _trend(number, one, row_name(one, series), [t for t in turns if t.series is one])
        for number, one in enumerate(series)
        if one.points
    ]


def _trend(number: int, series: Series, row: str, turns: Sequence[Turn]) -> Trend:
    figure = metric_name(series.figure)
    title = f"{row}: {figure}"
    xs = tuple(_seconds(point) for point in series.points)
    marks = plots.Series(
        row,
        "line",
        xs,
        tuple(point.value for point in series.points),
        tuple(point.low for point in series.points),
        tuple(point.high for point in series.points),
        hover=tuple(_hover(point) for point in series.points),
    )
    first, last = series.points[0], series.points[-1]
    span = f"from {first.started_at} to {last.started_at}"
    told = [f"{len(series.points)} runs {span}; the last {last.value:.4g} {series.unit}"]
    told += [f"{100 * (turn.ratio - 1):+.1f}% since run {turn.first.run} ({changed(turn)})" for turn in turns]
    lines = tuple((_seconds(turn.first), f"{100 * (turn.ratio - 1):+.1f}%: {changed(turn)}") for turn in turns)
    axes = Axis("started [UTC]", dates=True), Axis(f"{series.figure[0]} [{series.unit}]", from_zero=False)
    alternative = f"{title}: {'; '.join(told)}."
    plot = Plot(f"series-{number}", title, *axes, (marks,), alternative, lines=lines)
    return Trend(row, series.key.backend, series.machine, series.workload, figure, plot)


def changed(turn: Turn) -> str:
    """Versions and commit that are others since then."""
    told = [f"{name} {old or 'not there'} to {new or 'not there'}" for name, (old, new) in turn.changed.items()]
    if turn.last.commit != turn.first.commit:
        told.append(f"commit {(turn.last.commit or 'none')[:12]} to {(turn.first.commit or 'none')[:12]}")
    if turn.first.acknowledged:
        told.append(f"acknowledged: {turn.first.acknowledged}")
    return "; ".join(told) or "nothing that was recorded"


def _seconds(point: Point) -> float:
    return datetime.fromisoformat(point.started_at).timestamp()


def _hover(point: Point) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in list(point.versions.items())[:3])
    return f"run {point.run}, commit {(point.commit or 'none')[:12]}; {versions}"

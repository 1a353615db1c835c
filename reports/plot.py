"""What a plot is, apart from who draws it (``reports.render.plotly``, ``reports.render.images``).

Every plot has a title, axes with units, and a text alternative that says what a reader would see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["bars", "points", "line", "steps"]


@dataclass(frozen=True)
class Axis:
    """``title`` has the unit in brackets. ``categories``: the axis counts them, in this order. ``dates``: its values
    are seconds since 1970 (UTC)."""

    title: str
    log: bool = False
    categories: tuple[str, ...] = ()
    dates: bool = False
    from_zero: bool = True
    ticks: tuple[float, ...] = ()
    """Where there are ticks; empty: where whoever draws puts them."""


@dataclass(frozen=True)
class Series:
    """Marks of one colour; ``low`` and ``high`` are the ends of intervals around the values. On an axis of categories a
    value is its number. Bars lie along the other axis and begin at ``base``."""

    name: str
    kind: Kind
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()
    base: tuple[float, ...] = ()
    colour: int = 0
    """Index into the palette."""
    listed: bool = True
    """In the legend."""
    hover: tuple[str, ...] = ()
    """What more is said of each value where the pointer is."""


@dataclass(frozen=True)
class Plot:
    """A chart of series, with whatever marks stand behind them."""

    key: str
    """Name of its file and of its place in the page."""
    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    alternative: str
    band: tuple[float, float] | None = None
    """A range of x that is shaded: no harm."""
    lines: tuple[tuple[float, str], ...] = ()
    """Places on x that are marked by a vertical line, with what is written beside it."""


@dataclass(frozen=True)
class HeatMap:
    """Counts by row (y) and column (x)."""

    key: str
    title: str
    x: Axis
    y: Axis
    counts: tuple[tuple[int, ...], ...]
    alternative: str


@dataclass(frozen=True)
class Section:
    """Plots of one kind under one heading."""

    key: str
    heading: str
    text: str
    plots: tuple[Plot | HeatMap, ...]

"""The data of a plot, independent of the renderers (``reports.render.plotly``, ``reports.render.images``).

Every plot has a title, axes with units, and a text alternative that states what the plot shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["bars", "points", "line", "steps"]


@dataclass(frozen=True)
class Axis:
    """``title`` has the unit in brackets. ``categories``: the axis shows these names, in this order, at 0, 1, 2, ...
    ``dates``: the values are seconds since 1970 (UTC)."""

    title: str
    log: bool = False
    categories: tuple[str, ...] = ()
    dates: bool = False
    from_zero: bool = True
    ticks: tuple[float, ...] = ()
    """Positions of the ticks; empty: the renderer chooses them."""


@dataclass(frozen=True)
class Series:
    """Marks of one colour. ``low`` and ``high`` are the ends of the intervals around the values. On an axis of
    categories a value is the index of its category. Bars are horizontal and begin at ``base``."""

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
    """Whether the legend shows it."""
    hover: tuple[str, ...] = ()
    """Additional text of each value, shown when the pointer is on it."""


@dataclass(frozen=True)
class Plot:
    """A chart of series, with a shaded band and vertical lines behind them."""

    key: str
    """The name of its files and its id in the page."""
    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    alternative: str
    band: tuple[float, float] | None = None
    """A shaded range of x: changes within the margin."""
    lines: tuple[tuple[float, str], ...] = ()
    """Vertical lines: position on x, and the text beside the line."""


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

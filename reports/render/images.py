"""Writes plots as SVG and PNG files with matplotlib, without a browser."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from reports.plot import Axis, HeatMap, Plot, Section, Series
from reports.render.plotly import LABEL, PALETTE
from reports.table import printable

DASHES = ("-", "--", ":", "-.")
DPI = 150
WIDTH, ROW, REST = 8.0, 0.34, 1.6
"""Inches: width of an image, height of a category, height of everything around the categories."""


def write(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Write every plot as ``KEY.svg`` and ``KEY.png`` into the folder, which is created.

    Raises:
        BenchError: a file cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for section in sections:
            for plot in section.plots:
                written += _files(plot, folder)
    except OSError as error:
        raise BenchError(
            f"cannot write plots to {folder}: {error.strerror or error}; give another --figures"
        ) from error
    return written


def png(plot: Plot | HeatMap) -> tuple[int, int, bytes]:
    """Height and width in pixels, and the content of a PNG file."""
    figure, buffer = _figure(plot), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    width, height = (round(DPI * inches) for inches in figure.get_size_inches())
    return height, width, buffer.getvalue()


def _files(plot: Plot | HeatMap, folder: Path) -> list[Path]:
    figure = _figure(plot)
    svg, raster = folder / f"{plot.key}.svg", folder / f"{plot.key}.png"
    description = printable(plot.alternative)
    figure.savefig(svg, metadata={"Title": printable(plot.title), "Description": description, "Date": None})
    figure.set_layout_engine("none")  # it keeps the places that it has
    figure.savefig(raster, dpi=DPI, metadata={"Title": printable(plot.title), "Description": description})
    return [svg, raster]


def _figure(plot: Plot | HeatMap) -> Any:
    from matplotlib.figure import Figure

    rows = len(plot.y.categories)
    height = max(3.2, REST + ROW * rows) if rows else 4.2
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(_plain(plot.title), loc="left", fontsize=11)
    if isinstance(plot, HeatMap):
        _heat_map(axes, figure, plot)
    else:
        _chart(axes, plot)
    return figure


def _chart(axes: Any, plot: Plot) -> None:
    if plot.band is not None:
        axes.axvspan(*plot.band, color="0.5", alpha=0.2, linewidth=0)
    for series in plot.series:
        _draw(axes, replace(series, x=_places(series.x)) if plot.x.dates else series)
    for at, what in plot.lines:
        place = _places((at,))[0] if plot.x.dates else at
        axes.axvline(place, color=PALETTE[1], linestyle=":")
        text = textwrap.fill(_plain(what), 40)
        axes.text(place, 0.98, text, rotation=90, va="top", fontsize=7, transform=axes.get_xaxis_transform())
    _scale(axes.xaxis, axes.set_xscale, plot.x)
    _scale(axes.yaxis, axes.set_yscale, plot.y)
    if plot.y.categories:
        axes.set_ylim(-0.6, len(plot.y.categories) - 0.4)
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3)
    if sum(series.listed for series in plot.series) > 1:
        axes.legend(fontsize=8)


def _draw(axes: Any, series: Series) -> None:
    colour = PALETTE[series.colour % len(PALETTE)]
    name = _plain(series.name) if series.listed else None
    if series.kind == "bars":
        base = series.base or (0.0,) * len(series.x)
        lengths = [x - b for x, b in zip(series.x, base, strict=True)]
        errors = _errors(series, series.x)
        axes.barh(series.y, lengths, 0.62, base, color=colour, alpha=0.85, label=name, xerr=errors, capsize=3)
    elif series.kind == "points":
        if (errors := _errors(series, series.x)) is not None:
            axes.errorbar(series.x, series.y, xerr=errors, fmt="none", ecolor=colour, capsize=3)
        axes.scatter(series.x, series.y, s=26, facecolors="none", edgecolors=colour, label=name, zorder=3)
    elif series.kind == "steps":
        axes.step(series.x, series.y, where="post", color=colour, linestyle=_dash(series), label=name)
    else:
        errors = _errors(series, series.y)
        style = {"color": colour, "linestyle": _dash(series), "marker": "o", "markersize": 3.5}
        axes.errorbar(series.x, series.y, yerr=errors, label=name, capsize=2, **style)


def _places(seconds: Sequence[float]) -> tuple[float, ...]:
    """Seconds since 1970 as matplotlib's dates, which are days."""
    return tuple(second / 86400 for second in seconds)


def _dash(series: Series) -> str:
    return DASHES[series.colour // len(PALETTE) % len(DASHES)]


def _errors(series: Series, values: Sequence[float]) -> list[list[float]] | None:
    if not any(low is not None for low in series.low):
        return None
    ends = list(zip(values, series.low, series.high, strict=True))
    below = [0.0 if low is None else value - low for value, low, _ in ends]
    return [below, [0.0 if high is None else high - value for value, _, high in ends]]


def _scale(axis: Any, set_scale: Any, spec: Axis) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_label_text(_plain(spec.title))
    if spec.log:
        set_scale("log")
    if spec.ticks:
        axis.set_ticks(spec.ticks, [f"{tick:g}" for tick in spec.ticks])
        axis.set_minor_locator(NullLocator())
    if spec.dates:
        axis.axis_date()
    if spec.categories:
        axis.set_ticks(
            range(len(spec.categories)), [textwrap.fill(_plain(c), LABEL) for c in spec.categories], fontsize=8
        )


def _heat_map(axes: Any, figure: Any, plot: HeatMap) -> None:
    image = axes.imshow(plot.counts, cmap="cividis", aspect="auto")
    figure.colorbar(image, ax=axes, label="images")
    _scale(axes.xaxis, axes.set_xscale, plot.x)
    _scale(axes.yaxis, axes.set_yscale, plot.y)
    axes.tick_params(axis="x", rotation=45)
    most = max(map(max, plot.counts), default=0)
    for i, row in enumerate(plot.counts if len(plot.counts) <= 12 else ()):
        for j, count in enumerate(row):
            if count:
                axes.text(j, i, count, ha="center", va="center", fontsize=7, color="w" if 2 * count < most else "k")


def _plain(foreign: str) -> str:
    """Foreign text without line breaks; dollar signs are escaped, which matplotlib would read as mathematics."""
    return printable(foreign).replace("$", r"\$")

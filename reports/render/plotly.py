"""Plots as Plotly figures: plain dictionaries (https://plotly.com/javascript/reference/) that the page draws."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from reports.plot import Axis, HeatMap, Plot, Series
from reports.table import printable

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
"""Okabe & Ito 2008: colour-blind readers can distinguish them. Its yellow and black are replaced: they are not legible
on both a light and a dark background."""
CIVIDIS = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838")
"""Nuñez, Anderton & Renslow 2018: its order is seen in grey and by colour-blind readers. Ten of its colours."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
"""Lines beyond the number of colours have another dash."""
LABEL = 24
"""Characters per line of a label: more do not fit on a phone."""
ROW, REST, LEGEND = 30, 130, 16
"""Heights in pixels: of a category, of everything around the categories, of an entry of the legend (on a phone each
entry is a line)."""
DIGITS = 6
"""Significant digits of the numbers of a plot; its hover text shows four."""


def figure(plot: Plot | HeatMap) -> dict[str, Any]:
    """``{"data", "layout"}``, numbers to six significant digits. The page sets the colours of text and grid."""
    drawn: dict[str, Any] = _rounded(_heat_map(plot) if isinstance(plot, HeatMap) else _chart(plot))
    return drawn


def _chart(plot: Plot) -> dict[str, Any]:
    data = [_trace(series, plot) for series in plot.series]
    shapes = [] if plot.band is None else [_band(*plot.band)]
    lines = [(_date(x) if plot.x.dates else x, what) for x, what in plot.lines]
    shapes += [_line(x) for x, _ in lines]
    rows, listed = len(plot.y.categories), sum(series.listed for series in plot.series)
    layout = {
        "xaxis": _axis(plot.x),
        "yaxis": _axis(plot.y),
        "shapes": shapes,
        "annotations": [_written(x, what) for x, what in lines if what],
        "barmode": "overlay",
        "showlegend": listed > 1,
        "legend": {"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        "margin": {"l": 10, "r": 20, "t": 20, "b": 50},
        "height": (max(320, REST + ROW * rows) if rows else 360) + LEGEND * max(0, listed - 2),
        "hovermode": "closest",
    }
    return {"data": data, "layout": layout}


def _rounded(part: Any) -> Any:
    """Nobody sees a seventh digit, and all digits of all points are a tenth of a page."""
    if isinstance(part, float):
        return float(f"{part:.{DIGITS}g}")
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        return {name: _rounded(each) for name, each in part.items()}
    return [_rounded(each) for each in part] if isinstance(part, list | tuple) else part


def text(foreign: str) -> str:
    """Foreign text, escaped: Plotly interprets a subset of HTML in every text."""
    return html.escape(printable(foreign), quote=False)


def _trace(series: Series, plot: Plot) -> dict[str, Any]:
    colour = PALETTE[series.colour % len(PALETTE)]
    shared: dict[str, Any] = {"name": text(series.name), "showlegend": series.listed, "legendgroup": text(series.name)}
    more = "<br>%{text}" if series.hover else ""
    hover = f"{_hovered('x', plot.x)}<br>{_hovered('y', plot.y)}{more}<extra>{text(series.name)}</extra>"
    if series.hover:
        shared |= {"text": [text(line) for line in series.hover]}
    if series.kind == "bars":
        base = series.base or (0.0,) * len(series.x)
        trace = {
            **shared,
            "type": "bar",
            "orientation": "h",
            "x": [x - b for x, b in zip(series.x, base, strict=True)],
            "base": list(base),
            "y": list(series.y),
            "width": 0.62,
            "marker": {"color": colour, "opacity": 0.85},
            "hovertemplate": hover,
        }
        return {**trace, **_interval("error_x", series, series.x)}
    xs = [_date(x) for x in series.x] if plot.x.dates else list(series.x)
    trace = {**shared, "type": "scatter", "x": xs, "y": list(series.y), "hovertemplate": hover}
    if series.kind == "points":
        marker = {"color": colour, "size": 7, "symbol": "circle-open", "line": {"width": 1.6}}
        return {**trace, "mode": "markers", "marker": marker, **_interval("error_x", series, series.x)}
    dash = DASHES[series.colour // len(PALETTE) % len(DASHES)]
    line = {"color": colour, "width": 2, "dash": dash, "shape": "hv" if series.kind == "steps" else "linear"}
    mode = "lines" if series.kind == "steps" else "lines+markers"
    return {**trace, "mode": mode, "line": line, "marker": {"size": 5}, **_interval("error_y", series, series.y)}


def _interval(name: str, series: Series, values: Sequence[float]) -> Mapping[str, Any]:
    if not any(low is not None for low in series.low):
        return {}
    ends = list(zip(values, series.low, series.high, strict=True))
    return {
        name: {
            "type": "data",
            "symmetric": False,
            "array": [0.0 if high is None else high - value for value, _, high in ends],
            "arrayminus": [0.0 if low is None else value - low for value, low, _ in ends],
            "thickness": 1.6,
        }
    }


def _hovered(name: str, axis: Axis) -> str:
    if axis.categories:
        return f"%{{{name}}}"
    return f"{text(axis.title)}: %{{{name}}}" if axis.dates else f"{text(axis.title)}: %{{{name}:.4g}}"


def _axis(axis: Axis) -> dict[str, Any]:
    layout: dict[str, Any] = {
        "title": {"text": text(axis.title), "standoff": 12},
        "automargin": True,
        "zeroline": False,
    }
    if axis.categories:
        places = list(range(len(axis.categories)))
        edges = [-0.6, len(places) - 0.4]
        return {**layout, "tickvals": places, "ticktext": [_wrapped(c) for c in axis.categories], "range": edges}
    if axis.ticks:
        layout |= {"tickvals": list(axis.ticks)}
    kind = {"type": "date"} if axis.dates else {"type": "log"} if axis.log else {}
    return {**layout, **(kind or ({"rangemode": "tozero"} if axis.from_zero else {}))}


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


@cache
def _wrapped(label: str) -> str:
    lines = textwrap.wrap(printable(label), LABEL) or [""]
    return "<br>".join(text(line) for line in lines)


def _band(low: float, high: float) -> dict[str, Any]:
    return {
        "type": "rect", "xref": "x", "yref": "paper", "x0": low, "x1": high, "y0": 0, "y1": 1,
        "fillcolor": "rgba(128,128,128,0.22)", "line": {"width": 0}, "layer": "below",
    }  # fmt: skip


def _line(x: float | str) -> dict[str, Any]:
    line = {"dash": "dot", "width": 1.5, "color": PALETTE[1]}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": line}


def _written(x: float | str, what: str) -> dict[str, Any]:
    return {
        "x": x, "xref": "x", "y": 1, "yref": "paper", "yanchor": "top", "xanchor": "left", "textangle": 90,
        "text": "<br>".join(text(line) for line in textwrap.wrap(printable(what), 40)), "showarrow": False,
        "font": {"size": 11}, "align": "left",
    }  # fmt: skip


def _heat_map(plot: HeatMap) -> dict[str, Any]:
    rows, columns = plot.y.categories, plot.x.categories
    layout = {
        "xaxis": {**_axis(plot.x), "tickangle": 45, "range": [-0.5, len(columns) - 0.5]},
        "barmode": "overlay",
        "yaxis": {**_axis(plot.y), "range": [len(rows) - 0.5, -0.5]},
        "margin": {"l": 10, "r": 10, "t": 20, "b": 50},
        "height": REST + ROW * len(rows),
    }
    cells = [(i, j, count) for i, row in enumerate(plot.counts) for j, count in enumerate(row) if count]
    most = max((count for _, _, count in cells), default=1)
    trace = {  # bars of equal length, side by side: the basic bundle has no heat map
        "type": "bar",
        "orientation": "h",
        "base": [j - 0.5 for _, j, _ in cells],
        "x": [1] * len(cells),
        "y": [i for i, _, _ in cells],
        "width": 1,
        "marker": {"color": [_cividis(count / most) for _, _, count in cells]},
        "text": [str(count) for _, _, count in cells],
        "textposition": "inside" if len(rows) <= 12 else "none",
        "insidetextanchor": "middle",
        "insidetextfont": {"color": [_on_cividis(count / most) for _, _, count in cells]},
        "textangle": 0,
        "customdata": [text(columns[j]) for _, j, _ in cells],
        "hovertemplate": "true %{y}, predicted %{customdata}: %{text} images<extra></extra>",
    }
    scale = {  # nothing but the colour bar: as numbers, the colours of bars make Plotly write warnings
        "type": "scatter",
        "mode": "markers",
        "x": [None],
        "y": [None],
        "showlegend": False,
        "marker": {
            "colorscale": [[i / (len(CIVIDIS) - 1), colour] for i, colour in enumerate(CIVIDIS)],
            "cmin": 0,
            "cmax": most,
            "showscale": True,
            "colorbar": {"title": {"text": "images"}},
        },
    }
    return {"data": [{**trace, "showlegend": False}, scale], "layout": layout}


def _cividis(share: float) -> str:
    """The colour at this place of the scale, between its two nearest colours."""
    place = share * (len(CIVIDIS) - 1)
    index = min(int(place), len(CIVIDIS) - 2)
    ends = [[int(CIVIDIS[i][c : c + 2], 16) for c in (1, 3, 5)] for i in (index, index + 1)]
    mixed = [round(low + (high - low) * (place - index)) for low, high in zip(*ends, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _on_cividis(share: float) -> str:
    """A colour that is legible on this place of the scale, which goes from dark to light."""
    return "#000000" if share > 0.55 else "#ffffff"

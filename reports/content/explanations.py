"""Which layers a step is made of, and which of them explain a change."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.attribution import LEAST
from bench.records.explanation import Explained, Explanation
from bench.records.gate_result import Check, MetricVerdict
from reports.content.comparison import metric_name
from reports.plot import Axis, Plot, Section, Series
from reports.table import Table

MOST_PARTS = 12
"""In a table or plot; those that explain less are left to the record."""


def sentences(check: Check) -> list[str]:
    """Of every explained regression: ``conv2d_2 backward +9% [7, 11] explains 1.7 of the 2.0%``."""
    lines = []
    for one in check.figures:
        if one.explained is None:
            continue
        where = f"{one.label}, {metric_name((one.name, one.task, one.batch_size, one.boundary))}"
        if one.explained.reason:
            lines.append(f"{where}: not explained: {one.explained.reason}")
            continue
        blamed = [part for part in one.explained.parts if part.blamed]
        lines += [f"{where}: {_sentence(part, one.explained)}" for part in blamed]
        if not blamed:
            lines.append(f"{where}: no layer is slower for certain in {one.explained.pairs} pairs of profiles")
        lines.append(
            f"{where}: the profiler itself adds {100 * (one.explained.overhead or 0.0):.0f}% to a step;"
            f" {one.explained.pairs} pairs of processes, intervals of all layers together 99%"
        )
    return lines


def _sentence(part: Explanation, explained: Explained) -> str:
    name = _name(part)
    share = f"explains {100 * part.explains:.1f} of the {100 * (explained.change or 0.0):.1f}%"
    if part.change is None or part.low is None or part.high is None:
        return f"{name} is new: {share}"
    return f"{name} {100 * part.change:+.0f}% [{100 * part.low:.0f}, {100 * part.high:.0f}] {share}"


def _name(part: Explanation) -> str:
    return f"{part.layer} backward" if part.backward else part.layer


def tables(check: Check) -> list[Table]:
    """The parts of every explained regression."""
    return [_table(one, one.explained) for one in check.figures if one.explained is not None and one.explained.parts]


def _table(one: MetricVerdict, explained: Explained) -> Table:
    cells = [
        [
            _name(part),
            f"{1e6 * part.seconds:,.0f}",
            "new" if part.change is None else f"{100 * part.change:+.1f}%",
            f"{100 * part.explains:+.2f}%",
            f"[{100 * part.explains_low:+.2f}, {100 * part.explains_high:+.2f}]",
            "slower" if part.blamed else "",
        ]
        for part in _largest(explained.parts)
    ]
    where = metric_name((one.name, one.task, one.batch_size, one.boundary))
    heading = f"Why {one.label}, {where}, changed (of a step; {explained.pairs} pairs of processes under the profiler)"
    headers = ["layer", "base [us]", "its change", "of the step", "interval", ""]
    return Table(heading, headers, cells, numbers_from=1, optional_columns=(2, 1))


def _largest(parts: Sequence[Explanation]) -> Sequence[Explanation]:
    return [part for number, part in enumerate(parts) if part.blamed or number < MOST_PARTS]


def sections(check: Check) -> list[Section]:
    """A plot of every explained regression."""
    plots = [_plot(one, one.explained) for one in check.figures if one.explained is not None and one.explained.parts]
    note = "Each layer's part in the change of a step, in percent of the base's step; intervals of all layers are 99%."
    return [Section("operators", "Operators", note, tuple(plots))] if plots else []


def _plot(one: MetricVerdict, explained: Explained) -> Plot:
    parts = [part for part in _largest(explained.parts) if abs(part.explains) >= LEAST / 10][::-1]
    at = tuple(float(number) for number in range(len(parts)))
    values, low, high = (
        tuple(100 * getattr(part, name) for part in parts) for name in ("explains", "explains_low", "explains_high")
    )
    where = metric_name((one.name, one.task, one.batch_size, one.boundary))
    title = f"Parts in the change of {one.label}, {where}"
    bars = Series("part", "bars", values, at, low, high)
    rows = Axis("layer", categories=tuple(_name(part) for part in parts))
    words = "; ".join(f"{_name(part)} {100 * part.explains:+.1f}%" for part in reversed(parts))
    key = f"operators-{one.name}-{one.task}-{one.label}".replace(" ", "-").replace("<", "from")
    return Plot(key, title, Axis("part of the change [% of a step]"), rows, (bars,), f"{title}: {words}.")

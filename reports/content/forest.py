"""Forest plots of a check and of two stored runs: changes with their intervals, the margin shaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.run_comparison import Comparison
from bench.records.gate_result import Check
from reports.content.comparison import metric_name
from reports.content.verdicts import change, unit
from reports.plot import Axis, Plot, Section, Series


@dataclass(frozen=True)
class Effect:
    """One line of a forest plot, in percent (accuracy in points)."""

    label: str
    value: float
    low: float | None
    high: float | None
    text: str


def check_sections(check: Check) -> list[Section]:
    """One plot per metric: the verdicts of the rows of a check."""
    plots = []
    for name in dict.fromkeys(one.name for one in check.figures):
        ones = [one for one in check.figures if one.name == name and one.change is not None]
        effects = [
            Effect(
                f"{one.label}, {metric_name((one.name, one.task, one.batch_size, one.boundary))}",
                100 * (one.change or 0.0),
                None if one.low is None else 100 * one.low,
                None if one.high is None else 100 * one.high,
                f"{one.verdict} {' '.join(change(one))}",
            )
            for one in ones
        ]
        if effects:
            margin = 100 * ones[0].margin
            title = f"{name}: {check.present.label} against {check.base.label}"
            plots.append(
                _plot(f"forest-{name}", title, f"change [{unit(ones[0]).strip()}]", effects, (-margin, margin))
            )
    return _sections(plots, "Change of the present against the base, with the interval that is valid at every look. The"
                     " shaded band is the margin.")  # fmt: skip


def comparison_sections(comparison: Comparison, margins: Mapping[str, float]) -> list[Section]:
    """One plot per metric: the second run over the first."""
    plots = []
    for name in dict.fromkeys(one.figure[0] for one in comparison.figures):
        effects = [
            Effect(
                f"{one.row}, {metric_name(one.figure)}",
                100 * (one.ratio - 1),
                None if one.low is None else 100 * (one.low - 1),
                None if one.high is None else 100 * (one.high - 1),
                f"{100 * (one.ratio - 1):+.2f}%",
            )
            for one in comparison.figures
            if one.figure[0] == name
        ]
        title = f"{name}: {comparison.second} over {comparison.first}"
        margin = margins.get(name)
        band = None if margin is None else (-100 * margin, 100 * margin)
        plots.append(_plot(f"forest-{name}", title, "change [%]", effects, band))
    return _sections(plots, "Change of the second over the first, with 95% intervals that include the variance between"
                     " runs (none if the history is too short). The shaded band is the gate's margin.")  # fmt: skip


def _sections(plots: Sequence[Plot], text: str) -> list[Section]:
    return [Section("forest", "Changes", text, tuple(plots))] if plots else []


def _plot(key: str, title: str, axis: str, effects: Sequence[Effect], band: tuple[float, float] | None) -> Plot:
    effects = effects[::-1]  # the first is on top
    values = tuple(effect.value for effect in effects)
    places = tuple(float(i) for i in range(len(effects)))
    series = Series("change", "points", values, places, tuple(e.low for e in effects), tuple(e.high for e in effects))
    changes = "; ".join(f"{effect.label}: {effect.text}" for effect in reversed(effects))
    rows = Axis("row and metric", categories=tuple(effect.label for effect in effects))
    return Plot(key, title, Axis(axis), rows, (series,), f"{title}: {changes}.", band, ((0.0, ""),))

"""Texts of single values, shared by tables, plots and footnotes."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.metrics import METRICS, decisive, in_unit
from bench.records.record import Figure, Record


def process_count(records: Sequence[Record]) -> str:
    """The number of processes that the speeds of a run were measured in: ``n = 3 processes, ± 95%``."""
    names = decisive()
    if not any(figure.name in names for record in records for figure in record.figures):  # under load
        names = {metric.name for metric in METRICS.values() if metric.group == "load"}
    counts = {figure.n for record in records for figure in record.figures if figure.name in names} - {0}
    if not counts:
        return "no process"
    low, high = min(counts), max(counts)
    if high == 1:
        return "n = 1 process"
    return f"n = {high} processes, ± 95%" if low == high else f"n = {low} to {high} processes, ± 95%"


def value_with_interval(figure: Figure) -> str:
    """A value with its interval, in the unit that the table's head names. ``figure.value`` must not be None."""
    metric = in_unit(METRICS[figure.name], figure.unit)
    shown = metric.shown(figure.value or 0.0)
    if metric.quantity.absolute and figure.low is not None and figure.high is not None:
        return f"{shown} ±{metric.shown((figure.high - figure.low) / 2)}"
    return shown + half_width(figure)


def with_unit(name: str, value: float, unit: str, digits: int = 4) -> str:
    """A value with its unit, to ``digits`` significant digits. The unit is that of tables; a metric that this version
    does not know keeps its stored unit."""
    return in_unit(METRICS[name], unit).with_unit(value, digits) if name in METRICS else f"{value:.{digits}g} {unit}"


def why_not_measured(record: Record, figure: Figure | None) -> str:
    """The reason why there is no value."""
    if figure is None:
        return f"{record.status}: {record.error}" if record.error else "not part of this run"
    return figure.reason or record.error or "no reason was recorded"


def half_width(figure: Figure) -> str:
    """`` ±2.1%``: half-width of the 95% interval on a logarithmic scale; empty without an interval."""
    if figure.low is None or figure.high is None or figure.low <= 0:
        return ""
    return f" ±{percent((figure.high / figure.low) ** 0.5 - 1)}"


def percent(share: float) -> str:
    """``2.1%``, ``12%``, ``>1000%``."""
    if share >= 10:
        return ">1000%"
    return f"{100 * share:.1f}%" if share < 0.0995 else f"{100 * share:.0f}%"

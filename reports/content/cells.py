"""Small texts that tables and footnotes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.records.record import Figure, Record


def processes(records: Sequence[Record]) -> str:
    counts = {
        figure.n for record in records for figure in record.figures if figure.name in ("throughput", "latency_p50")
    } - {0}
    if not counts:
        return "no process"
    low, high = min(counts), max(counts)
    if high == 1:
        return "n = 1 process"
    return f"n = {high} processes, ± 95%" if low == high else f"n = {low} to {high} processes, ± 95%"


def seconds(value: float) -> str:
    return f"{value:.3g}"


def milliseconds(value: float) -> str:
    return f"{1e3 * value:.3g}"


def megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f}"


def kilobytes(value: float) -> str:
    return f"{value / 1e3:,.0f}"


def count(value: float) -> str:
    return f"{value:,.0f}"


def fraction(value: float) -> str:
    return f"{value:.4f}"


FORMATS: dict[str, Callable[[float], str]] = {
    "throughput": count,
    "latency_p50": milliseconds,
    "latency_p90": milliseconds,
    "latency_p99": milliseconds,
    "cold_start": seconds,
    "first_call": milliseconds,
    "fit": seconds,
    "time_to_accuracy": seconds,
    "export": seconds,
    "accuracy": fraction,
    "top5_accuracy": fraction,
    "loss": fraction,
    "peak_rss": megabytes,
    "peak_device_memory": megabytes,
    "model_size": kilobytes,
    "parameters": count,
    "flops": count,
}
"""How the figures of this name are written, in the units of table heads."""


def spread(figure: Figure) -> str:
    """`` ±2.1%``: half-width of the 95% interval on a logarithmic scale; empty where there is none."""
    if figure.low is None or figure.high is None or figure.low <= 0:
        return ""
    return f" ±{percent((figure.high / figure.low) ** 0.5 - 1)}"


def percent(share: float) -> str:
    if share >= 10:
        return ">1000%"
    return f"{100 * share:.1f}%" if share < 0.0995 else f"{100 * share:.0f}%"

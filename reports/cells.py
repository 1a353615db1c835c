"""Small texts that tables and footnotes share."""

from __future__ import annotations

from collections.abc import Sequence

from bench.job import Record


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


def percent(share: float) -> str:
    if share >= 10:
        return ">1000%"
    return f"{100 * share:.1f}%" if share < 0.0995 else f"{100 * share:.0f}%"

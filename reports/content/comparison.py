"""The output of ``bench compare``: the differences between the runs, then the ratios."""

from __future__ import annotations

from bench.analysis.run_comparison import Compared, Comparison
from bench.records.series import FigureKey
from reports.content.cells import with_unit
from reports.table import Document, Table

UNKNOWN = "not known"


def document(comparison: Comparison) -> Document:
    """The tables and notes of a comparison."""
    changed = [[what, before, after] for what, before, after in comparison.changed]
    nothing = [["nothing that was recorded", "", ""]]
    tables = [Table("What differs", ["what", comparison.first, comparison.second], changed or nothing)]
    if comparison.figures:
        headers = ["row", "metric", comparison.first, comparison.second, "ratio", "95% interval"]
        rows = [_row(one) for one in comparison.figures]
        tables.append(Table("Ratios, second over first", headers, rows, numbers_from=2, optional_columns=(2, 3)))
    return Document(tables, _notes(comparison))


def _row(one: Compared) -> list[str]:
    values = [with_unit(one.figure[0], value, one.unit) for value in (one.first, one.second)]
    interval = UNKNOWN if one.low is None or one.high is None else f"[{one.low:.3f}, {one.high:.3f}]"
    return [one.row, metric_name(one.figure), *values, f"{one.ratio:.3f}", interval]


def metric_name(key: FigureKey) -> str:
    """``infer throughput end-to-end, batch 128``."""
    name, task, batch_size, boundary = key
    name_and_place = " ".join(part for part in (task, name, boundary) if part)
    return name_and_place if batch_size is None else f"{name_and_place}, batch {batch_size}"


def _notes(comparison: Comparison) -> list[str]:
    lines = ["The 95% interval includes the variance between runs of the same versions, estimated from this history."]
    missing = {one.missing for one in comparison.figures} - {0}
    if missing:
        least, most = min(missing), max(missing)
        runs = str(most) if least == most else f"{least} to {most}"
        lines.append(f"{UNKNOWN}: {runs} more runs with the same versions are needed to estimate how much runs differ.")
    for run, row, why in comparison.disturbed:
        lines.append(f"(!) {row} was disturbed in {run}: {why}. Its ratios may be those of the machine.")
    for run, rows in ((comparison.first, comparison.only_first), (comparison.second, comparison.only_second)):
        if rows:
            lines.append(f"Only in {run}: {', '.join(rows)}.")
    if not comparison.figures:
        lines.append("No row is comparable in both runs.")
    lines.append("To decide whether something got slower, measure both now: bench check --against BASE.")
    return lines

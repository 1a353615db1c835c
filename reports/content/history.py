"""The output of ``bench history``: stored runs, and the level shifts of their series."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.change_points import AFTER, FEWEST
from bench.analysis.trends import LevelShift
from bench.records.series import Listed, Series, row_name
from reports.content.comparison import metric_name
from reports.content.trend_plots import changed
from reports.table import Document, Table


def runs(listed: Sequence[Listed], limit: int) -> Document:
    """A table of runs, the newest first."""
    headers = ["run", "started", "rows", "workload", "machine", "commit", "tags", "acknowledged"]
    rows = [
        [
            one.name,
            one.started_at,
            ", ".join(one.rows) or "none",
            ", ".join(one.workloads),
            ", ".join(one.machines),
            ", ".join(commit[:12] for commit in one.commits),
            ", ".join(one.tags),
            one.acknowledged or "",
        ]
        for one in listed
    ]
    if not rows:
        return Document(headline="No run matches; bench run --backend all makes one.")
    more = f" (the newest {limit}; --limit shows more)" if len(rows) == limit else ""
    return Document([Table(f"Runs{more}", headers, rows, optional_columns=(4, 5, 7, 1))])


def change_points(series: Sequence[Series], shifts: Sequence[LevelShift]) -> Document:
    """A table of level shifts, the newest first; the notes say how many series were searched."""
    judged = [one for one in series if len(one.points) >= FEWEST]
    lines = [
        f"{len(judged)} of {len(series)} series have the {FEWEST} points that a search needs;"
        f" a new level needs {AFTER} (PELT, docs/method.md)."
    ]
    lines += [f"to confirm {shift.first.run}: {shift.confirm}" for shift in shifts if shift.confirm]
    notes = list(dict.fromkeys(lines))
    if not shifts:
        return Document(notes=notes, headline="No level shift.")
    headers = ["since run", "started", "row", "workload", "series", "metric", "change", "noise SDs", "runs since"]
    headers.append("what changed")
    rows = [
        [
            shift.first.run,
            shift.first.started_at,
            row_name(shift.series, series),
            shift.series.workload,
            shift.series.digest[:8],
            metric_name(shift.series.figure),
            f"{100 * (shift.ratio - 1):+.1f}%",
            f"{shift.size:.1f}",
            str(shift.points),
            changed(shift),
        ]
        for shift in shifts
    ]
    return Document([Table("Level shifts", headers, rows, optional_columns=(4, 3, 7, 1))], notes)

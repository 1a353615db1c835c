"""``bench history``: stored runs, and change points of their series."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.change_points import AFTER, FEWEST
from bench.analysis.trends import Turn
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
        return Document(headline="No run fits; bench run --backend all makes one.")
    more = f" (the newest {limit}; --limit shows more)" if len(rows) == limit else ""
    return Document([Table(f"Runs{more}", headers, rows, least_asked=(4, 5, 7, 1))])


def change_points(series: Sequence[Series], turns: Sequence[Turn]) -> Document:
    """A table of change points, the newest first, and what was looked at."""
    judged = [one for one in series if len(one.points) >= FEWEST]
    lines = [
        f"{len(judged)} of {len(series)} series have the {FEWEST} points that a verdict needs;"
        f" a new level needs {AFTER} (PELT, docs/method.md)."
    ]
    lines += [f"to confirm {turn.first.run}: {turn.confirm}" for turn in turns if turn.confirm]
    notes = list(dict.fromkeys(lines))
    if not turns:
        return Document(notes=notes, headline="No change of level.")
    headers = ["since run", "started", "row", "workload", "series", "metric", "change", "noise SDs", "runs since"]
    headers.append("what changed")
    rows = [
        [
            turn.first.run,
            turn.first.started_at,
            row_name(turn.series, series),
            turn.series.workload,
            turn.series.digest[:8],
            metric_name(turn.series.figure),
            f"{100 * (turn.ratio - 1):+.1f}%",
            f"{turn.size:.1f}",
            str(turn.points),
            changed(turn),
        ]
        for turn in turns
    ]
    return Document([Table("Changes of level", headers, rows, least_asked=(4, 3, 7, 1))], notes)

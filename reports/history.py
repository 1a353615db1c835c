"""``bench history``: stored runs, and change points of their series."""

from __future__ import annotations

from collections.abc import Sequence

from bench.changepoints import AFTER, FEWEST
from bench.series import Listed, Series
from bench.trends import Turn
from reports.comparison import figure_name
from reports.table import DEFAULT_FORMAT, Table, printable


def runs(listed: Sequence[Listed], limit: int, format_name: str = DEFAULT_FORMAT) -> str:
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
        return "No run fits; bench run --backend all makes one."
    more = f" (the newest {limit}; --limit shows more)" if len(rows) == limit else ""
    return Table(f"Runs{more}", headers, rows).render(format_name)


def change_points(series: Sequence[Series], turns: Sequence[Turn], format_name: str = DEFAULT_FORMAT) -> str:
    """A table of change points, the newest first, and what was looked at."""
    judged = [one for one in series if len(one.points) >= FEWEST]
    lines = [
        f"{len(judged)} of {len(series)} series have the {FEWEST} points that a verdict needs;"
        f" a new level needs {AFTER} (PELT, docs/method.md)."
    ]
    lines += [f"to confirm {turn.first.run}: {turn.confirm}" for turn in turns if turn.confirm]
    below = "\n".join(printable(line) for line in dict.fromkeys(lines))
    if not turns:
        return f"No change of level.\n\n{below}"
    headers = ["since run", "started", "row", "workload", "series", "figure", "change", "noise SDs", "runs since"]
    headers.append("what changed")
    rows = [
        [
            turn.first.run,
            turn.first.started_at,
            turn.series.row,
            turn.series.workload,
            turn.series.digest[:8],
            figure_name(turn.series.figure),
            f"{100 * (turn.ratio - 1):+.1f}%",
            f"{turn.size:.1f}",
            str(turn.points),
            _changed(turn),
        ]
        for turn in turns
    ]
    return f"{Table('Changes of level', headers, rows).render(format_name)}\n\n{below}"


def _changed(turn: Turn) -> str:
    told = [f"{name} {old or 'not there'} to {new or 'not there'}" for name, (old, new) in turn.changed.items()]
    if turn.last.commit != turn.first.commit:
        told.append(f"commit {(turn.last.commit or 'none')[:12]} to {(turn.first.commit or 'none')[:12]}")
    if turn.first.acknowledged:
        told.append(f"acknowledged: {turn.first.acknowledged}")
    return "; ".join(told) or "nothing that was recorded"

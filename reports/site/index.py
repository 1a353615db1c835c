"""The first page of a site: workloads and machines, the newest runs, the checks; and the list of all runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.records.gate_result import Check
from bench.records.series import Listed
from reports.content import verdicts
from reports.pages import html
from reports.pages.html import Frame

NEWEST = 100
"""Runs and checks on the first page; the lists of all are pages of their own."""
ASSETS = "assets/"


@dataclass(frozen=True)
class Link:
    """A text, and the page that it leads to (relative to the site's folder); empty: none."""

    text: str
    page: str = ""


@dataclass(frozen=True)
class Listing:
    """A titled table of links."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Link, ...], ...]


def frame(depth: int, data: str = "") -> Frame:
    """The frame of a page that lies so many folders deep. ``data``: the name of the JSON beside it."""
    up = "../" * depth
    links = [("Index", f"{up}index.html"), ("Runs", f"{up}runs.html"), ("Checks", f"{up}checks.html")]
    links += [("Feed", f"{up}feed.xml"), *([("JSON", data)] if data else [])]
    return Frame(f"{up}{ASSETS}", tuple(links))


def index_page(runs: Sequence[Listed], checks: Sequence[Check]) -> str:
    """The first page."""
    rows: dict[str, list[Listed]] = {}
    machines: dict[str, list[Listed]] = {}
    for run in runs:
        for workload in run.workloads:
            rows.setdefault(workload, []).append(run)
        for machine in run.machines:
            machines.setdefault(machine, []).append(run)
    of_workload = ("workload", "machines", "runs", "newest run", "started")
    listings = [
        Listing("Workloads", of_workload, tuple(_workload(name, its) for name, its in sorted(rows.items()))),
        Listing("Machines", ("machine", "workloads", "runs", "newest run", "started"),
                tuple(_machine(name, its) for name, its in sorted(machines.items()))),
        _runs(runs[:NEWEST], "Newest runs"),
        _checks(checks[:NEWEST], "Newest checks"),
    ]  # fmt: skip
    return html.listings_page(
        "History", f"{_count(runs, 'run')}, {_count(checks, 'check')}", listings, frame(0, "index.json")
    )


def runs_page(runs: Sequence[Listed]) -> str:
    """The list of all runs."""
    return html.listings_page("Runs", _count(runs, "run"), [_runs(runs, "Runs")], frame(0, "runs.json"))


def checks_page(checks: Sequence[Check]) -> str:
    """The list of all checks."""
    return html.listings_page("Checks", _count(checks, "check"), [_checks(checks, "Checks")], frame(0, "checks.json"))


def runs_json(runs: Sequence[Listed]) -> str:
    """The same as data."""
    return json.dumps([{**asdict(run), "page": f"runs/{run.name}.html"} for run in runs])


def checks_json(checks: Sequence[Check]) -> str:
    """The same as data."""
    return json.dumps(
        [
            {
                "name": each.name,
                "started_at": each.started_at,
                "verdict": each.verdict,
                "page": f"checks/{each.name}.html",
            }
            for each in checks
        ]
    )


def index_json(runs: Sequence[Listed], checks: Sequence[Check]) -> str:
    """The workloads with the pages of their trends, and how much there is."""
    workloads = sorted({workload for run in runs for workload in run.workloads})
    machines = sorted({machine for run in runs for machine in run.machines})
    trends = {workload: f"trends/{slug(workload)}.html" for workload in workloads}
    return json.dumps({"runs": len(runs), "checks": len(checks), "machines": machines, "trends": trends})


def slug(workload: str) -> str:
    """A workload as the name of a file: two that differ only in other characters have other names."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", workload).strip("-.")[:80]
    return f"{plain}-{hashlib.sha256(workload.encode()).hexdigest()[:8]}"


def _workload(name: str, runs: Sequence[Listed]) -> tuple[Link, ...]:
    machines = {machine for run in runs for machine in run.machines}
    return Link(name, f"trends/{slug(name)}.html"), Link(", ".join(sorted(machines))), *_newest(runs)


def _machine(name: str, runs: Sequence[Listed]) -> tuple[Link, ...]:
    workloads = {workload for run in runs for workload in run.workloads}
    return Link(name), Link(", ".join(sorted(workloads))), *_newest(runs)


def _newest(runs: Sequence[Listed]) -> tuple[Link, ...]:
    return Link(str(len(runs))), _run(runs[0]), Link(runs[0].started_at)


def _run(run: Listed) -> Link:
    return Link(run.name, f"runs/{run.name}.html")


def _runs(runs: Sequence[Listed], title: str) -> Listing:
    headers = ("run", "started", "rows", "workload", "machine", "commit", "tags", "acknowledged")
    rows = (
        (
            _run(run),
            Link(run.started_at),
            Link(", ".join(run.rows)),
            Link(", ".join(run.workloads)),
            Link(", ".join(run.machines)),
            Link(", ".join(commit[:12] for commit in run.commits)),
            Link(", ".join(run.tags)),
            Link(run.acknowledged or ""),
        )
        for run in runs
    )
    return Listing(title, headers, tuple(rows))


def _checks(checks: Sequence[Check], title: str) -> Listing:
    rows = (
        (Link(check.name, f"checks/{check.name}.html"), Link(check.started_at), Link(verdicts.headline(check)))
        for check in checks
    )
    return Listing(title, ("check", "started", "verdict"), tuple(rows))


def _count(listed: Sequence[object], what: str) -> str:
    return f"{len(listed)} {what}{'s' * (len(listed) != 1)}"

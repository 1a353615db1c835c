"""``bench site``: the history as a static site."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.records.gate_result import Check
    from bench.store.store import Store
    from reports.site.folder import SiteFolder

LAST = 1000
"""Points of a trend."""
BATCH = 50
"""Runs that a process writes at a time."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(site)


def site(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="The folder of the site.")
    ] = None,
    url: Annotated[
        str,
        typer.Option(metavar="URL", help="Where the site will be: links of the feed begin with it (else relative)."),
    ] = "",
    store: options.StoreUrl = None,
) -> None:
    """Write the history as a static site: pages of runs, checks and trends, a feed, JSON beside every page. It opens
    from the disk and from any host. What the folder has of an earlier time and has not changed stays as it is."""
    from bench.records.gate_result import Check
    from bench.store import queries
    from bench.store.schema import CHECKS
    from bench.store.store import Store
    from reports.pages import html
    from reports.site import feed, index
    from reports.site.folder import SiteFolder

    if output is None:
        raise UsageError("--output DIR says where the site goes")
    opened = Store(store)
    folder = SiteFolder(output)
    version = html.version()
    for name, content in html.assets().items():
        folder.make(f"{index.ASSETS}{name}", version, lambda text=content: text)  # type: ignore[misc]
    runs = queries.runs(opened, queries.Filter(), limit=2**31)
    states = queries.states(opened)
    _runs(folder, opened, {run.name: f"{version} {states[run.name]}" for run in runs if run.name in states})
    checks = [check for name in opened.names(CHECKS) if (check := opened.read(CHECKS, name, Check)) is not None]
    _checks(folder, checks, version)
    _trends(folder, opened, version)
    pages = {
        "index.html": lambda: index.index_page(runs, checks),
        "runs.html": lambda: index.runs_page(runs),
        "checks.html": lambda: index.checks_page(checks),
        "index.json": lambda: index.index_json(runs, checks),
        "runs.json": lambda: index.runs_json(runs),
        "checks.json": lambda: index.checks_json(checks),
    }
    newest = max(
        [run.started_at for run in runs] + [check.started_at for check in checks], default="1970-01-01T00:00:00Z"
    )
    base = f"{url.rstrip('/')}/" if url else ""
    pages["feed.xml"] = lambda: feed.document(checks, base, newest)
    key = _digest(version, url, *(repr(run) for run in runs), *(check.model_dump_json() for check in checks))
    for path, content_of in pages.items():
        folder.make(path, key, content_of)
    gone = folder.end()
    print(f"{output}/index.html: {folder.files} files, {folder.written} written, {gone} removed")


def _runs(folder: SiteFolder, store: Store, keys: dict[str, str]) -> None:
    """The pages of runs, each with its record; where many are new, by as many processes as there are CPUs."""
    from concurrent.futures import ProcessPoolExecutor
    from itertools import repeat
    from multiprocessing import get_context

    from bench.machine.host import available_cpus

    files = {name: (f"runs/{name}.html", f"runs/{name}.json") for name in keys}
    new = [name for name, key in keys.items() if not all(folder.is_there(path, key) for path in files[name])]
    for name in new:
        for path in files[name]:
            folder.check(path)
    url = store.url.render_as_string(hide_password=False)
    batches = [new[start : start + BATCH] for start in range(0, len(new), BATCH)]
    if len(batches) > 1:
        with ProcessPoolExecutor(len(available_cpus()), get_context("spawn")) as pool:
            list(pool.map(_write_runs, repeat(url), repeat(folder.path), batches))
    else:
        for names in batches:
            _write_runs(url, folder.path, names)
    for name in new:
        for path in files[name]:
            folder.note(path, keys[name])


def _write_runs(url: str, folder: Path, names: Sequence[str]) -> None:
    """Write the files of these runs."""
    import gc

    from bench.records.export import export
    from bench.store.loading import load_stored
    from bench.store.store import Store
    from reports.pages import html
    from reports.site import index
    from reports.site.folder import write

    store = Store(url)
    gc.disable()  # records have no cycles: looking for some takes a fifth of the time
    try:
        for name in names:
            run = load_stored(store, name)
            write(folder / f"runs/{name}.html", html.run_page(run, index.frame(1, f"{name}.json")))
            write(folder / f"runs/{name}.json", export(run, indent=None))
    finally:
        gc.enable()


def _checks(folder: SiteFolder, checks: Sequence[Check], version: str) -> None:
    """The pages of checks, each with its result."""
    from bench.records.export import export_check
    from reports.pages import html
    from reports.site import index

    for check in checks:
        name = check.name
        key = _digest(version, check.model_dump_json())
        folder.make(f"checks/{name}.html", key, lambda: html.check_page(check, index.frame(1, f"{name}.json")))  # noqa: B023
        folder.make(f"checks/{name}.json", key, lambda: export_check(check))  # noqa: B023


def _trends(folder: SiteFolder, store: Store, version: str) -> None:
    """A page for every workload: its series over time, on every machine, with their level shifts."""
    import json
    import shlex
    from dataclasses import asdict

    from bench.analysis import trends
    from bench.store import queries
    from reports.pages import html
    from reports.site import index

    for parts in queries.workloads(store):
        workload = "/".join(parts)
        series = queries.series(store, queries.Filter(workload=parts), None, LAST)
        name = index.slug(workload)
        key = _digest(version, *map(repr, series))
        page, data = f"trends/{name}.html", f"trends/{name}.json"
        if folder.is_there(page, key) and folder.is_there(data, key):
            continue
        shifts = trends.all_level_shifts(series)
        command = shlex.join(["bench", "history", "--workload", workload, "--format", "html"])
        title = f"Trends of {workload}"
        folder.put(page, key, html.history_page(series, shifts, command, title, index.frame(1, f"{name}.json")))
        folder.put(data, key, json.dumps([asdict(one) for one in series]))


def _digest(*texts: str) -> str:
    import hashlib

    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]

"""``bench site``: the history as a static site."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.records.gate_result import Check
    from bench.records.series import Listed
    from bench.store.store import Store
    from reports.site.folder import SiteFolder

KINDS = ("html", "json")
"""A page, and the data beside it."""
LAST = 1000
"""Points of a trend."""
BATCH = 20
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
    _runs_and_trends(folder, opened, runs, {name: f"{version} {state}" for name, state in states.items()})
    checks = [check for name in opened.names(CHECKS) if (check := opened.read(CHECKS, name, Check)) is not None]
    _checks(folder, checks, version)
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


def _runs_and_trends(folder: SiteFolder, store: Store, runs: Sequence[Listed], states: Mapping[str, str]) -> None:
    """The pages of runs, each with its record, and of workloads; where many runs are new, by as many processes as there
    are CPUs. ``states``: what the pages of a run are made of, as a short text, by run."""
    from concurrent.futures import ProcessPoolExecutor
    from contextlib import ExitStack
    from itertools import repeat
    from multiprocessing import get_context

    from bench.machine.host import available_cpus
    from bench.store import queries
    from reports.site import index

    def new(pages: Mapping[str, str]) -> list[str]:
        """The pages that must be written, with the data beside them; ``pages``: their keys by path."""
        there = {page: [folder.is_there(f"{page}.{kind}", key) for kind in KINDS] for page, key in pages.items()}
        for page, key in pages.items():
            for kind in KINDS:
                folder.check(f"{page}.{kind}")
                if not all(there[page]):
                    folder.note(f"{page}.{kind}", key)
        return [page for page in pages if not all(there[page])]

    listed = {f"runs/{run.name}": run for run in runs if run.name in states}
    names = [listed[page].name for page in new({page: states[run.name] for page, run in listed.items()})]
    workloads = {f"trends/{index.slug('/'.join(parts))}": parts for parts in queries.workloads(store)}
    keys = {page: _trend_key("/".join(parts), runs, states) for page, parts in workloads.items()}
    trends = new(keys)
    url = store.url.render_as_string(hide_password=False)
    batches = [names[start : start + BATCH] for start in range(0, len(names), BATCH)]
    with ExitStack() as stack:
        spread: Callable[..., Iterable[None]] = map
        if len(batches) > 1:
            pool = ProcessPoolExecutor(len(available_cpus()), get_context("spawn"))
            spread = stack.enter_context(pool).map
        # Trends take longest, so they begin first.
        first = spread(_write_trends, repeat(url), repeat(folder.path), [workloads[page] for page in trends], trends)
        list(spread(_write_runs, repeat(url), repeat(folder.path), batches))
        list(first)


def _trend_key(workload: str, runs: Sequence[Listed], states: Mapping[str, str]) -> str:
    """What a workload's trends are made of: its runs, and which of their shifts somebody has acknowledged."""
    return _digest(*(f"{states.get(run.name)} {run.acknowledged}" for run in runs if workload in run.workloads))


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


def _write_trends(url: str, folder: Path, workload: tuple[str, str, str], page: str) -> None:
    """Write the page of a workload, its series over time on every machine with their level shifts, and the series as
    data."""
    import shlex

    from bench.analysis.trends import all_level_shifts
    from bench.store import queries
    from bench.store.store import Store
    from reports.pages import html
    from reports.site import index, series_data
    from reports.site.folder import write

    series = queries.series(Store(url), queries.Filter(workload=workload), None, LAST)
    name = "/".join(workload)
    command = shlex.join(["bench", "history", "--workload", name, "--format", "html"])
    frame = index.frame(1, f"{page.rpartition('/')[2]}.json")
    shifts = all_level_shifts(series)
    write(folder / f"{page}.html", html.history_page(series, shifts, command, f"Trends of {name}", frame))
    write(folder / f"{page}.json", series_data.document(series))


def _digest(*texts: str) -> str:
    import hashlib

    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]

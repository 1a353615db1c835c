"""``bench history``: lists of stored runs, series over time, and the upkeep of the store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import options
from bench.cli.output import PAGE, tell

if TYPE_CHECKING:
    from bench.store.queries import Filter

LIMIT = 50
LAST = 1000

history = typer.Typer(
    help="Stored runs: list them, show one, tag, acknowledge, delete, prune; where series changed their level.",
    invoke_without_command=True,
    no_args_is_help=False,
)

BackendFilter = Annotated[str | None, typer.Option("--backend", help="Runs with a row of this backend.")]
WorkloadFilter = Annotated[
    str | None, typer.Option("--workload", metavar="MODEL/DATASET/RECIPE", help="Runs of this workload.")
]
MachineFilter = Annotated[str | None, typer.Option("--machine", metavar="ID", help="Fingerprint, or its beginning.")]
CommitFilter = Annotated[str | None, typer.Option("--commit", help="Git commit, or its beginning.")]
SinceFilter = Annotated[str | None, typer.Option("--since", metavar="TIME", help="2026-01-31, or 30d, 12h ago.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    history.callback()(history_)
    for command in (show, checks, tag, ack, delete, prune):
        history.command()(command)
    app.add_typer(history, name="history")


def history_(
    context: typer.Context,
    backend: BackendFilter = None,
    workload: WorkloadFilter = None,
    machine: MachineFilter = None,
    commit: CommitFilter = None,
    since: SinceFilter = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="The newest so many runs (50); of a series so many points (1000).")
    ] = None,
    change_points: Annotated[bool, typer.Option("--change-points", help="Where series changed their level.")] = False,
    metric: Annotated[str | None, typer.Option(help="Only series of this metric, such as throughput.")] = None,
    figure: Annotated[str | None, typer.Option("--figure", hidden=True)] = None,
    format_: options.Format = "simple",
    output: options.Output = None,
    store: options.StoreUrl = None,
) -> None:
    """Stored runs, the newest first; or, with --change-points, where their series changed; or all as a page (html)."""
    from bench.analysis import trends
    from bench.fleet import jobs
    from bench.runner import resumption
    from bench.store import queries as stored
    from bench.store.store import Store
    from reports.content import history as shown
    from reports.pages import html
    from reports.render.terminal import with_notes

    if context.invoked_subcommand is not None:
        return
    metric = options.renamed("--figure", figure, "--metric", metric)
    which = _filter(backend, workload, machine, commit, since)
    if change_points or format_ == PAGE:
        series = stored.series(Store(store), which, metric, limit or LAST)
        shifts = trends.all_level_shifts(series)
        page = partial(html.history_page, series, shifts, options.command_line())
        tell(shown.change_points(series, shifts), format_, output, page)
    else:
        opened = Store(store)
        table = shown.runs(stored.runs(opened, which, limit or LIMIT), limit or LIMIT)
        tell(with_notes(table, *resumption.unended_lines(opened), *jobs.unended_lines(opened)), format_, output)


def show(
    run_name: options.RunName = None,
    format_: options.Format = "simple",
    output: options.Output = None,
    store: options.StoreUrl = None,
) -> None:
    """A stored run, or a check or fleet by its name, as tables."""
    from bench.cli import fleet_results
    from bench.fleet import jobs
    from bench.records.gate_result import Check
    from bench.store.loading import load_run
    from bench.store.schema import CHECKS
    from bench.store.store import Store
    from reports.content import machines, tables, verdicts
    from reports.pages import html

    if run_name is not None and run_name.startswith(jobs.PREFIX):
        opened = Store(store)
        fleet, placed = jobs.load(opened, run_name)
        tell(machines.document(fleet.name, fleet_results.placed(opened, placed)), format_, output)
        return
    check = None if run_name is None else Store(store).read(CHECKS, run_name, Check)
    if check is not None:
        tell(verdicts.document(check), format_, output, lambda: html.check_page(check))
    else:
        run = load_run(store, run_name)
        tell(tables.document(run), format_, output, lambda: html.run_page(run))


def checks(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = LIMIT,
    format_: options.Format = "simple",
    store: options.StoreUrl = None,
) -> None:
    """Stored checks, the newest first."""
    from bench.records.gate_result import Check
    from bench.store.schema import CHECKS
    from bench.store.store import Store
    from reports.content import verdicts

    opened = Store(store)
    kept = [check for name in opened.names(CHECKS)[:limit] if (check := opened.read(CHECKS, name, Check)) is not None]
    tell(verdicts.listing(kept), format_, None)


def tag(
    name: Annotated[str, typer.Argument(help="The tag; taken from the run that has it.")],
    run_name: options.RunName = None,
    store: options.StoreUrl = None,
) -> None:
    """Give a run a name that every command takes."""
    from bench.store import queries as stored
    from bench.store.store import Store

    print(f"tag {name}: run {stored.tag(Store(store), name, run_name)}")


def ack(
    run_name: options.RunName = None,
    note: Annotated[str, typer.Option(help="Why it is known.")] = "known",
    store: options.StoreUrl = None,
) -> None:
    """Acknowledge the change that begins at a run: change points show the note."""
    from bench.store import queries as stored
    from bench.store.store import Store

    print(f"acknowledged at run {stored.acknowledge(Store(store), run_name, note)}: {note}")


def delete(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, checks or fleets to remove.")],
    store: options.StoreUrl = None,
) -> None:
    """Remove runs with their records, checks, and fleets, whose runs stay; all that are named, or none."""
    from bench.store import queries as stored
    from bench.store.store import Store

    for name in stored.delete(Store(store), names):
        print(f"deleted {name}")


def prune(
    keep: Annotated[int, typer.Option(min=0, help="The newest so many stay, of those that fit.")],
    backend: BackendFilter = None,
    workload: WorkloadFilter = None,
    machine: MachineFilter = None,
    commit: CommitFilter = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    store: options.StoreUrl = None,
) -> None:
    """Remove old runs; those that have a tag stay."""
    from bench.store import queries as stored
    from bench.store.store import Store

    which = _filter(backend, workload, machine, commit, None)
    names = stored.prune(Store(store), which, keep, dry_run)
    for name in names:
        print(f"{'would delete' if dry_run else 'deleted'} {name}")
    print(f"{len(names)} runs")


def _filter(
    backend: str | None, workload: str | None, machine: str | None, commit: str | None, since: str | None
) -> Filter:
    from bench.store import queries as stored
    from bench.workloads.workload import parts

    return stored.Filter(
        backend=backend,
        workload=None if workload is None else parts(workload),
        machine=machine,
        commit=commit,
        since=None if since is None else stored.parse_since(since),
    )

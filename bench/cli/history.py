"""Commands that read and tend the store: ``report``, ``export``, ``import``, ``history``, ``compare``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli import options
from bench.cli.output import PAGE, put, tell
from bench.errors import UsageError

EXPORTS = ("json", "pytest-benchmark", "bencher", "customBiggerIsBetter", "customSmallerIsBetter")
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
    app.command()(report)
    app.command()(export)
    app.command("import")(import_)
    app.command()(compare)
    history.callback()(history_)
    for command in (show, checks, tag, ack, delete, prune):
        history.command()(command)
    app.add_typer(history, name="history")


def report(
    run_name: options.RunName = None,
    format_: Annotated[
        str, typer.Option("--format", help="html (a page that stands alone), markdown, or a format of tables.")
    ] = "markdown",
    output: options.Output = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", metavar="DIR", help="Also write every plot there, as SVG and PNG.")
    ] = None,
    summary: options.Summary = False,
    timing: Annotated[bool, typer.Option("--timing", help="Only where the run's wall time went.")] = False,
    store: options.StoreUrl = None,
) -> None:
    """A stored run with the definition of every column, the machine, versions, data and parity."""
    from reports.content import plots, tables
    from reports.content.timing import timing_table
    from reports.pages import html, markdown
    from reports.pages import pull_request as comment
    from reports.render import images
    from reports.render.text import check_format
    from reports.table import Document

    if format_ != "markdown":
        check_format(format_)
    found = _load(run_name, store)
    if figures is not None:
        written = images.write(plots.run_sections(found), figures)
        print(f"{len(written)} pictures in {figures}", file=sys.stderr)
    if timing:
        tell(Document([timing_table(found)]), "github" if format_ == "markdown" else format_, output)
    elif summary:
        put(comment.run_comment(found), output)
    elif format_ == "markdown":
        put(markdown.render(found), output)
    else:
        tell(tables.document(found), format_, output, lambda: html.run_page(found))


def export(
    run_name: options.RunName = None,
    format_: Annotated[str, typer.Option("--format", help=", ".join(EXPORTS) + ".")] = "json",
    store: options.StoreUrl = None,
) -> None:
    """A stored run on standard output: its records, or its metrics as other tools read them; on standard error, what
    the format leaves out."""
    from bench.records.export import export as to_json
    from reports.exports import bencher, github_action_benchmark, pytest_benchmark

    options.one_of("format", format_, EXPORTS)
    run = _load(run_name, store)
    if format_ == "json":
        text, left_out = to_json(run), {}
    elif format_ == "pytest-benchmark":
        text, left_out = pytest_benchmark.document(run), pytest_benchmark.left_out(run)
    elif format_ == "bencher":
        text, left_out = bencher.document(run), bencher.left_out(run)
    else:
        bigger = format_ == "customBiggerIsBetter"
        text = github_action_benchmark.document(run, bigger)
        left_out = github_action_benchmark.left_out(run, bigger)
    print(text)
    for name, why in left_out.items():
        print(f"left out: {name}: {why}", file=sys.stderr)


def import_(
    file: Annotated[Path, typer.Argument(help="What bench export --format json wrote; - for standard input.")],
    store: options.StoreUrl = None,
) -> None:
    """An exported run into the store; one that is there already is left as it is."""
    from bench.store import queries as stored
    from bench.store.store import Store

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    opened = Store(store)
    name, new = stored.import_(opened, text, str(file))
    print(f"run {name} {'imported into' if new else 'is already in'} {opened.shown}")


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A run, tag, commit, or last~N.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The run to put beside it (default: last).")] = "last",
    across: Annotated[
        str | None, typer.Option(metavar="PARTS", help="Parts of the key that may differ: machines, threads, ...")
    ] = None,
    format_: options.Format = "simple",
    output: options.Output = None,
    store: options.StoreUrl = None,
) -> None:
    """Two stored runs, metric by metric, with intervals that hold the variance between runs. Informs, never gates."""
    from bench.analysis import run_comparison
    from bench.gate import margins
    from bench.records import series_key
    from bench.records.metrics import gated
    from bench.store import queries as stored
    from bench.store.store import Store
    from reports.content import comparison as shown
    from reports.pages import html

    parts = series_key.across(across)
    opened = Store(store)
    a, b = opened.load(first), opened.load(second)
    digests = {series_key.digest(series_key.key(record)) for run in (a, b) for record in run.records}
    with opened.reading() as connection:
        series = [one for digest in sorted(digests) for one in stored.of_digest(connection, digest, last=LIMIT)]
    points = {(one.digest, one.figure): one.points for one in series}
    found = run_comparison.compare(a, b, points, parts)

    shaded = {gated()[name].name: margin for name, margin in margins.read([]).items()}
    tell(shown.document(found), format_, output, lambda: html.comparison_page(found, shaded, options.command_line()))


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
    figure: Annotated[str | None, typer.Option(help="Only series of this metric, such as throughput.")] = None,
    format_: options.Format = "simple",
    output: options.Output = None,
    store: options.StoreUrl = None,
) -> None:
    """Stored runs, the newest first; or, with --change-points, where their series changed; or all as a page (html)."""
    from bench.analysis import trends
    from bench.store import queries as stored
    from bench.store.store import Store
    from reports.content import history as shown
    from reports.pages import html

    if context.invoked_subcommand is not None:
        return
    which = _filter(backend, workload, machine, commit, since)
    if change_points or format_ == PAGE:
        series = stored.series(Store(store), which, figure, limit or LAST)
        turns = trends.all_turns(series)
        page = partial(html.history_page, series, turns, options.command_line())
        tell(shown.change_points(series, turns), format_, output, page)
    else:
        tell(shown.runs(stored.runs(Store(store), which, limit or LIMIT), limit or LIMIT), format_, output)


def show(
    run_name: options.RunName = None,
    format_: options.Format = "simple",
    output: options.Output = None,
    store: options.StoreUrl = None,
) -> None:
    """A stored run, or a check by its name, as tables."""
    from bench.records.gate_result import Check
    from bench.store.schema import CHECKS
    from bench.store.store import Store
    from reports.content import tables, verdicts
    from reports.pages import html

    check = None if run_name is None else Store(store).read(CHECKS, run_name, Check)
    if check is not None:
        tell(verdicts.document(check), format_, output, lambda: html.check_page(check))
    else:
        run = _load(run_name, store)
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
    found = [check for name in opened.names(CHECKS)[:limit] if (check := opened.read(CHECKS, name, Check)) is not None]
    tell(verdicts.listing(found), format_, None)


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
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs or checks to remove.")],
    store: options.StoreUrl = None,
) -> None:
    """Remove runs with their records, and checks; all that are named, or none."""
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
) -> Any:
    from bench.store import queries as stored
    from bench.workloads.workload import parts

    return stored.Filter(
        backend=backend,
        workload=None if workload is None else parts(workload),
        machine=machine,
        commit=commit,
        since=None if since is None else stored.since(since),
    )


def _load(name: str | None, store: str | None) -> Any:
    from bench.analysis.ratios import with_ratios
    from bench.store.store import Store

    found = Store(store).load(name)
    return found.model_copy(update={"records": with_ratios(found.records)})

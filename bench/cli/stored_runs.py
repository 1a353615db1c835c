"""Commands about stored runs: ``report``, ``import``, ``compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options
from bench.cli.output import put, tell
from bench.errors import UsageError

LATEST = 50
"""Points of a series that a comparison learns the variance between runs from."""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(report)
    app.command("import")(import_)
    app.command()(compare)


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
    from bench.store.loading import load_run
    from reports.content import plots, tables
    from reports.content.timing import timing_table
    from reports.pages import html, markdown
    from reports.pages import pull_request as comment
    from reports.render import images
    from reports.render.text import check_format
    from reports.table import Document

    if format_ != "markdown":
        check_format(format_)
    run = load_run(store, run_name)
    if figures is not None:
        written = images.write(plots.run_sections(run), figures)
        print(f"{len(written)} pictures in {figures}", file=sys.stderr)
    if timing:
        tell(Document([timing_table(run)]), "github" if format_ == "markdown" else format_, output)
    elif summary:
        put(comment.run_comment(run), output)
    elif format_ == "markdown":
        put(markdown.render(run), output)
    else:
        tell(tables.document(run), format_, output, lambda: html.run_page(run))


def import_(
    file: Annotated[Path, typer.Argument(help="What bench export --format json wrote; - for standard input.")],
    store: options.StoreUrl = None,
) -> None:
    """An exported run into the store; one that is there already is left as it is."""
    from bench.records.untrusted import LARGEST_FILE
    from bench.store import queries as stored
    from bench.store.store import Store

    try:
        with sys.stdin if str(file) == "-" else file.open(encoding="utf-8") as opened_file:
            text = opened_file.read(LARGEST_FILE + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    opened = Store(store)
    name, new = stored.import_(opened, text, str(file))
    print(f"run {name} {'imported into' if new else 'is already in'} {opened.shown_url}")


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
        series = [one for digest in sorted(digests) for one in stored.series_of_digest(connection, digest, last=LATEST)]
    points = {(one.digest, one.figure): one.points for one in series}
    comparison = run_comparison.compare(a, b, points, parts)

    shaded = {gated()[name].name: margin for name, margin in margins.read([]).items()}
    tell(
        shown.document(comparison),
        format_,
        output,
        lambda: html.comparison_page(comparison, shaded, options.command_line()),
    )

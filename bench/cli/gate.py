"""``bench check``: the gate."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli import jobs, options
from bench.cli.output import put, tell
from bench.errors import BenchError, UsageError

INCONCLUSIVE = {None: 3, "pass": 0, "fail": 1}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(check)


def check(
    against: Annotated[
        str,
        typer.Option(metavar="BASE", help="Interpreter, requirements such as torch==2.13.0, git:REV, or a baseline."),
    ],
    backend: jobs.JobBackend = None,
    workload: options.WorkloadName = None,
    model: options.Model = None,
    dataset: options.Dataset = None,
    recipe: options.RecipeName = None,
    set_: options.Changes = None,
    mode: jobs.JobMode = None,
    precision: jobs.JobPrecision = None,
    task: jobs.JobTask = None,
    device: jobs.JobDevice = None,
    batch_size: jobs.JobBatchSize = None,
    figure: jobs.JobFigure = None,
    boundary: jobs.JobBoundary = None,
    margin: jobs.Margin = None,
    margins: jobs.Margins = None,
    budget: jobs.Budget = "10m",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per side, for accuracy.")] = 1,
    inconclusive: Annotated[
        str | None, typer.Option(metavar="pass|fail", help="Exit 0 or 1 instead of 3 where it stays open.")
    ] = None,
    profile: options.Profile = "precise",
    threads: options.Threads = None,
    cpus: options.Cpus = None,
    allocator: options.Allocator = None,
    seed: options.Seed = 0,
    timeout: options.Timeout = 600.0,
    data_dir: options.DataDir = None,
    python: options.Pythons = None,
    cache: options.Cache = None,
    store: options.StoreUrl = None,
    format_: options.Format = "simple",
    output: options.Output = None,
    summary: options.Summary = False,
) -> None:
    """Measure BASE and the present environment now, as live pairs that take turns, and judge every figure.

    Exit code: 0; 1 regression; 2 error; 3 inconclusive; 4 invalid (disturbed, changed meanwhile, or not sound).
    """
    try:
        code = _check(**locals())
    except BenchError as error:  # exit code 1 would say: a regression
        print(f"bench: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = jobs.INTERRUPTED
    sys.exit(code)


def _check(
    against: str,
    margin: list[str] | None,
    margins: Path | None,
    budget: str,
    seeds: int,
    inconclusive: str | None,
    python: list[str] | None,
    cache: Path | None,
    store: str | None,
    format_: str,
    output: Path | None,
    summary: bool,
    **others: Any,
) -> int:
    from bench.gate import baselines
    from bench.gate import check as checking
    from bench.gate.gate import PRESENT
    from bench.runner.plan import Side
    from bench.store.store import Store
    from reports.content import verdicts
    from reports.pages import html
    from reports.render.terminal import with_notes

    if inconclusive not in INCONCLUSIVE:
        raise UsageError(f"--inconclusive {inconclusive}: pass or fail")
    opened = Store(store)
    saved = baselines.load_baseline(opened, against)
    given = jobs.given(others)
    job = jobs.job(given, None if saved is None else saved.job, against)
    criteria = jobs.criteria(job, margin, margins, budget, seeds)
    request = jobs.request(job, others, options.pythons(python))
    plan, dataset = jobs.plan(request)
    if saved is not None and saved.data != dataset.sha256:
        raise BenchError(
            f"baseline {against} was saved on other data ({saved.data[:12]}); this is {dataset.sha256[:12]}"
        )
    names = sorted({row.job.backend for row in plan.rows if row.problem is None})
    base = baselines.resolve(against, names, opened, cache or baselines.default_cache())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sides = (base, Side(PRESENT, "this environment"))
    found = checking.check(plan, dataset, opened, criteria, sides, options.command_line())
    if summary:
        from reports.pages.pull_request import of_check

        put(of_check(found.check), output)
    else:
        document = with_notes(verdicts.document(found.check), f"{found.check.name} in {found.stored_in}")
        tell(document, format_, output, lambda: html.of_check(found.check))
    return jobs.INTERRUPTED if found.interrupted else found.check.exit_code(INCONCLUSIVE[inconclusive])

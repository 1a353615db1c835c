"""``bench bisect``: which release made it slower."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from bench.cli import jobs, options

LONGER = 3
"""A midpoint that stays inconclusive is measured so many times as long."""
LONGER_LOOKS = (8, 16, 32, 48, 64)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(bisect)


def bisect(
    package: Annotated[str, typer.Option(help="The distribution whose releases are searched.")],
    good: Annotated[str, typer.Option(metavar="VERSION", help="A release that is fast.")],
    bad: Annotated[str, typer.Option(metavar="VERSION", help="A later one that is slower.")],
    figure: Annotated[str, typer.Option(help="throughput, latency or memory.")] = "throughput",
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
    boundary: jobs.JobBoundary = None,
    margin: jobs.Margin = None,
    margins: jobs.Margins = None,
    budget: jobs.Budget = "5m",
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an earlier search found.")] = False,
    threads: options.Threads = None,
    cpus: options.Cpus = None,
    seed: options.Seed = 0,
    timeout: options.Timeout = 600.0,
    data_dir: options.DataDir = None,
    cache: options.Cache = None,
    store: options.StoreUrl = None,
    format_: options.Format = "simple",
) -> None:
    """Which release made it slower: every midpoint against --good, by the gate. Run again, it goes on where it was.

    Exit code: 0 if the first bad release was found, or there is none; 3 if several are left or --bad could not be
    judged; 130 on Ctrl-C.
    """
    from bench.analysis import bisection
    from bench.gate import baselines, environments
    from bench.gate.gated_metric import IN_PAIRS
    from bench.gate.release_judge import Judge
    from bench.machine.host import fingerprint
    from bench.store.schema import BISECTIONS
    from bench.store.store import Store
    from reports.content import verdicts
    from reports.render.terminal import show

    options.one_of("figure", figure, IN_PAIRS)
    job = jobs.job(jobs.given(locals()), None, "")
    criteria = jobs.criteria(job, margin, margins, budget, 1)
    plan, data = jobs.plan(jobs.request(job, {**locals(), "profile": "precise", "allocator": None}, {}))
    opened = Store(store)
    versions = bisection.candidates(environments.released(package), good, bad)
    lock = environments.present(sorted({row.job.backend for row in plan.rows if row.problem is None}))
    placed = asdict(plan.request.placement)
    decides = [package, versions[0], versions[-1], job, dict(criteria.margins), placed, seed, data.sha256]
    decides += [fingerprint()["id"], lock.to_dict()]
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    begun = bisection.Bisection(package=package, figure=figure, versions=versions)
    known = None if restart else opened.read(BISECTIONS, key, bisection.Bisection)
    if known is not None:
        begun = begun.model_copy(update={"steps": known.steps})
    longer = (LONGER_LOOKS, LONGER * criteria.budget)
    command = options.command_line()
    where = cache or baselines.default_cache()
    judge = Judge(plan, data, opened, criteria, package, versions[0], lock, where, command, longer)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        found = bisection.search(begun, judge, lambda now: opened.put(BISECTIONS, key, now.model_dump_json()))
    except KeyboardInterrupt:
        print("bench: interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(jobs.INTERRUPTED)
    show(verdicts.bisection(found), format_)
    newest = found.outcome(versions[-1])
    sys.exit(3 if newest == "skipped" or (newest == "bad" and len(found.suspects) > 2) else 0)

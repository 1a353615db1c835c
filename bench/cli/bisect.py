"""``bench bisect``: which release made it slower."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli import check_options, measuring, options
from bench.cli.grouped import command
from bench.cli.options import (
    DeviceOptions,
    GateOptions,
    IndexOptions,
    MetricOptions,
    OutputOptions,
    PlaceOptions,
    RepeatOptions,
    RowOptions,
    WorkloadOptions,
)

if TYPE_CHECKING:
    from bench.analysis.bisection import Bisection
    from bench.gate.release_judge import ReleaseJudge
    from bench.store.store import Store

LONGER = 3
"""A midpoint that stays inconclusive is measured so many times as long."""
LONGER_LOOKS = (8, 16, 32, 48, 64)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    command(app)(bisect)


def bisect(
    package: Annotated[str, typer.Option(help="The distribution whose releases are searched.")],
    good: Annotated[str, typer.Option(metavar="VERSION", help="A release that is fast.")],
    bad: Annotated[str, typer.Option(metavar="VERSION", help="A later one that is slower.")],
    rows: RowOptions,
    workload: WorkloadOptions,
    metrics: MetricOptions,
    device: DeviceOptions,
    place: PlaceOptions,
    gate: GateOptions,
    index: IndexOptions,
    repeat: RepeatOptions,
    output: OutputOptions,
    budget: Annotated[
        str,
        typer.Option(
            "--budget", metavar="TIME", help="The most time for measuring a release.", rich_help_panel="How carefully"
        ),
    ] = "5m",
    restart: options.Restart = False,
) -> None:
    """Which release made it slower: every midpoint against --good, by the gate. Run again, it goes on where it was.

    It searches by one metric: throughput (the default), latency or memory.

    Exit code: 0 if the first bad release was found, or there is none; 3 if several are left or --bad could not be
    judged; 130 on Ctrl-C.
    """
    from bench.analysis import bisection
    from bench.gate import baselines, environments
    from bench.gate.check_job import CheckJob
    from bench.gate.gated_metric import IN_PAIRS
    from bench.gate.release_judge import ReleaseJudge
    from bench.machine.host import fingerprint
    from bench.store.store import Store
    from reports.content import verdicts
    from reports.render.terminal import show

    metric = options.one_of("metric", metrics.chosen or "throughput", IN_PAIRS)
    searched = replace(metrics, metric=metric, figure=None)
    job = CheckJob().with_options(check_options.given(rows, workload, device, searched))
    criteria = check_options.criteria(job, gate, budget)
    plan, data = measuring.plan_on_data(check_options.request(job, "precise", device, place, repeat))
    store = Store(output.store)
    cache, packages = gate.cache or baselines.default_cache(), index.chosen()
    versions = bisection.candidates(environments.list_releases(package, cache, packages), good, bad)
    lock = environments.current_lock(sorted({row.job.backend for row in plan.rows if row.problem is None}))
    decides: list[object] = [package, versions[0], versions[-1], asdict(job), dict(criteria.margins)]
    decides += [asdict(plan.request.placement), repeat.seed, data.sha256, fingerprint()["id"], asdict(lock)]
    key = options.search_key(decides)
    begun = bisection.Bisection(package=package, metric=metric, versions=versions)
    longer = (LONGER_LOOKS, LONGER * criteria.budget)
    typed = options.command_line()
    judge = ReleaseJudge(plan, data, store, criteria, package, versions[0], lock, cache, packages, typed, longer)
    finished = _search(begun, judge, store, key, restart)
    show(verdicts.bisection(finished), output.format)
    newest = finished.outcome(versions[-1])
    sys.exit(3 if newest == "skipped" or (newest == "bad" and len(finished.suspects) > 2) else 0)


def _search(begun: Bisection, judge: ReleaseJudge, store: Store, key: str, restart: bool) -> Bisection:
    """Search from where an earlier search of the same key ended; every step is stored."""
    from bench.analysis import bisection
    from bench.store.schema import BISECTIONS

    known = None if restart else store.read(BISECTIONS, key, bisection.Bisection)
    if known is not None:
        begun = begun.model_copy(update={"steps": known.steps})
    options.end_as_ctrl_c()
    try:
        return bisection.search(begun, judge, lambda now: store.put(BISECTIONS, key, now.model_dump_json()))
    except KeyboardInterrupt:
        print("bench: interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(options.INTERRUPTED)

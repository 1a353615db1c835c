"""``bench check``: the gate."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from bench.cli import check_options, fleet_options, measuring, options
from bench.cli.fleet_options import FleetOptions
from bench.cli.grouped import command
from bench.cli.options import (
    DeviceOptions,
    GateOptions,
    IndexOptions,
    InterpreterOptions,
    MetricOptions,
    NameOptions,
    OutputOptions,
    PlaceOptions,
    RepeatOptions,
    ResumeOptions,
    RowOptions,
    WorkloadOptions,
)
from bench.cli.output import put, tell, write
from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from bench.gate.check import FinishedCheck
    from bench.runner.run import Sitting
    from bench.store.store import Store

INCONCLUSIVE = {None: 3, "pass": 0, "fail": 1}
"""Exit codes by ``--inconclusive``."""
JSON = "json"
"""The format that is the whole result, not its tables."""


@dataclass(frozen=True)
class CareOptions:
    """How long is measured, and what is said where that was too short."""

    PANEL: ClassVar = "How carefully"

    budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="The most time for measuring pairs.")] = "10m"
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per side, for accuracy.")] = 1
    inconclusive: Annotated[
        str | None, typer.Option(metavar="pass|fail", help="Exit 0 or 1 instead of 3 where it stays open.")
    ] = None
    profile: Annotated[str, typer.Option(help="deploy (as users run it) or precise (pinned, for small effects).")] = (
        "precise"
    )
    explain: Annotated[
        bool, typer.Option("--explain", help="Profile both sides of a speed that regressed: which layers are slower.")
    ] = False

    @property
    def inconclusive_code(self) -> int:
        """The exit code of an inconclusive check.

        Raises:
            UsageError: neither pass nor fail.
        """
        if self.inconclusive not in INCONCLUSIVE:
            raise UsageError(f"--inconclusive {self.inconclusive}: pass or fail")
        return INCONCLUSIVE[self.inconclusive]


@dataclass(frozen=True)
class FileOptions:
    """Where the verdicts go."""

    PANEL: ClassVar = "Output"

    output: options.Output = None
    summary: options.Summary = False
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the verdicts there as JUnit XML, for CI systems.")
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    command(app)(check)


@dataclass(frozen=True)
class BaseOptions:
    """What the present environment is checked against."""

    PANEL: ClassVar = "What to run"

    against: Annotated[
        str | None,
        typer.Option(
            metavar="BASE", help="Interpreter, requirements such as torch==2.13.0, git:REV, or a baseline (required)."
        ),
    ] = None


@dataclass(frozen=True)
class Chosen:
    """All options that decide what a check does: it can go on with them later."""

    base: BaseOptions
    rows: RowOptions
    workload: WorkloadOptions
    metrics: MetricOptions
    device: DeviceOptions
    place: PlaceOptions
    interpreters: InterpreterOptions
    gate: GateOptions
    index: IndexOptions
    care: CareOptions
    repeat: RepeatOptions


def check(
    base: BaseOptions,
    rows: RowOptions,
    workload: WorkloadOptions,
    metrics: MetricOptions,
    device: DeviceOptions,
    place: PlaceOptions,
    interpreters: InterpreterOptions,
    gate: GateOptions,
    index: IndexOptions,
    care: CareOptions,
    repeat: RepeatOptions,
    resume: ResumeOptions,
    where: FleetOptions,
    name: NameOptions,
    output: OutputOptions,
    file: FileOptions,
) -> None:
    """Measure BASE and the present environment now, as live pairs that take turns, and judge every metric.

    Exit code: 0; 1 regression; 2 error; 3 inconclusive; 4 invalid (disturbed, changed meanwhile, or not certified).
    """
    from bench.store.store import Store

    chosen = Chosen(base, rows, workload, metrics, device, place, interpreters, gate, index, care, repeat)
    resume.check(chosen, "check")
    where.check()
    name.check()
    if where.on is not None:
        if file.junit is not None:
            raise UsageError("--junit writes on this machine: bench export --format junit afterwards")
        sys.exit(_sent(chosen, resume, where, Store(output.store), output.format))
    with _interruptible():
        options.end_as_ctrl_c()
        first, finished = carry_out(chosen, resume, name, Store(output.store), options.command_line())
    _show(finished, output, file, first.care.inconclusive)
    code = finished.check.exit_code(first.care.inconclusive_code)
    sys.exit(options.INTERRUPTED if finished.interrupted else code)


def carry_out(
    chosen: Chosen, resume: ResumeOptions, name: NameOptions, store: Store, command_line: str
) -> tuple[Chosen, FinishedCheck]:
    """Begin the check that these options ask for, or go on with one, here; its options (those of its first time), and
    the result.

    Raises:
        BenchError: it cannot begin, or not go on.
    """
    from bench.runner.run import Sitting

    if resume.resume is None:
        return chosen, _checked(chosen, store, Sitting(name=name.name), command_line)
    with options.going_on(store, resume.resume, "check", Chosen) as (earlier, first):
        return first, _checked(first, store, Sitting(goes_on=earlier, anyway=resume.anyway), command_line)


def _sent(chosen: Chosen, resume: ResumeOptions, where: FleetOptions, store: Store, format_name: str) -> int:
    """Carry the check out on other machines; the exit code."""
    from bench.cli import fleet
    from bench.gate import margins

    if resume.resume is not None:
        return fleet.go_on(store, resume.resume, format_name)
    if chosen.base.against is None:
        raise UsageError("what to check against is missing: --against BASE, such as torch==2.13.0 or git:main")
    _ = chosen.care.inconclusive_code
    # The nodes may not have this folder's project file, whose margins hold.
    texts = [
        f"{name}={100 * value:.10g}%"
        for name, value in margins.read(chosen.gate.margin or [], chosen.gate.margins).items()
    ]
    chosen = replace(chosen, gate=replace(chosen.gate, margin=texts, margins=None))
    groups = (getattr(chosen, field.name) for field in fields(chosen))
    return fleet.send("check", fleet_options.arguments(*groups), where, store, format_name)


def _checked(chosen: Chosen, store: Store, sitting: Sitting, command_line: str) -> FinishedCheck:
    """Measure the base and the present environment, and judge."""
    from bench.gate import baselines, time_needed
    from bench.gate import check as checking
    from bench.gate.check_job import CheckJob
    from bench.gate.gate import PRESENT
    from bench.machine.host import fingerprint
    from bench.runner.plan import Side

    against, care, gate = chosen.base.against, chosen.care, chosen.gate
    if against is None:
        raise UsageError("what to check against is missing: --against BASE, such as torch==2.13.0 or git:main")
    _ = care.inconclusive_code
    saved = baselines.load_baseline(store, against)
    given = check_options.given(chosen.rows, chosen.workload, chosen.device, chosen.metrics)
    job = CheckJob().with_options(given) if saved is None else saved.job.with_options(given, saved_as=against)
    criteria = check_options.criteria(job, gate, care.budget, care.seeds)
    pythons = chosen.interpreters.pythons
    request = check_options.request(job, care.profile, chosen.device, chosen.place, chosen.repeat, pythons)
    plan, dataset = measuring.plan_on_data(request)
    if saved is not None and saved.data != dataset.sha256:
        raise BenchError(
            f"baseline {against} was saved on other data ({saved.data[:12]}); this is {dataset.sha256[:12]}"
        )
    names = sorted({row.job.backend for row in plan.rows if row.problem is None})
    cache = gate.cache or baselines.default_cache()
    sides = (baselines.resolve(against, names, store, cache, chosen.index.chosen()), Side(PRESENT, "this environment"))
    if sitting.goes_on is None:
        earlier = time_needed.earlier_check(plan, criteria, store, fingerprint()["id"], dataset.sha256)
        too_short = "" if earlier is None else time_needed.why_too_short(earlier, criteria)
        if too_short:
            print(f"bench: {too_short}", file=sys.stderr)
            return checking.not_measured(plan, dataset, criteria, sides, command_line, too_short)
        for sentence in time_needed.too_noisy(earlier, criteria) if earlier is not None else []:
            print(f"note: {sentence}", file=sys.stderr)
    if against.startswith(baselines.GIT) and (changes := baselines.uncommitted()):
        files = f"{len(changes)} uncommitted change{'s' * (len(changes) > 1)} ({changes[0]})"
        print(f"note: {files} of this work tree: part of the present side, not of {against}", file=sys.stderr)
    sitting = replace(sitting, options=options.plain(chosen))
    return checking.check(plan, dataset, store, criteria, sides, command_line, sitting, care.explain)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends with its own code."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(options.INTERRUPTED)


def _show(finished: FinishedCheck, output: OutputOptions, file: FileOptions, inconclusive: str | None) -> None:
    from bench.records.export import export_check
    from reports.content import verdicts
    from reports.exports import junit
    from reports.pages import html
    from reports.pages.pull_request import check_comment
    from reports.render.terminal import with_notes

    if file.summary:
        put(check_comment(finished.check), file.output)
    elif output.format == JSON:
        put(export_check(finished.check), file.output)
    else:
        notes = [f"{finished.check.name} in {finished.stored_in}"]
        if finished.goes_on:
            notes.append(f"it is not whole: {finished.goes_on} does what is missing")
        document = with_notes(verdicts.document(finished.check), *notes)
        tell(document, output.format, file.output, lambda: html.check_page(finished.check))
    if file.junit is not None:
        write(junit.document(finished.check, junit.choice(inconclusive)), file.junit)

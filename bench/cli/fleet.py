"""``bench fleet``, and how a command with ``--on`` sends its job to other machines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import fleet_options, fleet_results, options
from bench.cli.fleet_options import FleetOptions
from bench.cli.grouped import command
from bench.cli.options import OutputOptions, WorkloadOptions
from bench.cli.output import tell
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.fleet.jobs import Fleet, FleetJob
    from bench.fleet.plan_file import JobEntry
    from bench.fleet.target import Node, Selection, Target
    from bench.store.store import Store

NOT_OF_JOBS = ("store", "format", "output", "summary", "resume", "anyway", "name", "help", "on", "nodes", "node-python",
               "node-environment", "slurm", "retries")  # fmt: skip
"""Options of a command that are the driver's."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    command(app, "fleet")(fleet)


def fleet(
    where: FleetOptions,
    output: OutputOptions,
    plan: Annotated[
        Path | None, typer.Argument(metavar="[PLAN.toml]", help="Jobs, and the nodes that they are for.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="[NAME]",
            help="Go on with one that stopped (default: the newest).",
            rich_help_panel="Go on",
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="All fleets, the newest first.", rich_help_panel="Output")
    ] = False,
    logs: Annotated[
        str | None,
        typer.Option(
            "--logs",
            metavar="[NAME]",
            rich_help_panel="Output",
            help="What nodes wrote last (200 lines) in attempts that failed (default: of the newest fleet).",
        ),
    ] = None,
) -> None:
    """Send the jobs of a plan to other machines, and tabulate their rows by machine.

    Exit code: 0; 1 if a row that was asked for is not ok and comparable; 2 usage, or a job was lost; 130 on Ctrl-C.
    """
    from bench.store.store import Store

    store = Store(output.store)
    if sum((plan is not None, resume is not None, list_, logs is not None)) != 1:
        raise UsageError("give a plan, or --resume [NAME], --list or --logs [NAME]")
    if logs is not None:
        fleet_results.print_logs(store, logs)
        return
    if list_:
        tell(fleet_results.listing(store), output.format, None)
        return
    if resume is not None:
        sys.exit(go_on(store, resume, output.format))
    assert plan is not None
    sys.exit(_begin_plan(plan, where, store, output.format))


def _begin_plan(path: Path, where: FleetOptions, store: Store, format_name: str) -> int:
    from bench.fleet import plan_file

    plan = plan_file.read(path)
    retries = plan.retries if plan.retries is not None and where.retries == FleetOptions().retries else where.retries
    where = replace(where, on=where.on or plan.on, slurm=[*plan.slurm, *(where.slurm or [])] or None, retries=retries)
    if where.on is None:
        raise UsageError(f"{path}: no target; on = 'ray', or --on ray")
    where.check()
    entries = [replace(entry, arguments=_checked_arguments(entry)) for entry in plan.jobs]

    def jobs(nodes: Callable[[], list[Node]]) -> list[FleetJob]:
        made: list[FleetJob] = []
        for entry in entries:
            own = replace(where, node_python=entry.python or where.node_python, nodes=entry.nodes or where.nodes,
                          node_environment=entry.environment or where.node_environment)  # fmt: skip
            own.check()
            made += _jobs(entry.command, entry.arguments, own, nodes, len(made))
        return made

    return _carried_out(where, jobs, store, format_name)


def _checked_arguments(entry: JobEntry) -> list[str]:
    """The arguments of a plan's job, as its command takes them.

    Raises:
        UsageError: an option that the command does not have, or a value that it does not take.
    """
    from bench.cli import check, run

    app = typer.Typer()
    for each in (run, check):
        each.register(app)
    group: Any = typer.main.get_command(app)
    parsed: Any = group.commands[entry.command]
    known = {option.removeprefix("--"): each for each in parsed.params for option in each.opts}
    values: dict[str, list[str]] = {}
    for argument in entry.arguments:
        option, separator, value = argument.removeprefix("--").partition("=")
        if option not in known or option in NOT_OF_JOBS:
            raise UsageError(f"{entry.where}: bench {entry.command} has no option '{option}' for a job of a plan")
        values.setdefault(option, []).extend([value] if separator else [])
    typed = []
    for option, given in values.items():
        several = known[option].multiple
        joined = given if several or not given else [",".join(given)]
        typed += [f"--{option}={value}" for value in joined] or [f"--{option}"]
    try:
        context = parsed.make_context(entry.command, list(typed))
    except Exception as error:  # Typer has a Click of its own, whose classes are private
        if not hasattr(error, "format_message"):
            raise
        raise UsageError(f"{entry.where}: {error.format_message()}") from error
    names = {each: context.params[each] for each in ("workload", "model", "dataset", "recipe", "changes")}
    WorkloadOptions(**names).named()
    return typed


def send(command_name: str, typed: list[str], where: FleetOptions, store: Store, format_name: str) -> int:
    """Carry a command out on other machines, and show its rows by machine; the exit code. ``typed``: its arguments."""

    def jobs(nodes: Callable[[], list[Node]]) -> list[FleetJob]:
        return _jobs(command_name, typed, where, nodes, 0)

    return _carried_out(where, jobs, store, format_name)


def _jobs(
    command_name: str, typed: Sequence[str], where: FleetOptions, nodes: Callable[[], list[Node]], first: int
) -> list[FleetJob]:
    """A job for each node that it is for, numbered from ``first``."""
    from bench.fleet.jobs import FleetJob
    from bench.fleet.target import Selection

    arguments, files = fleet_options.with_files(list(typed))
    environment = where.environment(_backends(typed))
    chosen: Selection = where.selection
    return [
        FleetJob.model_validate(
            {
                "number": first + number, "command": command_name, "arguments": arguments, "files": files,
                "node": node and node.id, "node_name": node.name if node else "", "kind": node.kind if node else "",
                "environment": environment,
            }
        )
        for number, node in enumerate([None] if chosen == Selection() else chosen.of(nodes()))
    ]  # fmt: skip


def _backends(typed: Sequence[str]) -> list[str]:
    """The backends that a job's arguments name; all: those that are installed here."""
    import backends
    from bench import quantities

    named = next((each.partition("=")[2] for each in typed if each.startswith("--backend=")), "all")
    names = quantities.split_commas(named)
    if "all" not in names:
        return list(names)
    return [name for name in backends.names() if not backends.installed(backends.describe(name))[1]]


def _carried_out(
    where: FleetOptions, make: Callable[[Callable[[], list[Node]]], list[FleetJob]], store: Store, format_name: str
) -> int:
    """Begin a fleet, carry it out, and show it; the exit code."""
    from bench.fleet import jobs as kept

    fleet, target = opened(where)
    try:
        jobs = make(target.nodes)
        kept.add(store, fleet, jobs)
        return _driven(fleet, jobs, target, store, format_name)
    finally:
        target.close()


def opened(where: FleetOptions) -> tuple[Fleet, Target]:
    """A new fleet, which is not stored yet, and its target.

    Raises:
        BenchError: the target cannot be reached.
    """
    from datetime import UTC, datetime

    from bench.fleet import jobs as kept
    from bench.fleet import targets
    from bench.runner.run import new_name

    assert where.on is not None, "the job runs elsewhere"
    fleet = kept.Fleet(
        name=f"{kept.PREFIX}{new_name()}",
        line=options.command_line(),
        began=datetime.now(UTC).isoformat(timespec="seconds"),
        target=where.on,
        slurm=targets.slurm_parameters(where.slurm or []),
        folder=str(Path.cwd()),
        retries=where.retries,
    )
    return fleet, targets.open_target(fleet.target, fleet.slurm, fleet.name)


def go_on(store: Store, name: str, format_name: str) -> int:
    """Go on with a fleet that stopped; the exit code.

    Raises:
        UsageError: there is none, or it has ended.
    """
    from bench.fleet import jobs as kept
    from bench.fleet import targets

    fleet, jobs = kept.load(store, name or kept.newest_unended(store))
    if all(job.status == "done" for job in jobs):
        raise UsageError(f"{fleet.name} has ended: nothing is missing; bench history show {fleet.name} shows it")
    if any(job.had_secret and job.status != "done" for job in jobs):
        raise UsageError(f"an option of {fleet.name} had a secret, which is not stored: it cannot go on")
    target = targets.open_target(fleet.target, fleet.slurm, fleet.name)
    try:
        return _driven(fleet, jobs, target, store, format_name)
    finally:
        target.close()


def _driven(fleet: Fleet, jobs: list[FleetJob], target: Target, store: Store, format_name: str) -> int:
    """Carry out what is missing, and show all; the exit code."""
    from reports.content import machines
    from reports.render.terminal import show, with_notes

    again = f"bench fleet --resume {fleet.name}"
    if not drive(fleet, jobs, target, store):
        print(f"bench: interrupted; {again} goes on", file=sys.stderr)
        return options.INTERRUPTED
    notes = [f"{fleet.name} in {store.shown_url}"]
    if any(job.status == "lost" for job in jobs):
        notes.append(f"it is not whole: {again} tries what was lost again")
    show(with_notes(machines.document(fleet.name, fleet_results.placed(store, jobs)), *notes), format_name)
    codes = {job.code for job in jobs}
    return next((code for code in (2, 1, 4, 3) if code in codes), 0)


def drive(
    fleet: Fleet, jobs: list[FleetJob], target: Target, store: Store, ended: Callable[[FleetJob], None] = lambda _: None
) -> bool:
    """Carry out all jobs that are missing. False: Ctrl-C ended it; what has come is stored.

    Raises:
        BenchError: the store or the target failed.
    """
    from bench.fleet.driver import Driver

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    options.end_as_ctrl_c()  # not before: Ray sets handlers of its own when it begins
    try:
        Driver(store, target, fleet, jobs, say, lambda job: _read_by(store, job), ended).run()
    except KeyboardInterrupt:
        return False
    except BaseException:
        print(f"bench: {fleet.name} stopped early; bench fleet --resume {fleet.name} goes on", file=sys.stderr)
        raise
    return True


def _read_by(store: Store, job: FleetJob) -> list[str]:
    """What a job reads of the driver's store: a run whose weights it begins with, a baseline."""
    from bench.store import replay
    from bench.store.schema import BASELINES

    lines = list[str]()
    for argument in job.arguments:
        option, _, value = argument.partition("=")
        if option == "--init":
            lines += replay.of_run(store, value.partition(":")[0])
        elif option == "--against":
            lines += replay.of_document(store, BASELINES, value)
    return lines

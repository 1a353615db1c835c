"""``bench sweep``: tuning, the same trials for every backend."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from bench import quantities
from bench.cli import fleet_options, measuring, options
from bench.cli.fleet_options import FleetOptions
from bench.cli.grouped import command
from bench.cli.options import (
    DeviceOptions,
    InterpreterOptions,
    OutputOptions,
    PlaceOptions,
    ResumeOptions,
    WorkloadOptions,
)
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.analysis.sweep import Sweep, Trial
    from bench.fleet.jobs import FleetJob
    from bench.runner.plan import Request
    from bench.store.store import Store
    from bench.workloads.datasets.dataset import Dataset
    from bench.workloads.workload import Workload


@dataclass(frozen=True)
class TrialOptions:
    """What is tried, and how often."""

    PANEL: ClassVar = "How carefully"

    trials: Annotated[int | None, typer.Option(min=1, help="Draw so many combinations; without it all are tried.")] = (
        None
    )
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per trial and backend.")] = 3
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and the trials that are drawn.")] = 0
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a silent worker is killed.")] = 3600.0


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    command(app, "sweep")(sweep)


@dataclass(frozen=True)
class SearchOptions:
    """What is searched, by which backends."""

    PANEL: ClassVar = "What to run"

    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=A,B,C", help="Values of a recipe's field, or LOW..HIGH (repeatable; one is required)."
        ),
    ] = None
    backend: Annotated[str, typer.Option(help="all, or a list such as pytorch,keras.")] = "all"


@dataclass(frozen=True)
class Chosen:
    """All options that decide what a sweep does: it can go on with them later."""

    search: SearchOptions
    workload: WorkloadOptions
    device: DeviceOptions
    place: PlaceOptions
    interpreters: InterpreterOptions
    care: TrialOptions

    def request(self) -> Request:
        """What all trials have in common.

        Raises:
            UsageError: an option that cannot be read.
        """
        from bench.runner.plan import Request

        return Request(
            backends=_that_train(quantities.split_commas(self.search.backend)),
            workload=self.workload.named(),
            task="train",
            devices=self.device.device or "auto",
            placement=self.place.placement("deploy"),
            rounds=0,
            seed=self.care.seed,
            seeds=self.care.seeds,
            timeout=self.care.timeout,
            data_dir=self.device.data_dir,
            pythons=self.interpreters.pythons,
        )


def sweep(
    search: SearchOptions,
    workload: WorkloadOptions,
    device: DeviceOptions,
    place: PlaceOptions,
    interpreters: InterpreterOptions,
    care: TrialOptions,
    resume: ResumeOptions,
    where: FleetOptions,
    output: OutputOptions,
    restart: options.Restart = False,
) -> None:
    """Train every combination in every backend, and tell the best of each. Run again, it goes on where it was.

    Exit code: 0; 1 if a trial came to nothing; 2 usage; 130 on Ctrl-C.
    """
    from bench.store.store import Store

    chosen = Chosen(search, workload, device, place, interpreters, care)
    where.check()
    if where.on is not None and where.nodes is not None:
        raise UsageError("--nodes is not for a sweep: its trials go to whichever node is free")
    if resume.resume is None:
        sys.exit(_swept(chosen, Store(output.store), output.format, restart, resume.anyway, where))
    resume.check(chosen, "sweep")
    if restart:
        raise UsageError("--restart forgets what --resume goes on from; give one of them")
    store = Store(output.store)
    with options.going_on(store, resume.resume, "sweep", Chosen) as (_, first):
        sys.exit(_swept(first, store, output.format, False, resume.anyway, where))


def _swept(chosen: Chosen, store: Store, format_name: str, restart: bool, anyway: bool, where: FleetOptions) -> int:
    """Do all trials that are missing, and show them all; the exit code."""
    from bench.analysis import sweep as searching
    from bench.machine.host import fingerprint
    from bench.runner import resumption
    from bench.runner.run import new_name
    from reports.content import sweeps
    from reports.render.terminal import show, with_notes

    care = chosen.care
    if not chosen.search.over:
        raise UsageError("what to try is missing: --over FIELD=A,B,C, such as learning_rate=0.001,0.01")
    planned = searching.trials(chosen.search.over, care.trials, care.seed)
    workloads = [chosen.workload.named(_entries(trial.changes)) for trial in planned]
    if not all(each.recipe.validation for each in workloads):
        raise UsageError("trials are chosen on held-out images, the recipe holds out none; add --set validation=0.1")
    plan, data = measuring.plan_on_data(chosen.request())
    rows = {row.id: row.name for row in plan.rows if row.requested}
    decides = [plan.request.workload.name, sorted(rows), care.seeds, care.seed, data.sha256]
    decides.append([trial.changes for trial in planned])
    key = options.search_key(decides)
    name, workload = f"{resumption.SWEEP}{key}", chosen.workload.named().name
    begun = searching.Sweep(name=name, workload=workload, seeds=care.seeds, trials=planned, rows=rows)
    now = resumption.circumstances(plan, data.sha256, fingerprint())
    part = resumption.begun(options.plain(chosen), now).part()
    if not restart and store.parts(name):
        begun = begun.model_copy(update={"changed": resumption.goes_on(store, name, now, anyway).changed})
    if where.on is None:
        attempt = _Attempt(plan.request, data, store, workloads, anyway)

        def search(begun: Sweep, keep: Callable[[Sweep], None]) -> Sweep:
            return searching.search(begun, attempt, keep, new_name)
    else:
        elsewhere = _Elsewhere(chosen, where, store, plan.request.backends)

        def search(begun: Sweep, keep: Callable[[Sweep], None]) -> Sweep:
            return searching.search_at_once(begun, elsewhere, keep, new_name)

    finished = _search(begun, search, store, key, restart, part)
    show(with_notes(sweeps.document(finished), f"{finished.name} in {store.shown_url}"), format_name)
    return int(any(trial.failed for trial in finished.trials))


def _search(
    begun: Sweep,
    search: Callable[[Sweep, Callable[[Sweep], None]], Sweep],
    store: Store,
    key: str,
    restart: bool,
    part: Mapping[str, bytes],
) -> Sweep:
    """Search from where an earlier search of the same key ended; every trial is stored."""
    from bench.analysis import sweep as searching
    from bench.store.schema import SWEEPS

    known = None if restart else store.read(SWEEPS, key, searching.Sweep)
    if known is not None:
        begun = known.model_copy(update={"changed": [*known.changed, *begun.changed]})
    options.end_as_ctrl_c()
    store.put(SWEEPS, key, begun.model_dump_json())
    store.keep_parts(begun.name, part)
    try:
        finished = search(begun, lambda now: store.put(SWEEPS, key, now.model_dump_json()))
    except KeyboardInterrupt:
        again = f"bench sweep --resume {begun.name}"
        print(f"bench: interrupted; {again}, or the same command, goes on where it was", file=sys.stderr)
        sys.exit(options.INTERRUPTED)
    store.forget_parts(begun.name)
    return finished


def _entries(changes: dict[str, Any]) -> list[str]:
    return [f"{name}={json.dumps(value)}" for name, value in changes.items()]


def _that_train(requested: tuple[str, ...]) -> tuple[str, ...]:
    """The backends that train to a recipe's end, of the requested ones."""
    import backends
    from bench.runner.plan import ALL

    names = backends.names() if ALL in requested else requested
    return tuple(name for name in names if name not in backends.names() or "fit" in backends.describe(name).TASKS)


@dataclass(frozen=True)
class _Attempt:
    """Does one trial: a stored run without rounds."""

    request: Request
    dataset: Dataset
    store: Store
    workloads: list[Workload]
    anyway: bool

    def __call__(self, number: int, trial: Trial) -> Trial:
        from bench.analysis import sweep as searching
        from bench.runner.planner import make_plan
        from bench.runner.run import Sitting, run

        print(f"bench: trial {number + 1} of {len(self.workloads)}: {trial.label}", file=sys.stderr)
        plan = make_plan(replace(self.request, workload=self.workloads[number].on(self.dataset)))
        goes_on = trial.begun if trial.begun and self.store.parts(trial.begun) else None
        sitting = Sitting(name=trial.begun, goes_on=goes_on, anyway=self.anyway)
        finished = run(plan, self.dataset, self.store, options.command_line(), sitting=sitting)
        if finished.exit_code == options.INTERRUPTED:
            raise KeyboardInterrupt
        self.store.forget_parts(finished.run.name)  # whatever it came to, the trial is done
        return searching.ended(trial, finished.run)


@dataclass(frozen=True)
class _Elsewhere:
    """Does trials on other machines: each is a stored run without rounds. A node may have several at a time."""

    chosen: Chosen
    where: FleetOptions
    store: Store
    backends: tuple[str, ...]

    def __call__(self, trials: Mapping[int, Trial], done: Callable[[int, Trial], None]) -> None:
        from bench.analysis import sweep as searching
        from bench.cli import fleet
        from bench.fleet import driver
        from bench.fleet import jobs as kept

        jobs = [self._job(number, trial) for number, trial in enumerate(trials.values())]
        numbers = list(trials)

        def ended(job: kept.FleetJob) -> None:
            trial = trials[numbers[job.number]]
            if job.status == "done" and job.last is not None and job.code in (0, 1):
                self.store.forget_parts(job.last.result)
                done(numbers[job.number], searching.ended(trial, self.store.load(job.last.result)))
            else:
                why = (job.last and (job.last.lost or " ".join(job.last.log[-1:]))) or "it was lost"
                done(numbers[job.number], trial.model_copy(update={"failed": {"all rows": why}}))

        begun, target = fleet.opened(self.where)
        try:
            for job in jobs:
                if job.name is not None and self._is_stored(job.name):  # an earlier sitting has begun it
                    before = kept.Attempt(number=0, result=job.name, node="earlier", lost=driver.DRIVER_ENDED)
                    job.attempts, job.status = [before], "running"
            kept.add(self.store, begun, jobs)
            if not fleet.drive(begun, jobs, target, self.store, ended):
                raise KeyboardInterrupt
        finally:
            target.close()

    def _is_stored(self, name: str) -> bool:
        try:
            self.store.load(name)
        except UsageError:
            return False
        return True

    def _job(self, number: int, trial: Trial) -> FleetJob:
        from bench.fleet.jobs import FleetJob

        chosen, care = self.chosen, self.chosen.care
        workload = replace(chosen.workload, changes=[*(chosen.workload.changes or []), *_entries(trial.changes)])
        typed = fleet_options.arguments(workload, chosen.device, chosen.place, chosen.interpreters)
        typed += [f"--backend={','.join(self.backends)}", "--task=train", "--rounds=0", f"--seeds={care.seeds}"]
        typed += [f"--seed={care.seed}", f"--timeout={care.timeout}", "--no-lock"]
        arguments, files = fleet_options.with_files(list(dict.fromkeys(typed)))
        return FleetJob(
            number=number, command="run", arguments=arguments, files=files, exclusive=False, name=trial.begun,
            cpus=chosen.place.threads or 1, environment=self.where.environment(list(self.backends)),
        )  # fmt: skip

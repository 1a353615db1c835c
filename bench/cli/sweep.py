"""``bench sweep``: tuning, the same trials for every backend."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from bench import quantities
from bench.cli import options
from bench.cli.grouped import command
from bench.cli.options import DeviceOptions, InterpreterOptions, OutputOptions, PlaceOptions, WorkloadOptions
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.analysis.sweep import Sweep, Trial
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


def sweep(
    over: Annotated[
        list[str], typer.Option(metavar="FIELD=A,B,C", help="Values of a recipe's field, or LOW..HIGH (repeatable).")
    ],
    workload: WorkloadOptions,
    device: DeviceOptions,
    place: PlaceOptions,
    interpreters: InterpreterOptions,
    care: TrialOptions,
    output: OutputOptions,
    backend: Annotated[
        str, typer.Option(help="all, or a list such as pytorch,keras.", rich_help_panel="What to run")
    ] = "all",
    restart: options.Restart = False,
) -> None:
    """Train every combination in every backend, and tell the best of each. Run again, it goes on where it was.

    Exit code: 0; 1 if a trial came to nothing; 2 usage; 130 on Ctrl-C.
    """
    from bench.analysis import sweep as searching
    from bench.runner.plan import Request
    from bench.store.store import Store
    from reports.content import sweeps
    from reports.render.terminal import show, with_notes

    planned = searching.trials(over, care.trials, care.seed)
    base = workload.named()
    workloads = [workload.named(_entries(trial.changes)) for trial in planned]
    if not all(each.recipe.validation for each in workloads):
        raise UsageError("trials are chosen on held-out images, the recipe holds out none; add --set validation=0.1")
    request = Request(
        backends=_that_train(quantities.split_commas(backend)),
        workload=base,
        task="train",
        devices=device.device or "auto",
        placement=place.placement("deploy"),
        rounds=0,
        seed=care.seed,
        seeds=care.seeds,
        timeout=care.timeout,
        data_dir=device.data_dir,
        pythons=interpreters.pythons,
    )
    plan, data = options.plan_on_data(request)
    store = Store(output.store)
    rows = {row.id: row.name for row in plan.rows if row.requested}
    decides = [plan.request.workload.name, sorted(rows), care.seeds, care.seed, data.sha256]
    decides.append([trial.changes for trial in planned])
    key = options.search_key(decides)
    begun = searching.Sweep(name=f"sweep-{key}", workload=base.name, seeds=care.seeds, trials=planned, rows=rows)
    finished = _search(begun, _Attempt(plan.request, data, store, workloads), store, key, restart)
    show(with_notes(sweeps.document(finished), f"{finished.name} in {store.shown_url}"), output.format)
    sys.exit(any(trial.failed for trial in finished.trials))


def _search(begun: Sweep, attempt: _Attempt, store: Store, key: str, restart: bool) -> Sweep:
    """Search from where an earlier search of the same key ended; every trial is stored."""
    from bench.analysis import sweep as searching
    from bench.store.schema import SWEEPS

    known = None if restart else store.read(SWEEPS, key, searching.Sweep)
    options.end_as_ctrl_c()
    try:
        return searching.search(known or begun, attempt, lambda now: store.put(SWEEPS, key, now.model_dump_json()))
    except KeyboardInterrupt:
        print("bench: interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(options.INTERRUPTED)


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

    def __call__(self, number: int, trial: Trial) -> Trial:
        from bench.analysis import sweep as searching
        from bench.runner.planner import make_plan
        from bench.runner.run import run

        print(f"bench: trial {number + 1} of {len(self.workloads)}: {trial.label}", file=sys.stderr)
        plan = make_plan(replace(self.request, workload=self.workloads[number].on(self.dataset)))
        finished = run(plan, self.dataset, self.store, options.command_line())
        if finished.exit_code == options.INTERRUPTED:
            raise KeyboardInterrupt
        results, failed = {}, {}
        for record in finished.run.records:
            result = searching.result(record)
            if result is None:
                failed[record.id] = f"{record.status}: {record.error or 'not comparable'}"
            else:
                results[record.id] = result
        return trial.model_copy(update={"run": finished.run.name, "results": results, "failed": failed})

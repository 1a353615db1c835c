"""``bench sweep``: tuning, the same trials for every backend."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from typing import Annotated, Any

import typer

from bench.cli import jobs, options
from bench.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("sweep")(sweep)


def sweep(
    over: Annotated[
        list[str], typer.Option(metavar="FIELD=A,B,C", help="Values of a recipe's field, or LOW..HIGH (repeatable).")
    ],
    trials: Annotated[
        int | None, typer.Option(min=1, help="Draw so many combinations; without it all are tried.")
    ] = None,
    backend: options.Backend = "all",
    workload: options.WorkloadName = None,
    model: options.Model = None,
    dataset: options.Dataset = None,
    recipe: options.RecipeName = None,
    set_: options.Changes = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per trial and backend.")] = 3,
    device: options.Device = "auto",
    threads: options.Threads = None,
    seed: options.Seed = 0,
    timeout: options.Timeout = 3600.0,
    data_dir: options.DataDir = None,
    python: options.Pythons = None,
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an earlier search found.")] = False,
    store: options.StoreUrl = None,
    format_: options.Format = "simple",
) -> None:
    """Train every combination in every backend, and tell the best of each. Run again, it goes on where it was.

    Exit code: 0; 1 if a trial came to nothing; 2 usage; 130 on Ctrl-C.
    """
    from bench.analysis import sweep as searching
    from bench.machine.placement import place
    from bench.runner.plan import Request
    from bench.store.schema import SWEEPS
    from bench.store.store import Store
    from reports.content import sweeps
    from reports.render.terminal import show, with_notes

    space = searching.space(over, options.fields)
    planned = searching.grid(space) if trials is None else searching.drawn(space, trials, seed)
    names = (workload, model, dataset, recipe)
    base = options.workload(*names, set_)
    workloads = [options.workload(*names, [*(set_ or []), *_entries(trial.changes)]) for trial in planned]
    if not all(workload.recipe.validation for workload in workloads):
        raise UsageError("trials are chosen on held-out images, the recipe holds out none; add --set validation=0.1")
    request = Request(
        backends=_trained(options.split(backend)),
        workload=base,
        task="train",
        devices=device,
        placement=place("deploy", None, threads, None),
        rounds=0,
        seed=seed,
        seeds=seeds,
        timeout=timeout,
        data_dir=data_dir,
        pythons=options.pythons(python),
    )
    plan, data = options.on_data(request)
    opened = Store(store)
    rows = sorted(row.name for row in plan.rows if row.asked)
    decides = [plan.request.workload.name, rows, seeds, seed, data.sha256, [trial.changes for trial in planned]]
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
    begun = searching.Sweep(name=f"sweep-{key}", workload=base.name, seeds=seeds, trials=planned)
    known = None if restart else opened.read(SWEEPS, key, searching.Sweep)
    attempt = _Attempt(plan.request, data, opened, workloads)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        found = searching.search(known or begun, attempt, lambda now: opened.put(SWEEPS, key, now.model_dump_json()))
    except KeyboardInterrupt:
        print("bench: interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(jobs.INTERRUPTED)
    show(with_notes(sweeps.document(found), f"{found.name} in {opened.shown}"), format_)
    sys.exit(any(trial.failed for trial in found.trials))


def _entries(changes: dict[str, Any]) -> list[str]:
    return [f"{name}={json.dumps(value)}" for name, value in changes.items()]


def _trained(asked: tuple[str, ...]) -> tuple[str, ...]:
    """The backends that train to a recipe's end, of those asked for."""
    import backends
    from bench.runner.plan import ALL

    names = backends.names() if ALL in asked else asked
    return tuple(name for name in names if name not in backends.names() or "fit" in backends.load(name).TASKS)


class _Attempt:
    """Does one trial."""

    def __init__(self, request: Any, data: Any, store: Any, workloads: list[Any]) -> None:
        self._request, self._data, self._store, self._workloads = request, data, store, workloads

    def __call__(self, number: int, trial: Any) -> Any:
        from dataclasses import replace

        from bench.analysis import sweep as searching
        from bench.records.record import label
        from bench.runner.planner import make
        from bench.runner.run import run

        print(f"bench: trial {number + 1} of {len(self._workloads)}: {trial.told}", file=sys.stderr)
        workload = self._workloads[number].on(self._data)
        plan = make(replace(self._request, workload=workload))
        finished = run(plan, self._data, self._store, options.command_line())
        if finished.exit_code == jobs.INTERRUPTED:
            raise KeyboardInterrupt
        ran = [record.job for record in finished.run.records]
        results, failed = {}, {}
        for record in finished.run.records:
            name, found = label(record.job, ran), searching.result(record)
            if found is None:
                failed[name] = f"{record.status}: {record.error or 'not comparable'}"
            else:
                results[name] = found
        return trial.model_copy(update={"run": finished.run.name, "results": results, "failed": failed})

"""One ``bench run``: measure a plan and store the run."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from bench.analysis.ratios import with_ratios
from bench.analysis.roofs import is_above, with_roofs
from bench.analysis.scaling import with_scaling
from bench.machine.host import fingerprint, git_commit
from bench.records.record import Data, Record, Run
from bench.runner import checkpoints, resumption, time_left
from bench.runner.plan import Plan
from bench.runner.progress import RunProgress, Watch
from bench.runner.record_builder import Context
from bench.runner.results import Results
from bench.runner.resumption import Circumstances, Resumed
from bench.runner.rounds import Rounds
from bench.runner.row_jobs import RowJobs, trainings
from bench.runner.worker_process import WorkerError
from bench.runner.workspace import DatasetInputs, Inputs, Workspace
from bench.store.store import Store
from bench.worker.protocol import MeasureRoof
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.workload import Workload

UNENDED = ("failed", "timeout", "crashed", "out-of-memory", "interrupted")
"""Statuses of rows that may end well when they are tried again."""


ROOF_TRIES = 3
"""How often the limit of the machine is measured again before a row is accused of exceeding it."""
STORED_BYTES = 500_000
"""What a row stores for a round, about: its slices in its record, and once more in what it goes on from."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished or interrupted run."""

    run: Run
    exit_code: int
    stored_in: str
    goes_on: str = ""
    """The command that goes on with it; empty: nothing is missing."""


@dataclass(frozen=True)
class Sitting:
    """How a run is begun, or goes on."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Those of its command, with which it can go on later."""
    name: str | None = None
    """Of a new run, if its name was given; see ``new_name``."""
    goes_on: str | None = None
    """The name of the run that goes on; None: a new one begins."""
    watch: Watch | None = None
    """Gets the evaluations of trainings while they go on."""
    anyway: bool = False
    """Whether it goes on although the machine, versions or data have changed."""


def run(
    plan: Plan,
    dataset: Dataset,
    store: Store,
    command: str,
    inputs: Inputs | None = None,
    sitting: Sitting | None = None,
) -> FinishedRun:
    """Measure and store a run.

    Exit code: 0 if every requested row is ok and comparable; 1 if not; 2 if the run could not be stored; 130 if it was
    interrupted. ``inputs`` replaces those of the data set for files of the user.

    Raises:
        BenchError: its data cannot be written, or it cannot go on here.
    """
    request, sitting = plan.request, sitting or Sitting()
    name, context = begin(dataset, request.workload)
    begun = Run(
        name=sitting.name or name,
        command=command,
        started_at=context.started_at,
        rounds=0,
        precision_target=request.precision_target,
        budget=plan.budget,
        accuracy_margin=request.accuracy_margin,
    )
    now = resumption.circumstances(plan, dataset.sha256, context.machine)
    if sitting.goes_on is not None:
        resumption.goes_on(store, sitting.goes_on, now, sitting.anyway)  # before it waits for its turn
    store.check_space(len(plan.rows) * STORED_BYTES * max(1, plan.rounds))
    workspace = Workspace(plan, inputs or DatasetInputs(dataset))
    with workspace.opened():
        begun, context, resumed = _begun(store, begun, context, sitting, now)
        with RunProgress(store=store, run_name=begun.name, watch=sitting.watch) as progress:
            results = Results(plan, context, progress, 0, workspace.timing)
            if resumed is not None:
                begun = _restored(results, begun, resumed, store)
            counts = [max(0, trainings(plan, row) - len(results[row].fits)) for row in plan.rows]
            results.total = len(plan.rows) + sum(counts) + results.rounds_missing() * len(plan.order(0))
            if plan.budget is not None:
                progress.ends_at = time.monotonic() + plan.budget - workspace.timing.wall
            elif resumed is None:
                progress.step_seconds = time_left.step_seconds(plan, counts, store)
            try:
                interrupted = _measure(workspace, results, dataset)
            except BaseException:
                again = resumption.command(begun.name)
                print(f"bench: the run stopped early; {again} does what is missing", file=sys.stderr)
                raise
    ended = begun.model_copy(
        update={
            "rounds": len(results.schedule),
            "schedule": results.schedule,
            "timing": asdict(workspace.timing),
            "records": with_ratios(with_roofs(with_scaling(results.records()))),
        }
    )
    whole = not interrupted and not any(record.status in UNENDED for record in ended.records)
    progress.ended(ended, whole)
    code = 130 if interrupted else 2 if progress.store_error else int(_any_failed(plan, ended.records))
    where = f"no store: {progress.store_error}" if progress.store_error else store.shown_url
    return FinishedRun(ended, code, where, "" if whole or progress.store_error else resumption.command(begun.name))


def _begun(
    store: Store, new: Run, context: Context, sitting: Sitting, now: Circumstances
) -> tuple[Run, Context, Resumed | None]:
    """Store that the run begins, or goes on: the run without records, the fields that all of them share, and what it
    goes on from.

    Raises:
        BenchError: it cannot be stored, or cannot go on here.
    """
    part = resumption.begun(sitting.options, now).part()
    if sitting.goes_on is None:
        store.add_run(new, part)  # not before: a run that cannot write its data leaves nothing behind
        return new, context, None
    resumed = resumption.goes_on(store, sitting.goes_on, now, sitting.anyway)
    stored = store.load(resumed.name)
    forgotten = checkpoints.parts_to_forget(resumed.parts, stored.name)
    store.forget_parts(stored.name, forgotten)
    store.save(stored.name, parts=part)
    parts = {name: content for name, content in resumed.parts.items() if name not in forgotten}
    context = replace(context, started_at=stored.started_at)
    return stored.model_copy(update={"records": []}), context, replace(resumed, parts=parts)


def _restored(results: Results, begun: Run, resumed: Resumed, store: Store) -> Run:
    """The run that goes on; its rows get their results back."""
    weights = store.weights(resumed.name)[1]
    results.restore(resumed.parts, weights, resumed.name, again=True)
    once_more = resumption.resumption(resumed, len(results.schedule))
    begun = begun.model_copy(update={"resumed": [*begun.resumed, once_more]})
    results.allow_changes = any(once.changed for once in begun.resumed)
    return begun


def _measure(workspace: Workspace, results: Results, dataset: Dataset) -> bool:
    """Certify and fit every row, then measure rounds. Whether Ctrl-C stopped it."""
    results.report_problems()
    results.began = began = time.monotonic() - results.timing.wall
    try:
        of_models = results.plan.request.task != "input"
        finds_limit = of_models and results.plan.rounds > 0
        RowJobs(workspace, results, dataset, trains=of_models, finds_limit=finds_limit).run_all()
        Rounds(workspace, results, began).run_all()
        _look_again_at_roofs(workspace, results)
    except KeyboardInterrupt:
        results.interrupt()
        return True
    finally:
        results.timing.wall = time.monotonic() - began
    return False


def _look_again_at_roofs(workspace: Workspace, results: Results) -> None:
    """A busy machine may have been slow when its limit was measured: where a row is above it, it is measured again,
    before the row is accused."""
    for _ in range(ROOF_TRIES):
        above = {(r.job.device, r.job.precision, r.job.threads) for r in with_roofs(results.records()) if is_above(r)}
        for row in results.plan.rows if above else ():
            result = results[row]
            if result.status == "ok" and result.certified is not None and result.certified.kernels:
                try:
                    again = workspace.ask_fresh_worker(row, "roof", MeasureRoof(work=workspace.work(row))).kernels
                except WorkerError:
                    continue  # what it measured before stays
                best = {name: max(rate, again.get(name, rate)) for name, rate in result.certified.kernels.items()}
                result.certified = replace(result.certified, kernels=best)
        if not above:
            return


def begin(dataset: Dataset, workload: Workload) -> tuple[str, Context]:
    """A new run's name, and the fields that all its records share."""
    now = datetime.now(UTC)
    name = new_name(now)
    images, held_out = len(dataset.train_y), workload.recipe.held_out(len(dataset.train_y))
    counts = {"train": images - held_out, "validation": held_out, "test": len(dataset.test_y)}
    data = Data(name=dataset.name, sha256=dataset.sha256, note=dataset.note, **counts)
    context = Context(fingerprint(), data, git_commit(), now.isoformat(timespec="seconds"))
    return name, context


def new_name(now: datetime | None = None) -> str:
    """A name for a run that begins now: its time in UTC, and four random digits."""
    return f"{now or datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def _any_failed(plan: Plan, records: list[Record]) -> bool:
    required = {row.job.row: row.required for row in plan.rows}
    return any(
        not record.comparable and (required[record.job.row] or record.status not in ("unavailable", "unsupported"))
        for record in records
    )

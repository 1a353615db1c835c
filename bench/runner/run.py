"""One ``bench run``: measure a plan and store the run."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from bench.analysis.ratios import with_ratios
from bench.machine.host import fingerprint, git_commit
from bench.records.record import Data, Record, Run
from bench.runner import time_left
from bench.runner.plan import Plan
from bench.runner.progress import RunProgress
from bench.runner.record_builder import Context
from bench.runner.results import Results
from bench.runner.rounds import Rounds
from bench.runner.row_jobs import RowJobs, trainings
from bench.runner.workspace import DatasetInputs, Inputs, Workspace
from bench.store.store import Store
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.workload import Workload


@dataclass(frozen=True)
class FinishedRun:
    """A finished or interrupted run."""

    run: Run
    exit_code: int
    stored_in: str


def run(plan: Plan, dataset: Dataset, store: Store, command: str, inputs: Inputs | None = None) -> FinishedRun:
    """Measure and store a run.

    Exit code: 0 if every requested row is ok and comparable; 1 if not; 2 if the run could not be stored; 130 if it was
    interrupted. ``inputs`` replaces those of the data set for files of the user.
    """
    request = plan.request
    name, context = begin(dataset, request.workload)
    begun = Run(
        name=name,
        command=command,
        started_at=context.started_at,
        rounds=0,
        precision_target=request.precision_target,
        budget=plan.budget,
        accuracy_margin=request.accuracy_margin,
    )
    counts = [trainings(plan, row) for row in plan.rows]
    total = len(plan.rows) + sum(counts) + plan.rounds * len(plan.order(0))
    workspace = Workspace(plan, inputs or DatasetInputs(dataset))
    with workspace.opened():
        store.add_run(begun)  # not before: a run that cannot write its data leaves nothing behind
        with RunProgress(store=store, run_name=name) as progress:
            if plan.budget is None:
                progress.step_seconds = time_left.step_seconds(plan, counts, store)
            else:
                progress.ends_at = time.monotonic() + plan.budget
            results = Results(plan, context, progress, total)
            interrupted = _measure(workspace, results, dataset)
    timing = asdict(workspace.timing)
    ended = begun.model_copy(
        update={
            "rounds": len(results.schedule),
            "schedule": results.schedule,
            "timing": timing,
            "records": with_ratios(results.records()),
        }
    )
    progress.ended(ended)
    code = 130 if interrupted else 2 if progress.store_error else int(_any_failed(plan, ended.records))
    where = f"no store: {progress.store_error}" if progress.store_error else store.shown_url
    return FinishedRun(ended, code, where)


def _measure(workspace: Workspace, results: Results, dataset: Dataset) -> bool:
    """Certify and fit every row, then measure rounds. Whether Ctrl-C stopped it."""
    results.report_problems()
    began = time.monotonic()
    try:
        RowJobs(workspace, results, dataset).run_all()
        Rounds(workspace, results, began).run_all()
    except KeyboardInterrupt:
        results.interrupt()
        return True
    finally:
        workspace.timing.wall = time.monotonic() - began
    return False


def begin(dataset: Dataset, workload: Workload) -> tuple[str, Context]:
    """A new run's name, and the fields that all its records share."""
    now = datetime.now(UTC)
    images, held_out = len(dataset.train_y), workload.recipe.held_out(len(dataset.train_y))
    counts = {"train": images - held_out, "validation": held_out, "test": len(dataset.test_y)}
    data = Data(name=dataset.name, sha256=dataset.sha256, note=dataset.note, **counts)
    context = Context(fingerprint(), data, git_commit(), now.isoformat(timespec="seconds"))
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}", context


def _any_failed(plan: Plan, records: list[Record]) -> bool:
    required = {row.job.row: row.required for row in plan.rows}
    return any(
        not record.comparable and (required[record.job.row] or record.status not in ("unavailable", "unsupported"))
        for record in records
    )

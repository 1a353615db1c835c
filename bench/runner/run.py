"""One ``bench run``, from plan to stored run."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from bench.analysis.ratios import with_ratios
from bench.machine.host import fingerprint, git_commit
from bench.records.record import Data, Record, Run
from bench.runner import time_left
from bench.runner.plan import DEFAULT_BUDGET, Plan
from bench.runner.progress import RunProgress
from bench.runner.record_builder import Context, to_record
from bench.runner.rounds import Runner
from bench.store.store import Store
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.workload import Workload


@dataclass(frozen=True)
class Finished:
    """A run that came to its end, or was interrupted."""

    run: Run
    exit_code: int
    stored_in: str


def run(
    plan: Plan, dataset: Dataset, store: Store, command: str, data: Data | None = None, runner: type[Runner] = Runner
) -> Finished:
    """Measure and store. Exit code 0 if every row that was asked for is ok and comparable, 1 if not (or it could not
    be stored), 130 when interrupted; what was measured is in ``Finished`` in any case."""
    request = plan.request
    name, context = begin(dataset, request.workload, data)
    begun = Run(
        name=name,
        command=command,
        started_at=context.started_at,
        rounds=plan.rounds,
        precision_target=request.precision_target,
        budget=None if request.precision_target is None else request.budget or DEFAULT_BUDGET,
        accuracy_margin=request.accuracy_margin,
    )
    store.add_run(begun)
    code = 0
    with RunProgress(store=store, run_name=name) as progress:
        running = runner(plan, dataset, context, progress)
        progress.steps = time_left.seconds(plan, [running.trainings(row) for row in plan.rows], store)
        try:
            running.run()
        except KeyboardInterrupt:
            code = 130
    records = [to_record(running.results[row.name], context) for row in plan.rows if row.asked]
    told = {"rounds": len(running.schedule), "schedule": running.schedule, "timing": asdict(running.timing)}
    ended = begun.model_copy(update={**told, "records": with_ratios(records)})
    progress.ended(ended)
    if code == 0 and (progress.store_error or _any_failed(plan, records)):
        code = 1
    where = f"no store: {progress.store_error}" if progress.store_error else store.url.render_as_string()
    return Finished(ended, code, where)


def begin(dataset: Dataset, workload: Workload, data: Data | None = None) -> tuple[str, Context]:
    """A name for what is measured now, and what all its records share."""
    now = datetime.now(UTC)
    images, held_out = len(dataset.train_y), workload.recipe.held_out(len(dataset.train_y))
    counts = {"train": images - held_out, "validation": held_out, "test": len(dataset.test_y)}
    data = data or Data(name=dataset.name, sha256=dataset.sha256, note=dataset.note, **counts)
    context = Context(fingerprint(), data, git_commit(), now.isoformat(timespec="seconds"))
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}", context


def _any_failed(plan: Plan, records: list[Record]) -> bool:
    required = {row.job.row: row.required for row in plan.rows}
    return any(
        not record.comparable and (required[record.job.row] or record.status not in ("unavailable", "unsupported"))
        for record in records
    )

"""One ``bench run``, from plan to stored run."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.datasets import Dataset
from bench.job import Data, Record, Run
from bench.machine import fingerprint, git_commit
from bench.plan import Plan
from bench.progress import StoringProgress
from bench.ratios import with_ratios
from bench.runner import Runner
from bench.store import Store
from bench.summary import Context, to_record


@dataclass(frozen=True)
class Finished:
    """A run that came to its end, or was interrupted."""

    run: Run
    exit_code: int
    stored_in: str


def run(plan: Plan, dataset: Dataset, store: Store, command: str) -> Finished:
    """Measure and store. Exit code 0 if every row that was asked for is ok and comparable, 1 if not (or it could not
    be stored), 130 when interrupted; what was measured is in ``Finished`` in any case."""
    now = datetime.now(UTC)
    counts = {"train": len(dataset.train_y), "test": len(dataset.test_y)}
    data = Data(name=dataset.name, sha256=dataset.sha256, note=dataset.note, **counts)
    context = Context(fingerprint(), data, git_commit(), now.isoformat(timespec="seconds"))
    name = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    schedule = [[row.name for row in order] for order in plan.rounds]
    begun = Run(name=name, command=command, started_at=context.started_at, rounds=len(plan.rounds), schedule=schedule)
    store.add_run(begun)
    code = 0
    with StoringProgress(store, name) as progress:
        runner = Runner(plan, dataset, context, progress)
        try:
            runner.run()
        except KeyboardInterrupt:
            code = 130
    records = [to_record(runner.results[row.job.row], context) for row in plan.rows if row.asked]
    if code == 0 and (progress.store_error or _any_failed(plan, records)):
        code = 1
    where = f"no store: {progress.store_error}" if progress.store_error else store.url.render_as_string()
    return Finished(begun.model_copy(update={"records": with_ratios(records)}), code, where)


def _any_failed(plan: Plan, records: list[Record]) -> bool:
    required = {row.job.row: row.required for row in plan.rows}
    return any(
        not record.comparable and (required[record.job.row] or record.status not in ("unavailable", "unsupported"))
        for record in records
    )

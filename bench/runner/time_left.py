"""How long a run will take, by what its steps took in an earlier run of the same rows and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.records.record import Record, Run
from bench.runner.plan import Plan, Row
from bench.store import queries
from bench.store.store import Store
from bench.worker.protocol import Job

LOOKED_AT = 5
"""Of the newest runs of the workload; older ones tell of another machine or version more likely than of this."""


def seconds(plan: Plan, trainings: Sequence[int], store: Store) -> list[float] | None:
    """Of every step of the plan, in order: per row its certificate and its trainings, then per round a share for each
    row. None where no earlier run had all these rows and figures."""
    workload = plan.request.workload
    which = queries.Filter(workload=(workload.model.name, workload.dataset, workload.recipe.name))
    for listed in queries.runs(store, which, LOOKED_AT):
        found = of_run(plan, trainings, store.load(listed.name))
        if found is not None:
            return found
    return None


def of_run(plan: Plan, trainings: Sequence[int], earlier: Run) -> list[float] | None:
    """As ``seconds``, by one earlier run; ``trainings`` counts those of every row of the plan."""
    records = {_identity(record.job): record for record in earlier.records if record.status == "ok"}
    steps: list[float] = []
    measured = []
    for row, fits in zip(plan.rows, trainings, strict=True):
        record = records.get(_identity(row.job))
        if row.problem is not None:
            steps += [0.0] * (1 + fits)
        elif record is None:
            return None
        else:
            certify, fit = _mean(record, "certify"), _mean(record, "fit")
            if certify is None or (fits and fit is None):
                return None
            if row.asked and _speeds(record) != _planned(plan, row):
                return None
            steps += [certify, *[fit or 0.0] * fits]
            measured += [record] if row.asked else []
    together = plan.order(0)
    lives = [phase for record in measured for phase in record.phases if phase.kind == "measure"]
    by_round: dict[int, float] = {}
    for phase in lives:
        number = phase.round or 0
        by_round[number] = max(by_round.get(number, 0.0), phase.life)
    if together and not by_round:
        return None
    share = sum(by_round.values()) / len(by_round) / len(together) if together else 0.0
    return [*steps, *[share] * (plan.rounds * len(together))]


def _identity(job: Job) -> Job:
    """A job without its seed, which does not change how long it takes."""
    return replace(job, seed=0)


def _mean(record: Record, kind: str) -> float | None:
    lives = [phase.life for phase in record.phases if phase.kind == kind]
    return sum(lives) / len(lives) if lives else None


Speeds = set[tuple[str | None, int | None, str | None]]
"""Task, batch size and boundary of throughputs."""


def _speeds(record: Record) -> Speeds:
    return {(f.task, f.batch_size, f.boundary) for f in record.figures if f.name == "throughput"}


def _planned(plan: Plan, row: Row) -> Speeds:
    ours = [f for f in plan.metrics if f.name == "throughput" and f.task in row.tasks]
    return {(f.task, f.batch_size, f.boundary) for f in ours}

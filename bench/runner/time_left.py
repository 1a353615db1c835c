"""Estimate how long a run takes, from the steps of an earlier run with the same rows and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.records.record import Record, Run
from bench.runner.plan import Plan, Row
from bench.store import queries
from bench.store.store import Store
from bench.worker.protocol import Job

RUNS_SEARCHED = 5
"""Newest runs of the workload that are searched; older ones more likely had another machine or version."""


def step_seconds(plan: Plan, trainings: Sequence[int], store: Store) -> list[float] | None:
    """Expected seconds of every step of the plan, in order; None if no earlier run has all these rows and metrics.

    The steps are the certificate and the trainings of every row, then in every round an equal share for each row.
    """
    workload = plan.request.workload
    which = queries.Filter(workload=(workload.model.name, workload.dataset, workload.recipe.name))
    for listed in queries.runs(store, which, RUNS_SEARCHED):
        steps = steps_from_run(plan, trainings, store.load(listed.name))
        if steps is not None:
            return steps
    return None


def steps_from_run(plan: Plan, trainings: Sequence[int], earlier: Run) -> list[float] | None:
    """Like ``step_seconds``, from one earlier run. ``trainings``: number of trainings of every row of the plan."""
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
            certify, fit = _mean_life(record, "certify"), _mean_life(record, "fit")
            if certify is None or (fits and fit is None):
                return None
            if row.requested and _recorded_throughputs(record) != _planned_throughputs(plan, row):
                return None
            steps += [certify, *[fit or 0.0] * fits]
            measured += [record] if row.requested else []
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


def _mean_life(record: Record, kind: str) -> float | None:
    lives = [phase.life for phase in record.phases if phase.kind == kind]
    return sum(lives) / len(lives) if lives else None


Throughputs = set[tuple[str | None, int | None, str | None]]
"""Task, batch size and boundary of each throughput."""


def _recorded_throughputs(record: Record) -> Throughputs:
    return {(m.task, m.batch_size, m.boundary) for m in record.figures if m.name == "throughput"}


def _planned_throughputs(plan: Plan, row: Row) -> Throughputs:
    timed = [m for m in plan.metrics if m.name == "throughput" and m.task in row.tasks]
    return {(m.task, m.batch_size, m.boundary) for m in timed}

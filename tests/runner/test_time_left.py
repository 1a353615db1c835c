"""The expected time of a run's steps, from an earlier run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import row, run, speed

from bench.records.record import Record, Run
from bench.runner import time_left
from bench.runner.plan import Plan, Request
from bench.runner.planner import make_plan
from bench.workloads.workload import DEFAULT_WORKLOAD, parse


@pytest.fixture
def plan() -> Plan:
    return make_plan(Request(("reference", "pytorch"), parse(DEFAULT_WORKLOAD), devices="cpu", task="infer", rounds=2))


def earlier(plan: Plan, **lives: float) -> Run:
    """A run of the plan's rows with these seconds per worker, and two rounds of 10 and 20 s."""
    records: list[Record] = []
    for planned in plan.rows:
        rounds = [{"kind": "measure", "round": i, "seconds": {}, "life": 10.0 * (i + 1)} for i in range(2)]
        once = [{"kind": kind, "round": None, "seconds": {}, "life": life} for kind, life in lives.items()]
        figures = [speed([1.0, 2.0]) | {"boundary": boundary} for boundary in ("end-to-end", "device")]
        made = row("x", figures, phases=[*once, *rounds])
        records.append(made.model_copy(update={"job": replace(planned.job, seed=7)}))
    return run(*records)


def test_steps_take_as_long_as_before(plan: Plan) -> None:
    trainings = [2 if "fit" in planned.tasks else 0 for planned in plan.rows]
    steps = time_left.steps_from_run(plan, trainings, earlier(plan, certify=3.0, fit=5.0))
    assert steps is not None
    assert sorted(steps) == sorted([3.0, 3.0, 5.0, 5.0, 7.5, 7.5, 7.5, 7.5])
    assert sum(steps[-4:]) == 30, "two rounds of 15 s on average"


def test_another_job_gives_no_estimate(plan: Plan) -> None:
    trainings = [0 for _ in plan.rows]
    before = earlier(plan, certify=3.0)
    other = [record.model_copy(update={"job": replace(record.job, threads=7)}) for record in before.records]
    assert time_left.steps_from_run(plan, trainings, before.model_copy(update={"records": other})) is None
    more = replace(plan, metrics=(*plan.metrics, replace(plan.metrics[0], batch_size=7)))
    assert time_left.steps_from_run(more, trainings, before) is None, "another batch size"
    assert time_left.steps_from_run(plan, [1 for _ in plan.rows], before) is None, "it was not trained"

"""One row, certified once; the caller decides when each round is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from bench.errors import BenchError, UsageError
from bench.records.record import Record
from bench.runner import rounds as interleaved
from bench.runner.interleaving import MeasuredRound
from bench.runner.plan import Plan, Row
from bench.runner.record_builder import Context, sample, throughput, to_record
from bench.runner.results import Results, Silent
from bench.runner.row_jobs import RowJobs
from bench.runner.workspace import DatasetInputs, Workspace
from bench.workloads.datasets.dataset import Dataset

Rounds = Callable[[Callable[[], float]], None]
"""Calls the given function once per round; that function measures a fresh worker and returns seconds per batch."""


def one_row(plan: Plan, source: str | None, boundary: str) -> Plan:
    """The plan with one requested row (with this source, for a runtime) and its throughput at one boundary.

    Raises:
        UsageError: there is no such row or metric, or more than one.
    """
    rows = [row for row in plan.rows if row.requested and source in (None, row.job.source)]
    metrics = tuple(m for m in plan.metrics if m.name == "throughput" and m.boundary == boundary)
    if len(rows) != 1:
        names = ", ".join(row.name for row in plan.rows if row.requested)
        raise UsageError(f"{len(rows)} rows fit (of {names}); name one backend, and source='pytorch' for a runtime")
    if len(metrics) != 1:
        raise UsageError(f"{len(metrics)} metrics fit; give task 'train' or 'infer', boundary 'end-to-end' or 'device'")
    if rows[0].problem is not None:
        raise BenchError(f"{rows[0].name} is {rows[0].problem[0]}: {rows[0].problem[1]}")
    kept = [row for row in plan.rows if row is rows[0] or row == rows[0].source]
    kept = [replace(row, requested=row is rows[0]) for row in kept]
    return replace(plan, rows=tuple(kept), metrics=metrics)


def measure(plan: Plan, dataset: Dataset, context: Context, rounds: Rounds) -> Record:
    """Measure all rounds of a plan of ``one_row``, with the seeded initial weights; the row's record.

    Raises:
        BenchError: the row does not run.
    """
    row = next(row for row in plan.rows if row.requested)
    workspace = Workspace(plan, DatasetInputs(dataset))
    results = Results(plan, context, Silent(), total=0)
    measuring = interleaved.Rounds(workspace, results, began=time.monotonic())

    def one_round() -> float:
        """Seconds of one batch in a fresh worker."""
        number = len(results.schedule)
        results.schedule.append([row.id])
        outcome = measuring.block(f"round {number + 1}").measure([row], plan.metrics, lambda part: None)[row.id]
        measuring.keep(row, outcome)
        _raise_if_failed(results, row)
        assert isinstance(outcome, MeasuredRound)
        metric = outcome.metrics[0].metric
        return float(metric.batch_size / sample(number, outcome.metrics[0], throughput, keep=True).value)

    with workspace.opened():
        RowJobs(workspace, results, dataset, trains=False).run_all()
        _raise_if_failed(results, row)
        rounds(one_round)
    return to_record(results[row], context)


def _raise_if_failed(results: Results, row: Row) -> None:
    result = results[row]
    if result.status != "ok":
        raise BenchError(f"{row.name} is {result.status}: {result.error}")

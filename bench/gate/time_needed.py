"""How long a check takes until its first look, from an earlier check: a budget that ends before it gives no verdict."""

from __future__ import annotations

from collections.abc import Collection

from bench.errors import BenchError
from bench.gate.gate import budget_that_would_do, two_sided
from bench.gate.gated_metric import Criteria, GatedMetric
from bench.records.gate_result import Check
from bench.runner.plan import Plan, Side
from bench.store.schema import CHECKS
from bench.store.store import Store

CHECKS_SEARCHED = 10
"""Newest checks that are searched."""


def why_too_short(plan: Plan, criteria: Criteria, store: Store, machine: str, data: str) -> str:
    """Why the budget cannot do, with the one that would, by the newest check of the same metrics and data on this
    machine; empty if it does, or if there was no such check."""
    sides = two_sided(plan, base := Side("base", ""), Side("present", ""), criteria)
    gated = {
        metric
        for row in sides.rows
        if row.side == base and row.requested and row.problem is None
        for metric in criteria.gated_metrics(row.job.row.id, row.tasks, sides.metrics)
    }
    for name in store.names(CHECKS)[:CHECKS_SEARCHED]:
        try:
            earlier = store.read(CHECKS, name, Check)
        except BenchError:
            continue  # damaged: bench history checks names it; it must not keep a new check from running
        if earlier is None or earlier.machine.get("id") != machine or earlier.data.sha256 != data:
            continue
        seconds = until_first_look(earlier, gated, criteria.looks[0])
        if seconds is not None:
            if seconds <= criteria.budget:
                return ""
            before = f"{name} took {seconds:.0f} s until its first look, the budget is {criteria.budget:g} s"
            why = "nothing was measured, the budget ended before the first look (--budget)"
            return f"{why}: {before}; {budget_that_would_do(seconds)}"
    return ""


def until_first_look(check: Check, gated: Collection[GatedMetric], pairs: int) -> float | None:
    """Seconds of so many pairs of every row, as this check took for its pairs; None if it was of other metrics, or has
    no pairs."""
    measured: dict[str, int] = {}
    for one in check.figures:
        measured[one.row] = max(measured.get(one.row, 0), len(one.pairs))
    of_check = {GatedMetric(one.row, one.name, one.task, one.batch_size, one.boundary) for one in check.figures}
    total = sum(measured.values())
    if of_check != set(gated) or not total or not check.seconds:
        return None
    return check.seconds / total * len(measured) * pairs

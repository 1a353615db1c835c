"""What a check's budget can find, from an earlier check of the same: its time until the first look, and its noise.

A budget that ends before the first look gives no verdict; one of too few pairs gives an interval wider than the margin.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from bench.analysis import sequential_test
from bench.errors import BenchError
from bench.gate.gate import budget_that_would_do, two_sided
from bench.gate.gated_metric import Criteria, GatedMetric
from bench.records.gate_result import Check, MetricVerdict
from bench.runner.plan import Plan, Side
from bench.store.schema import CHECKS
from bench.store.store import Store

CHECKS_SEARCHED = 10
"""Newest checks that are searched."""
FEWEST_PAIRS = 4
"""Pairs of an earlier check that tell how pairs vary."""


def earlier_check(plan: Plan, criteria: Criteria, store: Store, machine: str, data: str) -> Check | None:
    """The newest check of the same metrics and data on this machine; None if there was no such check."""
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
        if until_first_look(earlier, gated, criteria.looks[0]) is not None:
            return earlier
    return None


def why_too_short(earlier: Check, criteria: Criteria) -> str:
    """Why the budget cannot do, with the one that would; empty if it does."""
    seconds = until_first_look(earlier, _gated(earlier), criteria.looks[0])
    if seconds is None or seconds <= criteria.budget:
        return ""
    before = f"{earlier.name} took {seconds:.0f} s until its first look, the budget is {criteria.budget:g} s"
    why = "nothing was measured, the budget ended before the first look (--budget)"
    return f"{why}: {before}; {budget_that_would_do(seconds)}"


def too_noisy(earlier: Check, criteria: Criteria) -> list[str]:
    """A sentence for each metric of which the budget's pairs cannot show that it has not changed: as much as they vary,
    the interval would be wider than the margin."""
    a_pair = until_first_look(earlier, _gated(earlier), 1)
    sentences = []
    for one in earlier.figures if a_pair else []:
        margin = criteria.margins.get(GatedMetric(one.row, one.name).criterion)
        widths = _half_widths(one, criteria) if margin is not None else {}
        affordable = [look for look in widths if a_pair and look * a_pair <= criteria.budget]
        if not affordable or margin is None or widths[affordable[-1]] <= margin:
            continue
        pairs, enough = affordable[-1], next((look for look, width in widths.items() if width <= margin), None)
        would = "no number of pairs would do: a wider --margin, or a quieter machine"
        if enough is not None and a_pair:
            would = budget_that_would_do(enough * a_pair)
        sentences.append(
            f"{one.label}, {one.task or ''} {one.name}: as {earlier.name} varied, the {pairs} pairs of this budget give"
            f" ±{100 * widths[pairs]:.2g}%, wider than the margin of {100 * margin:.2g}%; {would}"
        )
    return sentences


def _half_widths(one: MetricVerdict, criteria: Criteria) -> dict[int, float]:
    """By look: half-width of the interval, if pairs vary as those of an earlier check; empty if these are too few."""
    pairs = [pair for pair in one.pairs if pair.counts]
    evidence = sequential_test.crossover([pair.harm for pair in pairs], [pair.base_first for pair in pairs])
    if evidence is None or one.name == "accuracy" or len(pairs) < FEWEST_PAIRS:
        return {}
    widths = {}
    for look in criteria.looks:
        error = evidence.error * math.sqrt(len(pairs) / look)
        at_look = replace(evidence, error=error, degrees=look - 2, pairs=look)
        widths[look] = at_look.bound(sequential_test.share(look, criteria.looks))
    return widths


def _gated(check: Check) -> set[GatedMetric]:
    return {GatedMetric(one.row, one.name, one.task, one.batch_size, one.boundary) for one in check.figures}


def until_first_look(check: Check, gated: Collection[GatedMetric], pairs: int) -> float | None:
    """Seconds of so many pairs of every row, as this check took for its pairs; None if it was of other metrics, or has
    no pairs."""
    measured: dict[str, int] = {}
    for one in check.figures:
        measured[one.row] = max(measured.get(one.row, 0), len(one.pairs))
    total = sum(measured.values())
    if _gated(check) != set(gated) or not total or not check.seconds:
        return None
    return check.seconds / total * len(measured) * pairs

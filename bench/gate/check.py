"""One ``bench check``: measure two environments, judge, and store the result."""

from __future__ import annotations

from dataclasses import dataclass

from bench.gate.gate import Gate, expected_jobs, two_sided
from bench.gate.gated_metric import Criteria
from bench.records.gate_result import Check
from bench.runner.plan import Plan, Side
from bench.runner.progress import CheckProgress
from bench.runner.results import Results, Silent
from bench.runner.run import begin
from bench.store.store import Store
from bench.workloads.datasets.dataset import Dataset


@dataclass(frozen=True)
class FinishedCheck:
    """A finished or interrupted check."""

    check: Check
    interrupted: bool
    stored_in: str


def not_measured(
    plan: Plan, dataset: Dataset, criteria: Criteria, sides: tuple[Side, Side], command: str, too_short: str
) -> FinishedCheck:
    """A check whose budget cannot do: inconclusive, for the reason ``too_short``; it is not stored."""
    name, context = begin(dataset, plan.request.workload)
    base, present = sides
    results = Results(two_sided(plan, base, present, criteria), context, Silent(), 0)
    gate = Gate(results, dataset, base, present, criteria, f"check-{name}", command, too_short=too_short)
    return FinishedCheck(gate.refuse(), False, "no store: nothing was measured")


def check(
    plan: Plan, dataset: Dataset, store: Store, criteria: Criteria, sides: tuple[Side, Side], command: str
) -> FinishedCheck:
    """Measure base and present (``sides``) of every row of the plan; judge and store after every round of pairs."""
    name, context = begin(dataset, plan.request.workload)
    base, present = sides
    both = two_sided(plan, base, present, criteria)
    interrupted = False
    with CheckProgress(store=store) as progress:
        results = Results(both, context, progress, expected_jobs(both, criteria))
        gate = Gate(results, dataset, base, present, criteria, f"check-{name}", command, progress.keep)
        try:
            gate.run()
        except KeyboardInterrupt:
            interrupted = True
        result = gate.check()
        progress.keep(result)
        progress.keep_sides(result, gate.sides())
    where = f"no store: {progress.store_error}" if progress.store_error else store.shown_url
    return FinishedCheck(result, interrupted, where)

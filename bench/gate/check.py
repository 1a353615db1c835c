"""One ``bench check``: measure two environments, judge, and store the result."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pydantic import ValidationError

from bench.errors import BenchError
from bench.gate.gate import PAIRS, Earlier, Gate, PairsCourse, expected_jobs, two_sided
from bench.gate.gated_metric import Criteria, GatedMetric
from bench.records.gate_result import Check
from bench.runner import resumption
from bench.runner.checkpoints import WEIGHTS
from bench.runner.plan import Plan, Side
from bench.runner.progress import CheckProgress
from bench.runner.results import Results, Silent
from bench.runner.resumption import CHECK, Resumed
from bench.runner.run import Sitting, begin
from bench.store.schema import CHECKS
from bench.store.store import Store
from bench.workloads.datasets.dataset import Dataset


@dataclass(frozen=True)
class FinishedCheck:
    """A finished or interrupted check."""

    check: Check
    interrupted: bool
    stored_in: str
    goes_on: str = ""
    """The command that goes on with it; empty: nothing is missing."""


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
    plan: Plan,
    dataset: Dataset,
    store: Store,
    criteria: Criteria,
    sides: tuple[Side, Side],
    command: str,
    sitting: Sitting | None = None,
    explains: bool = False,
) -> FinishedCheck:
    """Measure base and present (``sides``) of every row of the plan; judge and store after every round of pairs.
    ``explains``: regressions of speeds are followed by profiles of both sides.

    Raises:
        BenchError: its data cannot be written, or it cannot go on here.
    """
    name, context = begin(dataset, plan.request.workload)
    sitting = sitting or Sitting()
    name = sitting.goes_on or sitting.name or f"{CHECK}{name}"
    base, present = sides
    both = two_sided(plan, base, present, criteria)
    now = resumption.circumstances(both, dataset.sha256, context.machine, [base, criteria])
    resumed = None
    if sitting.goes_on is not None:
        resumed = resumption.goes_on(store, name, now, sitting.anyway)
    interrupted = False
    with CheckProgress(store=store, name=name) as progress:
        results = Results(both, context, progress, expected_jobs(both, criteria))
        earlier = None
        if resumed is not None:
            before = store.read(CHECKS, name, Check)
            if before is not None:
                results.context = replace(context, started_at=before.started_at)
                command = before.command
            earlier = _earlier(results, resumed, before)
        store.keep_parts(name, resumption.begun(sitting.options, now).part())
        gate = Gate(results, dataset, base, present, criteria, name, command, progress.keep, earlier, explains)
        try:
            gate.run()
        except KeyboardInterrupt:
            interrupted = True
        except BenchError:
            if resumed is None:
                store.forget_parts(name)  # nothing has been measured
            raise
        result = gate.check()
        progress.ended(result, gate.sides(), whole=not interrupted)
    where = f"no store: {progress.store_error}" if progress.store_error else store.shown_url
    goes_on = f"bench check --resume {name}" if interrupted and not progress.store_error else ""
    return FinishedCheck(result, interrupted, where, goes_on)


def _earlier(results: Results, resumed: Resumed, before: Check | None) -> Earlier:
    """What the sittings before this one measured; the rows get their results back."""
    weights = {part.removeprefix(WEIGHTS): it for part, it in resumed.parts.items() if part.startswith(WEIGHTS)}
    results.restore(resumed.parts, weights, resumed.name, again=False)
    try:
        course = PairsCourse.model_validate_json(resumed.parts.get(PAIRS, b"{}"))
    except ValidationError as error:
        raise BenchError(f"what {resumed.name} would go on from is damaged; begin anew without --resume") from error
    figures = [] if before is None else before.figures
    pairs = {GatedMetric(one.row, one.name, one.task, one.batch_size, one.boundary): one.pairs for one in figures}
    history = [] if before is None else before.resumed
    history = [*history, resumption.resumption(resumed, course.rounds)]
    results.allow_changes = any(once.changed for once in history)
    return Earlier(course, pairs, history)

"""One ``bench check``, from two environments to a stored result with verdicts."""

from __future__ import annotations

from dataclasses import dataclass

from bench.datasets import Dataset
from bench.gate import Gate, two_sided
from bench.plan import Plan, Side
from bench.progress import CheckProgress
from bench.run import begin
from bench.store import Store
from bench.targets import Criteria
from bench.verdicts import Check


@dataclass(frozen=True)
class Checked:
    """A check that came to its end, or was interrupted."""

    check: Check
    interrupted: bool
    stored_in: str


def check(
    plan: Plan, dataset: Dataset, store: Store, criteria: Criteria, sides: tuple[Side, Side], command: str
) -> Checked:
    """Measure base and present (``sides``) of every row of the plan, judge, store after every round of pairs."""
    name, context = begin(dataset, plan.request.workload)
    base, present = sides
    interrupted = False
    with CheckProgress(store=store) as progress:
        gate = Gate(
            two_sided(plan, base, present, criteria),
            dataset,
            context,
            progress,
            trains="accuracy" in criteria.figures,
            base=base,
            present=present,
            criteria=criteria,
            name=f"check-{name}",
            command=command,
            keep=progress.keep,
        )
        try:
            gate.run()
        except KeyboardInterrupt:
            interrupted = True
        found = gate.check()
        progress.keep(found)
        progress.keep_sides(found, gate.sides())
    where = f"no store: {progress.store_error}" if progress.store_error else store.shown
    return Checked(found, interrupted, where)

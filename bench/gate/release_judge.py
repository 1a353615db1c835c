"""How a bisection judges a release: the gate, against the good one, both in environments of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import Requirement

from bench.analysis.bisection import Outcome, Step
from bench.gate import check as checking
from bench.gate import environments
from bench.gate.environments import CannotInstall, Lock
from bench.gate.gate import BASE, PRESENT
from bench.gate.gated_metric import Criteria
from bench.records.gate_result import Check
from bench.runner.plan import Plan, Side
from bench.store.store import Store
from bench.workloads.datasets.dataset import Dataset


@dataclass(frozen=True)
class ReleaseJudge:
    """Calls a version good, bad, or skipped (it cannot be installed, its row does not run, or it stays open)."""

    plan: Plan
    dataset: Dataset
    store: Store
    criteria: Criteria
    package: str
    good: str
    lock: Lock
    """Of the present environment, which both differ from in the package alone."""
    cache: Path
    command: str
    longer: tuple[tuple[int, ...], float]
    """Looks and budget of the second try of a version whose verdict stays open."""

    def __call__(self, version: str) -> Step:
        """Measure and judge.

        Raises:
            CannotInstall: the good release.
            KeyboardInterrupt: the step is lost, those before are not.
        """
        base = self._side(BASE, self.good)
        try:
            present = self._side(PRESENT, version)
        except CannotInstall as error:
            return Step(version=version, outcome="skipped", evidence=str(error))
        looks, budget = self.longer
        found = self._checked(base, present, self.criteria)
        if found.verdict == "inconclusive":
            found = self._checked(base, present, replace(self.criteria, looks=looks, budget=budget))
        return Step(version=version, outcome=_outcome(found), evidence=_evidence(found), check=found.name)

    def _side(self, name: str, version: str) -> Side:
        requirement = Requirement(f"{self.package}=={version}")
        return Side(name, str(requirement), python=str(environments.changed(self.lock, [requirement], self.cache)))

    def _checked(self, base: Side, present: Side, criteria: Criteria) -> Check:
        done = checking.check(self.plan, self.dataset, self.store, criteria, (base, present), self.command)
        if done.interrupted:
            raise KeyboardInterrupt
        return done.check


def _outcome(check: Check) -> Outcome:
    kinds = {figure.verdict for figure in check.figures}
    if "regression" in kinds:
        return "bad"
    return "good" if kinds and kinds <= {"no change", "improvement"} else "skipped"


def _evidence(check: Check) -> str:
    """The figure that decided, with its interval in percent."""
    decisive = next((f for f in check.figures if f.verdict == check.verdict), None)
    if decisive is None:
        return "no figure was judged"
    if decisive.change is None or decisive.low is None or decisive.high is None:
        return f"{decisive.label}: {decisive.verdict}: {decisive.reason}"
    change, low, high = (100 * value for value in (decisive.change, decisive.low, decisive.high))
    return f"{decisive.label}: {decisive.verdict} {change:+.2f}% [{low:+.2f}, {high:+.2f}]"

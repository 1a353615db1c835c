"""Judge a release of a bisection: a check against the good release, each in its own environment."""

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
from bench.gate.package_index import PackageIndex
from bench.records.gate_result import Check
from bench.runner.plan import Plan, Side
from bench.store.store import Store
from bench.workloads.datasets.dataset import Dataset


@dataclass(frozen=True)
class ReleaseJudge:
    """Judges a version as good, bad, or skipped (not installable, its row does not run, or inconclusive)."""

    plan: Plan
    dataset: Dataset
    store: Store
    criteria: Criteria
    package: str
    good: str
    lock: Lock
    """The lock of the current environment; both environments differ from it only in the package."""
    cache: Path
    index: PackageIndex
    command: str
    longer: tuple[tuple[int, ...], float]
    """Looks and budget of the second check of a version whose verdict is inconclusive."""

    def __call__(self, version: str) -> Step:
        """Measure and judge a version.

        Raises:
            CannotInstall: the good release cannot be installed.
            KeyboardInterrupt: only this step is lost.
        """
        base = self._side(BASE, self.good)
        try:
            present = self._side(PRESENT, version)
        except CannotInstall as error:
            return Step(version=version, outcome="skipped", evidence=str(error))
        looks, budget = self.longer
        check = self._check(base, present, self.criteria)
        if check.verdict == "inconclusive":
            check = self._check(base, present, replace(self.criteria, looks=looks, budget=budget))
        return Step(version=version, outcome=_outcome(check), evidence=_evidence(check), check=check.name)

    def _side(self, name: str, version: str) -> Side:
        requirement = Requirement(f"{self.package}=={version}")
        python = environments.build_changed(self.lock, [requirement], self.cache, self.index)
        return Side(name, str(requirement), python=str(python))

    def _check(self, base: Side, present: Side, criteria: Criteria) -> Check:
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
    """The decisive metric, with its interval in percent."""
    decisive = next((f for f in check.figures if f.verdict == check.verdict), None)
    if decisive is None:
        return "no metric was judged"
    if decisive.change is None or decisive.low is None or decisive.high is None:
        return f"{decisive.label}: {decisive.verdict}: {decisive.reason}"
    change, low, high = (100 * value for value in (decisive.change, decisive.low, decisive.high))
    return f"{decisive.label}: {decisive.verdict} {change:+.2f}% [{low:+.2f}, {high:+.2f}]"

"""Which release made it slower: bisection over released versions, each midpoint judged by the gate.

As ``git bisect``: a version that cannot be installed, or whose verdict stays open after it was measured longer, is
skipped for its neighbour. Every step is stored, so that an interrupted search goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, model_validator

from bench.errors import UsageError
from bench.records.upgrade import renamed

Outcome: TypeAlias = Literal["good", "bad", "skipped"]


class Step(BaseModel):
    """One version that was tried; ``check`` names the stored check behind the outcome."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _upgraded(cls, content: Any) -> Any:
        """Earlier versions stored ``evidence`` as ``told``."""
        return renamed(content, told="evidence")

    version: str
    outcome: Outcome
    evidence: str
    """Change and interval, or why it was skipped."""
    check: str | None = None


class Bisection(BaseModel):
    """A search and what it has found so far; ``versions`` are candidates, oldest first, good and bad included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _upgraded(cls, content: Any) -> Any:
        """Earlier versions stored ``metric`` as ``figure``."""
        return renamed(content, figure="metric")

    package: str
    metric: str
    versions: list[str]
    steps: list[Step] = []

    def outcome(self, version: str) -> Outcome | None:
        """Of the last try of a version."""
        return next((step.outcome for step in reversed(self.steps) if step.version == version), None)

    @property
    def suspects(self) -> list[str]:
        """From the last good version to the first bad one after it, both included."""
        good = max(i for i, version in enumerate(self.versions) if i == 0 or self.outcome(version) == "good")
        bad = next(
            (i for i in range(good + 1, len(self.versions)) if self.outcome(self.versions[i]) == "bad"),
            len(self.versions) - 1,
        )
        return self.versions[good : bad + 1]

    @property
    def next(self) -> str | None:
        """The untried version nearest to the middle of the suspects; None when none is left."""
        between = self.suspects[1:-1]
        untried = [version for version in between if self.outcome(version) is None]
        middle = (len(between) - 1) / 2
        return min(untried, key=lambda version: abs(between.index(version) - middle), default=None)


def candidates(released: Sequence[str], good: str, bad: str) -> list[str]:
    """The released versions from ``good`` to ``bad``, both included.

    Raises:
        UsageError: not versions, the wrong way round, or not released.
    """
    try:
        first, last = Version(good), Version(bad)
    except InvalidVersion as error:
        raise UsageError(f"--good and --bad take versions such as 2.13.0 ({error})") from error
    if first >= last:
        raise UsageError(f"--good {good} is not older than --bad {bad}")
    known = {Version(version): version for version in released}
    for option, version in (("--good", first), ("--bad", last)):
        if version not in known:
            raise UsageError(f"{option} {version}: no such release here; pip index versions lists them")
    return [text for version, text in sorted(known.items()) if first <= version <= last]


def search(bisection: Bisection, judge: Callable[[str], Step], keep: Callable[[Bisection], None]) -> Bisection:
    """Try versions until one release is left to blame, or none is left to try. The newest is tried first: where it is
    not bad there is nothing to search for. What an earlier search had to skip is tried again."""
    newest = bisection.versions[-1]
    bisection = bisection.model_copy(update={"steps": [s for s in bisection.steps if s.outcome != "skipped"]})
    if bisection.outcome(newest) is None:
        bisection = _tried(bisection, judge(newest), keep)
    while bisection.outcome(newest) == "bad" and (version := bisection.next) is not None:
        bisection = _tried(bisection, judge(version), keep)
    return bisection


def _tried(bisection: Bisection, step: Step, keep: Callable[[Bisection], None]) -> Bisection:
    bisection = bisection.model_copy(update={"steps": [*bisection.steps, step]})
    keep(bisection)
    return bisection

"""What a check came to, as it is stored, exported and shown: pydantic models beside ``bench.records.record``'s."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from bench.records.record import Data, Record
from bench.worker.protocol import Boundary, Task

CHECK_SCHEMA = 1
Kind: TypeAlias = Literal["regression", "improvement", "no change", "inconclusive", "invalid"]
EXIT_CODES: dict[Kind, int] = {"regression": 1, "invalid": 4, "inconclusive": 3, "improvement": 0, "no change": 0}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Pair(_Frozen):
    """One pair of live workers, base and present, and what they came to in one figure."""

    number: int
    base_first: bool
    base: float
    present: float
    """In the figure's unit."""
    harm: float
    """Logarithm of the pair's ratio (median over its turns), positive if the present is worse; for accuracy the loss
    as a fraction."""
    disturbed: bool | None = None
    reason: str = ""

    @property
    def counts(self) -> bool:
        """Whether a verdict may rest on it."""
        return not self.disturbed


class MetricVerdict(_Frozen):
    """The verdict on one figure of one row. ``change`` is present over base less 1, with its interval (for accuracy the
    difference); null where it is not known."""

    row: str
    name: str
    task: Task | None = None
    batch_size: int | None = None
    boundary: Boundary | None = None
    unit: str
    margin: float
    verdict: Kind
    reason: str = ""
    change: float | None = None
    low: float | None = None
    high: float | None = None
    smallest: float | None = None
    """The smallest true harm that this many pairs would have called a regression with a chance of 80%."""
    pairs: list[Pair] = []

    @property
    def n(self) -> int:
        """Pairs that count."""
        return sum(pair.counts for pair in self.pairs)


class Environment(_Frozen):
    """One side of a check."""

    told: str
    versions: dict[str, str] = {}
    """Of all rows' workers."""


class Check(_Frozen):
    """One ``bench check``: figures with verdicts, and both environments."""

    schema_version: int = CHECK_SCHEMA
    name: str
    command: str
    started_at: str
    base: Environment
    present: Environment
    figures: list[MetricVerdict] = []
    looks: list[int]
    alpha: float
    """Error rate of the whole check in each direction."""
    seconds: float = 0.0
    """Of measuring pairs."""
    machine: dict[str, Any]
    data: Data
    commit: str | None = None

    @property
    def verdict(self) -> Kind:
        """The one that decides the exit code: the first there is of regression, invalid, inconclusive, improvement."""
        found = {figure.verdict for figure in self.figures}
        order: tuple[Kind, ...] = ("regression", "invalid", "inconclusive", "improvement", "no change")
        return next((kind for kind in order if kind in found), "invalid")

    def exit_code(self, inconclusive: int = EXIT_CODES["inconclusive"]) -> int:
        """0; 1 a regression; 3 inconclusive (or what the caller says of that); 4 invalid."""
        return inconclusive if self.verdict == "inconclusive" else EXIT_CODES[self.verdict]


class Sides(_Frozen):
    """The records of a check's rows in both environments, with every slice; kept beside the check, for their size."""

    base: list[Record]
    present: list[Record]

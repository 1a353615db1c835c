"""The result of a check, as it is stored, exported and shown: pydantic models beside ``bench.records.record``'s."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import Field, computed_field, model_validator

from bench.records.explanation import Explained
from bench.records.record import Data, Frozen, Record, Resumption
from bench.records.upgrade import renamed
from bench.worker.protocol import Boundary, Task

CHECK_SCHEMA = 2
"""1: rows by their names. 2: rows by their ids, beside their names; ``label`` of an environment was ``told``."""
Kind: TypeAlias = Literal["regression", "improvement", "no change", "inconclusive", "invalid"]
EXIT_CODES: dict[Kind, int] = {"regression": 1, "invalid": 4, "inconclusive": 3, "improvement": 0, "no change": 0}


class Pair(Frozen):
    """One pair of live workers, base and present, and their values of one metric."""

    number: int
    base_first: bool
    base: float
    present: float
    """In the metric's unit."""
    harm: float
    """Logarithm of the pair's ratio (median over its turns), positive if the present is worse; for accuracy the loss
    as a fraction."""
    disturbed: bool | None = None
    reason: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def counts(self) -> bool:
        """Whether a verdict may rest on it."""
        return not self.disturbed


class MetricVerdict(Frozen):
    """The verdict on one metric of one row. ``change`` is present over base less 1, with its interval (for accuracy the
    difference); null where it is not known."""

    row: str
    """Its id, as in records."""
    label: str
    """Its name, for people."""
    name: str
    """Of the metric."""
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
    pairs: list[Pair] = Field(default_factory=list)
    explained: Explained | None = None
    """Null: nobody asked, or it is no regression of a speed."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def n(self) -> int:
        """Pairs that count."""
        return sum(pair.counts for pair in self.pairs)


class Environment(Frozen):
    """One side of a check."""

    label: str
    """What the user called it."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Of all rows' workers."""


class Check(Frozen):
    """One ``bench check``: metrics with verdicts, and both environments."""

    @model_validator(mode="before")
    @classmethod
    def _upgraded(cls, content: Any) -> Any:
        """What earlier versions stored, brought to the present."""
        version = content.get("schema_version") if isinstance(content, dict) else None
        if not isinstance(version, int) or version >= CHECK_SCHEMA:
            return content
        sides = {name: renamed(content.get(name), told="label") for name in ("base", "present")}
        figures = content.get("figures")
        if isinstance(figures, list) and all(isinstance(figure, dict) for figure in figures):
            figures = [{**figure, "label": figure.get("row")} for figure in figures]
        return {**content, **sides, "figures": figures, "schema_version": CHECK_SCHEMA}

    schema_version: int = CHECK_SCHEMA
    name: str
    command: str
    started_at: str
    base: Environment
    present: Environment
    figures: list[MetricVerdict] = Field(default_factory=list)
    looks: list[int]
    alpha: float
    """Error rate of the whole check in each direction."""
    seconds: float = 0.0
    """Of measuring pairs."""
    turn: str = ""
    """Whether other timed commands on this machine were waited for (``bench.machine.turn``); empty: older checks."""
    resumed: list[Resumption] = Field(default_factory=list)
    """Every time that it went on after it had stopped; its rounds are pairs of every row."""
    machine: dict[str, Any]
    data: Data
    commit: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Kind:
        """The one that decides the exit code: the first there is of regression, invalid, inconclusive, improvement."""
        verdicts = {figure.verdict for figure in self.figures}
        order: tuple[Kind, ...] = ("regression", "invalid", "inconclusive", "improvement", "no change")
        return next((kind for kind in order if kind in verdicts), "invalid")

    def exit_code(self, inconclusive: int = EXIT_CODES["inconclusive"]) -> int:
        """0; 1 for a regression; 3 for inconclusive, or the code that the caller gives; 4 for invalid."""
        return inconclusive if self.verdict == "inconclusive" else EXIT_CODES[self.verdict]


class Sides(Frozen):
    """The records of a check's rows in both environments, with every slice; kept beside the check, for their size."""

    base: list[Record]
    present: list[Record]

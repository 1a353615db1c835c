"""What a step is made of, and why it takes longer than another: from frameworks' own profilers."""

from __future__ import annotations

from pydantic import Field

from bench.records.record import Frozen


class OperatorTime(Frozen):
    """One operator of a step."""

    name: str
    """The framework's own."""
    kind: str = ""
    seconds: float
    """Of a step, mean over processes."""
    note: str = ""


class PartTime(Frozen):
    """A layer's part in a step, or of what is no layer (in parentheses)."""

    layer: str
    backward: bool
    seconds: float
    """Of a step, mean over processes, with its 95% interval."""
    low: float | None
    high: float | None
    operators: list[OperatorTime] = Field(default_factory=list)
    """The largest first."""


class StepProfile(Frozen):
    """The step of one row under its framework's profiler."""

    name: str
    """The row's, for people."""
    task: str
    batch_size: int
    step: float
    """Seconds of a step under the profiler."""
    overhead: float
    """What the profiler adds to a step, as a fraction."""
    processes: int
    parts: list[PartTime]
    """The largest first."""


class Explanation(Frozen):
    """What a layer contributes to a change, from pairs of live workers under their framework's profiler
    (``bench.analysis.attribution``)."""

    layer: str
    """Canonical name, or what is no layer, in parentheses."""
    backward: bool
    seconds: float
    """Of the base's step."""
    change: float | None
    """Of its own time, as a fraction, with its interval; null: the base has no such part."""
    low: float | None
    high: float | None
    explains: float
    """Of the step's time, as a fraction, with its interval."""
    explains_low: float
    explains_high: float
    blamed: bool
    """Whether it is slower for certain."""


class Explained(Frozen):
    """Why a metric changed."""

    parts: list[Explanation] = Field(default_factory=list)
    """The largest contribution first."""
    change: float | None = None
    """Of a step under the profiler."""
    overhead: float | None = None
    """What the profiler adds to a step, as a fraction."""
    pairs: int = 0
    reason: str = ""
    """Why there is none; empty: there is."""

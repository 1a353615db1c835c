"""What to measure, in which order: rows of the comparison, their jobs, and interleaved rounds."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from backends.model import ModelSpec, Weights
from bench.machine.placement import Placement, place
from bench.worker.protocol import Job, Task, TimedMetric
from bench.workloads.workload import Workload

ALL = "all"
DEFAULT = "default"
"""Of modes and precisions: a backend's first."""
BEST = "best"
"""All modes; the report names the fastest."""
TASKS: tuple[Task, ...] = ("infer", "train")
DEFAULT_BUDGET = 300.0
"""Seconds for a precision target where none are given."""


@dataclass(frozen=True)
class Request:
    """What the user asked for, names not yet checked."""

    backends: tuple[str, ...]
    workload: Workload
    task: str = "all"
    devices: str = "auto"
    batch_sizes: tuple[int, ...] = (128,)
    """Of throughput figures, ascending."""
    first_batch: int = 1
    """Of latency figures and of the first call: 1, but where a file of the user's fixes another."""
    placement: Placement = field(default_factory=place)
    rounds: int | None = None
    """None: the profile's."""
    precision_target: float | None = None
    """Rounds are added until the ratios' 95% half-width is no more than this fraction ..."""
    budget: float | None = None
    """... or so many seconds are spent."""
    modes: tuple[str, ...] = (DEFAULT,)
    precisions: tuple[str, ...] = (DEFAULT,)
    seed: int = 0
    seeds: int = 1
    """Trainings per row, of seeds that follow one another."""
    accuracy_margin: float = 0.02
    """Accuracies that differ by less are the same, as a fraction."""
    target_accuracy: float | None = None
    """Of the watched split: when it is reached is noted."""
    init: Weights | None = None
    """What training starts from in place of weights drawn from the seed."""
    started_from: str | None = None
    """Whose weights those are."""
    freeze: bool = False
    """Whether only the last dense layer is trained."""
    timeout: float = 600.0
    data_dir: Path | None = None
    pythons: dict[str, str] = field(default_factory=dict)

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the weights that are not trained."""
        model = self.workload.model
        if not self.freeze or not isinstance(model, ModelSpec):
            return frozenset()
        return frozenset(set(model.trained) - {f"{model.head}.kernel", f"{model.head}.bias"})

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Inference first: its memory is read before training adds to it."""
        return tuple(task for task in TASKS if self.task in (task, "all"))


@dataclass(frozen=True)
class Side:
    """An environment that rows are run in, where a comparison has two of them."""

    name: str
    """``base`` or ``present``."""
    label: str
    """What the user called it, for people."""
    python: str | None = None
    """Its interpreter; None: this one, or what the request says for the backend."""
    path: tuple[str, ...] = ()
    """Folders that a worker imports from before its interpreter's own."""
    variables: tuple[tuple[str, str], ...] = ()
    """Added to a worker's environment."""


@dataclass(frozen=True)
class Row:
    """One row: what is run where, by which interpreter, and what its backend can do."""

    job: Job
    name: str
    tasks: frozenset[str]
    """Of the backend: train, infer, fit, export."""
    python: str
    gpu_uuid: str | None
    source: Row | None = None
    asked: bool = True
    """False for a source that only has to be fitted."""
    required: bool = True
    """Whether a row that cannot run here makes the command fail; not under ``all``."""
    problem: tuple[str, str] | None = None
    """Status and reason, where it is known before the start that it cannot run."""
    side: Side | None = None
    contender: bool = True
    """False for the judge of parity (``Backend.CONTENDS``)."""

    variant: str = ""
    """What tells a row from its twin that is measured beside it, such as one on another allocator."""

    @property
    def fit_id(self) -> str:
        """Of what is fitted once: alike for a row and its twin."""
        return self.job.row.id + (f" ({self.side.name})" if self.side else "")

    @property
    def id(self) -> str:
        """Of the row in its plan: ``onnxruntime<-keras/cpu/fp32/all-optimizations``, with its side if there are two."""
        return f"{self.fit_id} {self.variant}".rstrip()

    def on(self, side: Side) -> Row:
        """The same row in one of two environments; another interpreter speaks for itself of what is missing there."""
        elsewhere = side.python is not None and self.problem is not None and self.problem[0] == "unavailable"
        return replace(
            self,
            name=f"{self.name} ({side.name})",
            python=side.python or self.python,
            source=self.source and self.source.on(side),
            problem=None if elsewhere else self.problem,
            side=side,
        )


@dataclass(frozen=True)
class Plan:
    """Rows with sources before the rows that read them, and the metrics that are timed in every round."""

    request: Request
    rows: tuple[Row, ...]
    metrics: tuple[TimedMetric, ...]

    @property
    def rounds(self) -> int:
        """How many there are at least; a precision target may add more."""
        asked = self.request.rounds
        return self.request.placement.profile.rounds if asked is None else asked

    def order(self, number: int) -> tuple[Row, ...]:
        """Round ``number``: a randomized complete block, every row once in an order drawn by the seed."""
        measured = [row for row in self.rows if row.asked and row.problem is None]
        return tuple(random.Random(f"{self.request.seed}/{number}").sample(measured, len(measured)))

"""What is measured and in which order: the rows, their jobs, and the interleaved rounds."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path

from backends.model import ModelSpec, Weights
from bench.machine.placement import Placement, place
from bench.runner.budget import default_seconds
from bench.runner.load import Load
from bench.worker.protocol import Job, Task, TimedMetric
from bench.workloads.onnx_file import OnnxModel
from bench.workloads.workload import Workload

ALL = "all"
DEFAULT = "default"
"""The first mode or precision of a backend."""
BEST = "best"
"""All modes; the report names the fastest."""
TASKS: tuple[Task, ...] = ("infer", "train")
"""Of ``all``, in this order. The task ``input`` is timed alone."""
TARGET_BUDGET = 300.0
"""Seconds for a precision target, if the user gives no budget."""


@dataclass(frozen=True)
class Request:
    """What the user requested, names not yet checked."""

    backends: tuple[str, ...]
    workload: Workload
    task: str = "all"
    devices: str = "auto"
    batch_sizes: tuple[int, ...] = (128,)
    """Of throughput, ascending."""
    placement: Placement = field(default_factory=place)
    rounds: int | None = None
    """None: as many as the profile has."""
    precision_target: float | None = None
    """Rounds are added until the 95% half-width of the ratios is at most this fraction, or the budget is spent."""
    budget: float | None = None
    """Seconds of the whole run; None: see ``Plan.budget``."""
    modes: tuple[str, ...] = (DEFAULT,)
    precisions: tuple[str, ...] = (DEFAULT,)
    seed: int = 0
    seeds: int = 1
    """Trainings per row, with consecutive seeds."""
    accuracy_margin: float = 0.02
    """Accuracies that differ by less than this fraction count as the same."""
    target_accuracy: float | None = None
    """Accuracy on the watched split; the time until it is reached is recorded."""
    init: Weights | None = None
    """Weights that training starts from; None: weights drawn from the seed."""
    started_from: str | None = None
    """The run and row that ``init`` comes from."""
    freeze: bool = False
    """Whether only the last dense layer is trained."""
    input_workers: tuple[int, ...] = ()
    """Of the input pipelines: each number is a row of its own."""
    processes: tuple[int, ...] = ()
    """That train together: each number is a row of its own."""
    load: Load | None = None
    """Under what load rows are tested; None: they are timed."""
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
        """The tasks in order: inference first, so that its memory is read before training adds to it."""
        return ("input",) if self.task == "input" else tuple(task for task in TASKS if self.task in (task, "all"))


def batch_of_first_call(usual: int, certified: int | None) -> int:
    """The batch size of a row's first call: the usual one, or the one that its file takes."""
    return usual if certified is None else certified


@dataclass(frozen=True)
class Side:
    """One of the two environments of a check."""

    name: str
    """``base`` or ``present``."""
    label: str
    """The user's name for it, for display."""
    python: str | None = None
    """Path of its interpreter; None: the request's interpreter for the backend, else this one."""
    path: tuple[str, ...] = ()
    """Folders that a worker imports from before those of its interpreter."""
    work_tree: str | None = None
    """The repository whose revision it is; None: it is no revision."""
    variables: tuple[tuple[str, str], ...] = ()
    """Added to a worker's environment."""


@dataclass(frozen=True)
class Row:
    """One row of a plan: its job, its interpreter, its GPU, and the tasks of its backend."""

    job: Job
    name: str
    tasks: frozenset[str]
    """The tasks of the backend: some of train, infer, fit."""
    python: str
    gpu_uuid: str | None
    source: Row | None = None
    reads: str | None = None
    """The format of its source's file that it reads."""
    writes: tuple[str, ...] = ()
    """The formats of the files that it may write."""
    requested: bool = True
    """False for a source that is only fitted, not measured."""
    required: bool = True
    """Whether the command fails if this row cannot run here; False for a backend under ``all``, and for all but the
    first mode under ``all`` or ``best``."""
    problem: tuple[str, str] | None = None
    """Status and reason, if it is already known that the row cannot run."""
    side: Side | None = None
    contender: bool = True
    """False for the judge of parity (``Backend.CONTENDS``)."""
    file: OnnxModel | None = None
    """The user's file that it runs, in place of the request's model."""
    variant: str = ""
    """What distinguishes a twin that is measured beside its row, such as ``--allocator arena``; empty for the row."""

    @property
    def first_batch(self) -> int:
        """Batch size of latency and of the first call: 1, unless a user's file fixes another."""
        return 1 if self.file is None or self.file.batch is None else self.file.batch

    @property
    def fit_id(self) -> str:
        """Identifies what is fitted once; the same for a row and its twin."""
        return self.job.row.id + (f" ({self.side.name})" if self.side else "")

    @property
    def id(self) -> str:
        """Identifies the row in its plan: ``onnxruntime<-keras/cpu/fp32/all-optimizations``, with any side."""
        return f"{self.fit_id} {self.variant}".rstrip()

    def on_side(self, side: Side) -> Row:
        """The same row in one of two environments. A side with its own interpreter decides what is available."""
        elsewhere = side.python is not None and self.problem is not None and self.problem[0] == "unavailable"
        return replace(
            self,
            name=f"{self.name} ({side.name})",
            python=side.python or self.python,
            source=self.source and self.source.on_side(side),
            problem=None if elsewhere else self.problem,
            side=side,
        )


@dataclass(frozen=True)
class Plan:
    """Rows, sources before the rows that read them, and the metrics that are timed in every round."""

    request: Request
    rows: tuple[Row, ...]
    metrics: tuple[TimedMetric, ...]

    @property
    def budget(self) -> float | None:
        """Seconds that rounds are planned to fill; None: their number is given, by the user or by a profile of many
        slices."""
        request = self.request
        if request.budget is not None:
            return request.budget
        if request.precision_target is not None:
            return TARGET_BUDGET
        if request.rounds is not None or request.placement.profile.fixed:
            return None
        return default_seconds(len(self.order(0)))

    @property
    def rounds(self) -> int:
        """The number of rounds, the minimum where a budget adds more."""
        rounds = self.request.rounds
        return self.request.placement.profile.rounds if rounds is None else rounds

    def order(self, number: int) -> tuple[Row, ...]:
        """The rows of round ``number``: a randomized complete block, every row once, in seeded random order."""
        measured = [row for row in self.rows if row.requested and row.problem is None]
        return tuple(random.Random(f"{self.request.seed}/{number}").sample(measured, len(measured)))

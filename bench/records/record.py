"""Job (what to measure) and Record (what was measured): pydantic models, versioned by ``SCHEMA``.

These are the stored and exported forms. A new job field gets a default that means what older records did.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 3
"""1: one slice per process and figure. 2: slices in turns with what was read meanwhile, disturbance, warm-up. 3: what
training came to (classes, confusion, curves), over seeds; images held out; modes and precisions."""

Status: TypeAlias = Literal[
    "ok", "unsupported", "unavailable", "failed", "timeout", "crashed", "out-of-memory", "interrupted"
]
Task: TypeAlias = Literal["train", "infer"]
Boundary: TypeAlias = Literal["end-to-end", "device"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RowKey(NamedTuple):
    """What tells a row from the others of its run (fields of ``Job``)."""

    backend: str
    source: str | None
    device: str
    precision: str
    mode: str


class Job(_Frozen):
    """One row of a comparison on one workload."""

    backend: str
    source: str | None = None
    """The backend whose ONNX file is read, for a runtime that needs one."""
    device: str = "cpu"
    """``cpu``, ``cuda`` or ``cuda:N``."""
    precision: str = "fp32"
    mode: str
    model: str
    dataset: str
    recipe: str
    threads: int = Field(ge=1)
    cpus: list[int] | None = None
    """Pinned to these; null: not pinned."""
    allocator: str = "system"
    profile: str = "deploy"
    validation: float = 0.0
    """Share of the training split that is held out (older recipes held out none)."""
    started_from: str | None = None
    """The run whose weights training began with; null: those drawn from the seed."""
    frozen: bool = False
    """Only the last dense layer was trained."""
    seed: int = 0

    @property
    def row(self) -> RowKey:
        """Its key among the rows of its run."""
        return RowKey(self.backend, self.source, self.device, self.precision, self.mode)


class Slice(_Frozen):
    """One uninterrupted stretch of timed work in one process."""

    seconds: float
    images: int
    turn: int | None = None
    """Slices of the same turn of a round followed one another."""
    disturbed: bool | None = None
    """Null: not watched, or not visible on that system."""
    reasons: list[str] = []
    """Why it is disturbed."""
    noise: dict[str, Any] = {}
    """What was read meanwhile (fields of ``bench.machine.slice_noise.Noise``; what was not visible is not there)."""
    latencies: list[float] | None = None
    """Seconds of each call, in order (latency figures; kept once, with ``latency_p50``)."""


class Sample(_Frozen):
    """What one process contributes to a figure."""

    round: int
    value: float
    slices: list[Slice] = []
    """All of them, in order, those that were measured again as well."""
    warm_up_steps: int | None = None
    steady: bool | None = None
    """Whether the steps had become steady before the first slice; null: too few steps to tell."""

    @property
    def used(self) -> list[Slice]:
        """The slices that the value is of: the undisturbed ones, all if there is none."""
        return [piece for piece in self.slices if not piece.disturbed] or self.slices

    @property
    def disturbed(self) -> bool | None:
        """Whether it stayed disturbed: more than half of its slices are."""
        if not self.slices or all(piece.disturbed is None for piece in self.slices):
            return None
        return 2 * sum(bool(piece.disturbed) for piece in self.slices) > len(self.slices)


class Figure(_Frozen):
    """A value with unit, interval and the samples behind it; ``value`` null says not measured, for ``reason``."""

    name: str
    task: Task | None = None
    batch_size: int | None = None
    boundary: Boundary | None = None
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    n: int = 0
    samples: list[Sample] = []
    reason: str | None = None

    @property
    def faults_per_step(self) -> float | None:
        """Page faults (minor and major) per step over all slices; None where they were not counted."""
        counted = [
            (piece.noise["minor_faults"] + piece.noise["major_faults"], piece.images)
            for sample in self.samples
            for piece in sample.slices
            if "minor_faults" in piece.noise
        ]
        steps = sum(images for _, images in counted) / (self.batch_size or 1)
        return sum(faults for faults, _ in counted) / steps if steps else None

    @property
    def key(self) -> tuple[str, str | None, int | None, str | None]:
        """What tells a figure from the others of its record."""
        return self.name, self.task, self.batch_size, self.boundary


class Ratio(_Frozen):
    """A speed figure over that of the fastest comparable row (``against``), from pairs of the same round."""

    name: str
    task: Task
    batch_size: int
    boundary: Boundary
    value: float
    low: float | None
    high: float | None
    n: int
    against: str


class Check(_Frozen):
    """One line of a parity certificate."""

    name: str
    value: float
    tolerance: float
    passed: bool
    note: str = ""
    details: dict[str, Any] = {}


class Parity(_Frozen):
    """The certificate: comparable only if every check passed."""

    comparable: bool
    checks: list[Check]


class Disturbance(_Frozen):
    """What else the machine did while the row was timed; ``disturbed`` null where it was not or cannot be seen.

    Shares are of the CPU time of the row's cores during all slices, null where not visible.
    """

    disturbed: bool | None = None
    reason: str = "not watched"
    slices: int = 0
    marked: int = 0
    """Slices that were disturbed."""
    steal: float | None = None
    others: float | None = None
    """Other processes and interrupts."""
    waited: float | None = None
    """Share of the time that the worker's threads ran or were ready to in which they waited for a core."""
    pressure: float | None = None
    """Share of the wall time in which some task of the system waited for a CPU."""
    switches: float | None = None
    """Involuntary context switches per second."""
    minor_faults: float | None = None
    """Per second."""
    major_faults: float | None = None
    """Per second."""
    frequency: tuple[float, float] | None = None
    """Lowest and highest CPU frequency of a slice, MHz."""
    gpu_clock: tuple[float, float] | None = None
    """Lowest and highest GPU clock of a slice, MHz."""


class Data(_Frozen):
    """The data set, as it was read; counts are images."""

    name: str
    sha256: str
    train: int
    validation: int = 0
    test: int
    note: str = ""


class ClassScore(_Frozen):
    """Of one class on the test split; null where the denominator is zero."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    """Images of this class."""


class CurvePoint(_Frozen):
    """One evaluation during training."""

    epoch: float
    """Epochs trained until then."""
    seconds: float
    """Of training steps until then, evaluation apart."""
    train_loss: float | None
    """Mean over the steps since the last point, nats."""
    split: str
    """What was evaluated: ``validation`` or ``test``."""
    loss: float
    accuracy: float


class Training(_Frozen):
    """One training of one seed."""

    seed: int
    curve: list[CurvePoint]
    time_to_accuracy: float | None = None
    """Seconds of training steps until the target accuracy was seen; null: not reached, or no target."""


class Outcome(_Frozen):
    """What the model of the first seed does on the test split, and how every seed came there."""

    classes: list[ClassScore]
    confusion: list[list[int]]
    """Images by true class (rows) and predicted class (columns)."""
    target_accuracy: float | None = None
    trainings: list[Training] = []


class Record(_Frozen):
    """Everything known of one row of one run."""

    status: Status
    error: str | None = None
    job: Job
    contender: bool = True
    """False: the row is the judge of parity (``Backend.CONTENDS``). It stands in every table, but no other row is
    compared with it, and it wins no answer."""
    figures: list[Figure] = []
    ratios: list[Ratio] = []
    parity: Parity | None = None
    outcome: Outcome | None = None
    disturbance: Disturbance = Disturbance()
    arena: list[Ratio] = []
    """Throughput with ``--allocator arena`` over that with the system's, from workers alive together; only where
    page faults made it worth a try."""
    log: str = ""
    """The end of the worker's standard error, where the row did not end well."""
    settings: dict[str, Any] = {}
    """What the framework said of itself, read back: threads, fast path, providers, TF32, memory statistics."""
    phases: list[dict[str, Any]] = []
    """Per worker: ``{kind, round, seconds: {spawn, import, build, ...}, life, rss, alive_with}``: wall seconds of each
    phase and from spawn to the last answer; of a measuring worker the resident bytes at its end and the rows whose
    workers took turns with it."""
    machine: dict[str, Any]
    versions: dict[str, str] = {}
    data: Data
    commit: str | None = None
    started_at: str

    def figure(
        self, name: str, task: str | None = None, boundary: str | None = None, batch_size: int | None = None
    ) -> Figure | None:
        """The figure of this name; ``batch_size`` None takes any."""
        for figure in self.figures:
            same = (figure.name, figure.task, figure.boundary) == (name, task, boundary)
            if same and batch_size in (None, figure.batch_size):
                return figure
        return None

    @property
    def comparable(self) -> bool:
        """Whether the row was measured and its certificate holds."""
        return self.status == "ok" and self.parity is not None and self.parity.comparable


class Run(_Frozen):
    """One ``bench run``: its name, the command that repeats it, and its rows."""

    name: str
    command: str
    started_at: str
    rounds: int
    schedule: list[list[str]] = []
    """Row labels of each round, in the order in which they were measured."""
    precision_target: float | None = None
    """Half-width of the ratios that rounds were added for (``--precision-target``), as a fraction."""
    budget: float | None = None
    """Seconds that they could take."""
    accuracy_margin: float = 0.02
    """Accuracies whose difference lies within this are the same (``bench.analysis.equivalence``), as a fraction."""
    timing: dict[str, Any] = {}
    """Where the wall time went (fields of ``bench.runner.interleaving.Timing``, seconds)."""
    records: list[Record] = []


def export(run: Run) -> str:
    """JSON ``{"schema", "run", "records"}``; numbers finite, keys stable."""
    plain = run.model_dump(mode="json")
    document = {"schema": SCHEMA, "run": plain.pop("name"), **plain}
    return json.dumps(document, allow_nan=False, indent=1)


def label(job: Job | RowKey, among: Sequence[Job | RowKey]) -> str:
    """``onnxruntime <- keras``, with device, precision and mode where the rows of this backend differ in them."""
    name = job.backend if job.source is None else f"{job.backend} <- {job.source}"
    peers = [peer for peer in among if (peer.backend, peer.source) == (job.backend, job.source)]
    for field in ("device", "precision", "mode"):
        if len({getattr(peer, field) for peer in peers}) > 1:
            name += f" {getattr(job, field)}"
    return name

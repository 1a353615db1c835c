"""What was measured, as it is stored and exported: pydantic models, versioned by ``SCHEMA``.

A record holds its ``Job`` (``bench.worker.protocol``). A new field of either gets a default that means what older
records did, or ``bench.records.upgrade`` fills it in when an older record is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, computed_field, model_validator

from bench.records.metrics import METRICS
from bench.worker.protocol import Boundary, Job, RowKey, Scenario, Task

SCHEMA = 4
"""1: one slice per process and figure. 2: slices in turns with what was read meanwhile, disturbance, warm-up. 3: what
training came to (classes, confusion, curves), over seeds; images held out; modes and precisions. 4: rows are pointed at
by their ids, not by labels that depend on the other rows; ``id`` and ``comparable`` of a row; the seed of a sample."""

Status: TypeAlias = Literal[
    "ok", "unsupported", "unavailable", "failed", "timeout", "crashed", "out-of-memory", "interrupted"
]


class Frozen(BaseModel):
    """What all stored models share. A computed field is written, and computed anew on reading: it cannot contradict the
    fields that it is of."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_computed_fields(cls, content: Any) -> Any:
        computed = cls.model_computed_fields
        if not computed or not isinstance(content, dict):
            return content
        return {name: value for name, value in content.items() if name not in computed}


class Slice(Frozen):
    """One uninterrupted stretch of timed work in one process."""

    seconds: float
    images: int
    turn: int | None = None
    """Slices of the same turn of a round followed one another."""
    disturbed: bool | None = None
    """Null: not watched, or not visible on that system."""
    reasons: list[str] = []
    """Why it is disturbed."""
    noise: dict[str, bool | int | float | list[str]] = {}
    """What was read meanwhile (fields of ``bench.machine.slice_noise.Noise``; what was not visible is not there)."""
    latencies: list[float] | None = None
    """Seconds of each call, in order (latency figures; kept once, with ``latency_p50``)."""

    def reading(self, name: str) -> float | None:
        """A number that was read meanwhile; None where it was not visible."""
        reading = self.noise.get(name)
        return None if reading is None or isinstance(reading, list) else float(reading)


class Sample(Frozen):
    """What one process, or the training of one seed, contributes to a figure."""

    round: int
    """Number of the process, from 0; of the training where the sample is by seed."""
    seed: int | None = None
    """Of the training; null where the sample is by process."""
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


class Figure(Frozen):
    """A value with unit, interval and the samples behind it; ``value`` null means not measured, for ``reason``."""

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

    @computed_field  # type: ignore[prop-decorator]
    @property
    def direction(self) -> Literal["higher", "lower"] | None:
        """Which values are better; null: neither."""
        metric = METRICS.get(self.name)
        return None if metric is None else metric.direction

    @computed_field  # type: ignore[prop-decorator]
    @property
    def interval(self) -> str | None:
        """How ``low`` and ``high`` were computed, and over what; null where there are none."""
        metric = METRICS.get(self.name)
        if metric is None or self.low is None:
            return None
        values = {sample.value for sample in self.samples}
        if metric.ranked and not {self.low, self.high} <= values:  # of a version before they were ranked
            return replace(metric, ranked=False).interval
        return metric.interval

    @computed_field  # type: ignore[prop-decorator]
    @property
    def confidence(self) -> float | None:
        """Of that interval."""
        metric = METRICS.get(self.name)
        return None if metric is None or self.low is None else metric.confidence

    @property
    def faults_per_step(self) -> float | None:
        """Page faults (minor and major) per step over all slices; None where they were not counted."""
        slices = [piece for sample in self.samples for piece in sample.slices]
        counted = [
            (minor + major, piece.images)
            for piece in slices
            if (minor := piece.reading("minor_faults")) is not None
            and (major := piece.reading("major_faults")) is not None
        ]
        steps = sum(images for _, images in counted) / (self.batch_size or 1)
        return sum(faults for faults, _ in counted) / steps if steps else None

    @property
    def key(self) -> tuple[str, str | None, int | None, str | None]:
        """What tells a figure from the others of its record."""
        return self.name, self.task, self.batch_size, self.boundary


class Ratio(Frozen):
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
    """Id of that row; of a trial of an allocator, what it was set against."""


class Check(Frozen):
    """One line of a parity certificate."""

    name: str
    value: float
    tolerance: float
    passed: bool
    note: str = ""
    details: dict[str, Any] = {}


class Parity(Frozen):
    """The certificate: comparable only if every check passed."""

    comparable: bool
    checks: list[Check]
    uncertified: str | None = None
    """Why no judge could certify a user's file; its row is timed, marked, and compared with rows of the same file."""


class Disturbance(Frozen):
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
    held_back: float | None = None
    """Share of the row's CPU time for which a quota (``--cpu-quota``) kept threads from running."""
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


class Data(Frozen):
    """The data set, as it was read; counts are images."""

    name: str
    sha256: str
    train: int
    validation: int = 0
    test: int
    note: str = ""


class ClassScore(Frozen):
    """Of one class on the test split; null where the denominator is zero."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    """Images of this class."""


class CurvePoint(Frozen):
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


class Training(Frozen):
    """One training of one seed."""

    seed: int
    curve: list[CurvePoint]
    time_to_accuracy: float | None = None
    """Seconds of training steps until the target accuracy was seen; null: not reached, or no target."""


class LoadTest(Frozen):
    """One test by LoadGen in one process."""

    round: int
    scenario: Scenario
    rate: float | None = None
    """Requests per second that were to arrive (server)."""
    achieved: float
    """Images per second."""
    queries: int
    samples: int
    seconds: float
    percentiles: dict[str, float]
    """Of latencies, seconds: ``50`` to ``99.9``."""
    bound: float | None = None
    """Seconds within which ``percent`` of the latencies shall lie."""
    percent: float | None = None
    late: int | None = None
    """Requests beyond the bound."""
    late_share: tuple[float, float] | None = None
    """95% interval of their share; late requests come in clusters, which makes it wider."""
    verdict: Literal["holds", "fails", "undecided"] | None = None
    """Null: no bound, or the test is invalid."""
    searched: bool = False
    """Whether the search for the highest rate chose its rate."""
    slip: float
    """99th percentile of what queries were issued too late, seconds."""
    batch: float
    """Mean size of the batches."""
    invalid: str = ""
    """Why it does not count; empty: it does."""
    disturbed: bool | None = None
    reasons: list[str] = []
    summary: str
    """LoadGen's own."""


class Roof(Frozen):
    """What the machine does at most: the best rates of a run's rows of one device, precision and number of threads."""

    product: float
    """Of a large matrix product, FLOP/s."""
    triad: float
    """Of a memory triad on arrays that caches do not hold, bytes/s."""
    cached_triad: float
    """The same on arrays that they hold."""
    by: dict[str, str]
    """Ids of the rows whose frameworks reached them."""


class Phase(Frozen):
    """One worker's life."""

    kind: str
    """``certify``, ``fit`` or ``measure``."""
    round: int | None = None
    """Of a measuring worker."""
    seconds: dict[str, float]
    """Wall seconds by phase: spawn, import, build, ..."""
    life: float
    """Seconds from the spawn to the last answer."""
    rss: int | None = None
    """Resident bytes at the end of a measuring worker."""
    alive_with: list[str] = []
    """Ids of the rows whose workers took turns with it."""
    clock_pace: float | None = None
    """Seconds of a measuring worker's clock per second of the parent's."""


class Outcome(Frozen):
    """What the model of the first seed does on the test split, and how every seed came there."""

    classes: list[ClassScore]
    confusion: list[list[int]]
    """Images by true class (rows) and predicted class (columns)."""
    target_accuracy: float | None = None
    trainings: list[Training] = []


class Record(Frozen):
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
    load: list[LoadTest] = []
    """Tests under load (``bench serve``)."""
    kernels: dict[str, float] = {}
    """Rates that this row's framework reached, as in ``Roof``; empty where they were not measured."""
    roof: Roof | None = None
    arena: list[Ratio] = []
    """Throughput with ``--allocator arena`` over that with the system's, from workers alive together; only where
    page faults made it worth a try."""
    log: str = ""
    """The end of the worker's standard error, where the row did not end well."""
    settings: dict[str, Any] = {}
    """What the framework said of itself, read back: threads, fast path, providers, TF32, memory statistics."""
    phases: list[Phase] = []
    """Of every worker."""
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

    @computed_field  # type: ignore[prop-decorator]
    @property
    def id(self) -> str:
        """The row's id, which does not depend on the other rows: ``keras/cpu/fp32/graph``."""
        return self.job.row.id

    @computed_field  # type: ignore[prop-decorator]
    @property
    def comparable(self) -> bool:
        """Whether the row was measured and its certificate holds."""
        return self.status == "ok" and self.parity is not None and self.parity.comparable

    @property
    def certified(self) -> bool:
        """Whether it is comparable, and a judge could certify it (a user's file may be beyond every judge)."""
        return self.comparable and self.parity is not None and self.parity.uncertified is None


class Resumption(Frozen):
    """A run that had stopped went on (``bench run --resume``)."""

    at: str
    rounds: int
    """Rounds that had been measured until then."""
    changed: list[str] = []
    """What was no longer the same, where the user told it to go on all the same (``--anyway``)."""


class Run(Frozen):
    """One ``bench run``: its name, the command that repeats it, and its rows."""

    name: str
    command: str
    started_at: str
    rounds: int
    schedule: list[list[str]] = []
    """Row ids of each round, in the order in which they were measured."""
    precision_target: float | None = None
    """Half-width of the ratios that rounds were added for (``--precision-target``), as a fraction."""
    budget: float | None = None
    """Seconds that they could take."""
    accuracy_margin: float = 0.02
    """Accuracies whose difference lies within this are the same (``bench.analysis.equivalence``), as a fraction."""
    timing: dict[str, Any] = {}
    """Where the wall time went (fields of ``bench.runner.workspace.Timing``, seconds)."""
    resumed: list[Resumption] = []
    """Every time that it went on after it had stopped."""
    records: list[Record] = []


def label(job: Job | RowKey, among: Sequence[Job | RowKey]) -> str:
    """A row's name for people: ``onnxruntime <- keras``, with device, precision and mode where the rows of this backend
    differ in them. What points at a row in a record is its id."""
    name = job.backend if job.source is None else f"{job.backend} <- {job.source}"
    peers = [peer for peer in among if (peer.backend, peer.source) == (job.backend, job.source)]
    for field in ("device", "precision", "mode"):
        if len({getattr(peer, field) for peer in peers}) > 1:
            name += f" {getattr(job, field)}"
    for count, what in ((job.input_workers, "worker"), (job.processes, "process")):
        if count is not None:
            plural = {"worker": "workers", "process": "processes"}[what]
            name += f", {count} {what if count == 1 else plural}"
    return name

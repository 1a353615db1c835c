"""The protocol between parent and worker: every request and every reply is a dataclass, sent as one line of JSON.

It needs only the standard library, because a worker may run in another environment. The parent sends ``{"command",
"spawned_at", "content"}`` and reads ``{"ok": content}`` or ``{"error": {"status", "reason"}}``. During a training the
worker sends ``{"alive": true}`` from time to time, so that a long training is not taken for a hung worker.

A new option for workers is a field of ``Job`` and the line in ``session`` (or an adapter) that uses it.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from bench.machine.gpu_checks import Energy
from bench.values import Missing
from bench.worker.coding import ProtocolError, decode, encode

Task: TypeAlias = Literal["train", "infer", "input"]
Boundary: TypeAlias = Literal["end-to-end", "device"]
Scenario: TypeAlias = Literal["single-stream", "multi-stream", "offline", "server"]
"""Of MLPerf's inference rules."""
Json: TypeAlias = Mapping[str, Any]
"""A JSON object that is passed on unchanged."""
EXPECTED = "expected.npz"
"""The file with the reference's outputs, which the parent reads and removes."""
WATCHED_WEIGHTS = "watched-weights.npz"
"""The weights before and after steps of a training that the parent watches (``STEP NAME``)."""
CERTIFICATE_OUTPUTS, FILE_OUTPUTS, ALL_VALUES = "certificate.npz", "file-outputs.npz", "all-values.npz"
"""The files that a worker writes for its certificate."""
ALIVE = b'{"alive": true}\n'
ALIVE_WITH_MORE = b'{"alive": true, '
STATUSES_OF_WORKERS = ("unsupported", "unavailable", "out-of-memory", "failed")
"""Statuses that a worker may reply with; the parent sets the others."""


class GarbageError(ProtocolError):
    """A line that is no reply at all."""


@dataclass(frozen=True)
class Refused:
    """A worker could not do what was asked; ``status`` is a record's status."""

    status: str
    reason: str


def certified_batch(parts: int = 1) -> str:
    """The file with the inputs that certificates are of, in the folder with the data; ``parts``: as of ``Expect``."""
    return "certified_batch.npz" if parts == 1 else f"certified_batch-{parts}.npz"


def evaluation_file(number: int) -> str:
    """The file with the logits of a training's ``number``-th evaluation, from 0, in the folder of the training."""
    return f"evaluation-{number}.npy"


class RowKey(NamedTuple):
    """The fields of ``Job`` that distinguish a row from the others of its run."""

    backend: str
    source: str | None
    device: str
    precision: str
    mode: str
    input_workers: int | None = None
    processes: int | None = None

    @property
    def id(self) -> str:
        """Such as ``onnxruntime<-keras/cpu/fp32/all-optimizations``; independent of the other rows of the run."""
        source = "" if self.source is None else f"<-{self.source}"
        workers = "" if self.input_workers is None else f"/{self.input_workers}-workers"
        processes = "" if self.processes is None else f"/{self.processes}-processes"
        return f"{self.backend}{source}/{self.device}/{self.precision}/{self.mode}{workers}{processes}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of a comparison, on one workload. The parent plans it, the worker reads it, and the record stores it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    backend: str
    source: str | None = None
    """For a runtime: the backend that exported its file."""
    device: str = "cpu"
    """``cpu``, ``cuda`` or ``cuda:N``."""
    precision: str = "fp32"
    mode: str
    model: str
    dataset: str
    recipe: str
    threads: int
    cpus: tuple[int, ...] | None = None
    """The logical CPUs that the worker is pinned to; None: not pinned."""
    allocator: str = "system"
    profile: str = "deploy"
    cpu_quota: float | None = None
    """CPUs whose time the worker may use; None: no quota."""
    validation: float = 0.0
    """Share of the training split that is held out."""
    started_from: str | None = None
    """The run whose weights training started from; None: weights drawn from the seed."""
    frozen: bool = False
    """Only the last dense layer was trained."""
    inputs: str = ""
    """The inputs of a user's ONNX file: names, shapes, types and values; empty: a data set."""
    serving: str = ""
    """How the model is served under load: batches, instances, and the bound; empty: it is not."""
    input_workers: int | None = None
    """Workers of the input pipeline that is timed, 0: the thread that asks for a batch makes it; None: none is."""
    processes: int | None = None
    """Processes or devices that train together, each with ``threads`` threads and an equal part of every batch; 1: one
    as ever, which efficiency is of. None: scaling is not measured."""
    environment: str = ""
    """The user's environment variables that decide speed (``bench.machine.speed_variables``)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be 1 or more, not {self.threads}")

    @property
    def all_threads(self) -> int:
        """Of all processes or devices that train together."""
        return self.threads * (self.processes or 1)

    @property
    def row(self) -> RowKey:
        """The row's key within its run."""
        return RowKey(
            self.backend, self.source, self.device, self.precision, self.mode, self.input_workers, self.processes
        )


@dataclass(frozen=True)
class TimedMetric:
    """A metric that is timed in slices, of a task at a batch size and boundary: ``throughput``, ``latency``,
    ``input_throughput`` (batches of an input pipeline), ``fed_throughput`` (training steps on them)."""

    name: str
    task: Task
    batch_size: int
    boundary: Boundary

    @property
    def trains(self) -> bool:
        """Whether its steps are those of training."""
        return self.task == "train" or self.name == "fed_throughput"


@dataclass(frozen=True, kw_only=True)
class Work:
    """A row's job, and the files that its worker reads. All paths are in the run's scratch folder."""

    job: Job
    model: Json | None
    """``ModelSpec.to_dict()``; None: the model is a user's ONNX file."""
    recipe: Json
    """``asdict`` of a ``Recipe``."""
    frozen_weights: tuple[str, ...] = ()
    """Canonical names of the weights that are not trained."""
    data: Path
    """Folder with the data set, written by the parent."""
    start: Path | None = None
    """Weights that training starts from (npz); None: drawn from the job's seed."""
    images: Path | None = None
    """Folder of the image files that an input pipeline reads (``image_files``); None: none is timed."""
    file: Path | None = None
    """The model file that a runtime reads: of its source, or a user's ONNX file."""
    converted: Path | None = None
    """The path of what the runtime makes of that file, if it must be converted."""
    inputs: Path | None = None
    """The inputs of a user's ONNX file (npz, ``input NAME``)."""
    batch_axes: Mapping[str, int] = field(default_factory=dict)
    """By input of that file: the side that is the batch; absent: the input has no batch."""
    mixed: tuple[str, ...] = ()
    """The inputs of that file whose numbers are drawn: others of their range serve as well."""
    fixed_batch: int | None = None
    """The batch size that the file fixes; None: any may work."""
    bytes: int | None = None
    """Size of that file with its external data."""
    first_batch: int = 1
    """Batch size of latencies and of the first call."""


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """Versions, settings, time and memory of a worker; a part of the reply to every long request."""

    versions: Mapping[str, str]
    settings: Json
    """The framework's settings, read back."""
    phases: Mapping[str, float]
    """Wall seconds by phase."""
    peak_rss: int
    """Peak resident bytes of the worker's process tree."""
    life: float
    """Seconds from the spawn to this reply."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation during training. Its logits are in the file ``evaluation_file`` of its number: the parent, which
    has the labels, scores them."""

    epoch: float
    """Number of epochs trained so far."""
    seconds: float
    """Seconds of training steps so far, without evaluation."""
    train_loss: float | None
    """Mean loss of the steps since the last point (each before its update, on augmented images); None: no steps."""
    split: str
    """The split that was evaluated: ``validation`` or ``test``."""


@dataclass(frozen=True)
class Alive:
    """A sign of life of a worker at work."""

    evaluation: Evaluation | None = None
    """What a training has just been evaluated to, if it was."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model file that was written and checked."""

    seconds: float
    bytes: int


@dataclass(frozen=True, kw_only=True)
class NotExported:
    """Why there is no model file, and the status of the rows that would read it."""

    status: str
    reason: str


Exports: TypeAlias = Mapping[str, Exported | NotExported]
"""By format."""


@dataclass(frozen=True, kw_only=True)
class Certified:
    """What the certificate is of was written to the request's folder: ``CERTIFICATE_OUTPUTS``; of a runtime
    its logits on the test split; of a user's file ``FILE_OUTPUTS``."""

    adapter_files: tuple[str, ...]
    """The paths of the adapter's source files."""
    bytes: int | None = None
    """The size of a runtime's file."""
    certified_batch: int | None = None
    """The batch size of the outputs of a user's file."""
    batch: int | None = None
    """The batch size of the first call of a user's file."""
    kernels: Mapping[str, float] = field(default_factory=dict)
    """Rates of kernels that tell the machine's limit (``bench.worker.roof``); empty: none were asked for, or the
    backend has none."""
    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class RoofRates:
    """As ``Certified.kernels``."""

    kernels: Mapping[str, float]
    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class ShowedValues:
    """The values of all nodes of a user's file were written to ``ALL_VALUES`` (none: the runtime has no unoptimized
    mode)."""

    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A completed training; its logits on the test split are in ``logits.npy``."""

    fit_seconds: float
    evaluations: tuple[Evaluation, ...]
    losses: tuple[float, ...] = ()
    """Of the steps that the parent asked for, in their order."""
    exports: Exports = field(default_factory=dict)
    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Seconds of the first call, and from the spawn to its end."""

    first_call: float
    cold_start: float
    clock: float | None = None
    """What the clock that times slices shows, in seconds."""


@dataclass(frozen=True, kw_only=True)
class WarmedUp:
    """Number of warm-up steps, whether they became steady (None: too few steps to decide), and the median seconds of a
    step after the first ``cut``."""

    steps: int
    steady: bool | None
    step_seconds: float
    cut: int = 0


@dataclass(frozen=True, kw_only=True)
class NotTaken:
    """A user's file does not take a batch of this size."""

    batch_size: int
    why: str


@dataclass(frozen=True, kw_only=True)
class TimedSlice:
    """Wall seconds between the fences, number of images, and for a latency slice the seconds of each call."""

    seconds: float
    images: int
    latencies: tuple[float, ...] | None
    counters: Mapping[str, int]
    """The worker's own counters over the slice: page faults, involuntary context switches, stops. Empty: none are
    visible here."""
    elapsed: float
    """Wall seconds between the two readings of those counters."""
    ready: float | None
    """Seconds to read the last step's output, right after the fence: the rest of its work, if it was not done. None: it
    was not kept (``TimedSteps.read_last``)."""
    stalled: float | None = None
    """Seconds in which steps of training waited for their batch; None: they do not."""
    halves: float | None = None
    """Rate of the first half of the steps of an input pipeline over that of the second: above 1 if batches were ready
    before the clock began. None: too few steps, or no pipeline."""


@dataclass(frozen=True, kw_only=True)
class Computed:
    """The reference's outputs were written to the request's file, in so many seconds."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Renewed:
    """The batches of the next slice are in place: so many different ones."""

    batches: int


@dataclass(frozen=True, kw_only=True)
class KeptOutputs:
    """Outputs of steps that were timed: the step's number, its batch out of ``count``, the values of the rows that were
    asked for (of a training step: its loss), and the seconds that it took to read all of that output."""

    steps: tuple[int, ...] = ()
    batches: tuple[int, ...] = ()
    count: int = 0
    values: tuple[tuple[tuple[float, ...], ...], ...] = ()
    seconds: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """The elements of the first batches that were asked for; none: the runtime has no unoptimized mode."""

    values: tuple[tuple[float, ...], ...]
    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class Started:
    """The instances of a server are ready. ``seconds``: of the fastest call at every batch size, from 1."""

    seconds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What LoadGen measured in one test."""

    latencies: tuple[float, ...]
    """Seconds of every query, in the order of their schedule, from the scheduled time to the answer; of offline, whose
    one query has all samples, of every sample."""
    slips: tuple[float, ...]
    """Seconds by which LoadGen issued every query later than scheduled."""
    samples: int
    batches: int
    """In which they were served."""
    seconds: float
    """Wall time of the whole test."""
    summary: str
    """LoadGen's own summary."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """As of ``TimedSlice``."""


@dataclass(frozen=True, kw_only=True)
class TimedOperator:
    """As ``backends.base.Operator``."""

    name: str
    kind: str
    layer: str
    backward: bool
    seconds: float
    note: str


@dataclass(frozen=True, kw_only=True)
class Profiled:
    """Operators of a step under the framework's profiler, and seconds of a step without it and with it."""

    operators: tuple[TimedOperator, ...]
    plain: float
    profiled: float


@dataclass(frozen=True, kw_only=True)
class Closed:
    """The losses of the steps after the timed ones."""

    losses: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Memory of the worker in bytes: peak resident set size by task, and the current one."""

    peak_rss: Mapping[str, int]
    rss: int
    framework_memory: Mapping[str, int]
    """The framework's own statistics of its GPU memory, bytes."""
    report: WorkerReport
    clock: float | None = None
    """What the clock that times slices shows, in seconds."""


@dataclass(frozen=True, kw_only=True)
class GpuFacts:
    """The facts that ``bench gpu-check`` needs."""

    libraries: tuple[str, ...]
    probe: Mapping[str, float]
    """The result of the adapter's ``gpu_probe``."""
    energy: Energy
    framework_memory: Mapping[str, int]
    report: WorkerReport


Reply = TypeVar("Reply")


class Request(Generic[Reply]):
    """A dataclass to which a worker replies with a ``Reply``, or with ``Missing``."""

    @classmethod
    def reply_type(cls) -> Any:
        """The type of the reply."""
        return typing.get_args(cls.__orig_bases__[0])[0]  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class Expect(Request[Computed]):
    """Compute the reference's outputs for the certificates, in a worker that loads no backend, and write them to
    ``out``."""

    work: Work
    out: Path
    parts: int = 1
    """Batch normalization is by so many equal parts of a batch, of one process each."""


@dataclass(frozen=True, kw_only=True)
class Certify(Request[Certified]):
    """Compute what the certificate compares with the reference, or with the exporter of a runtime's file."""

    work: Work
    out: Path
    """Folder for the outputs."""
    batches: tuple[int, ...] = ()
    """The batch sizes that are timed."""
    kernels: bool = False
    """Whether to measure the machine's limit."""


@dataclass(frozen=True, kw_only=True)
class MeasureRoof(Request[RoofRates]):
    """Measure the machine's limit again (``bench.worker.roof``)."""

    work: Work


@dataclass(frozen=True, kw_only=True)
class ShowValues(Request[ShowedValues]):
    """Run a user's file with the value of every node as an output, optimized and not, on a batch of this size."""

    work: Work
    out: Path
    """Folder for the values."""
    shown: Path
    """The file with all values as outputs."""
    batch: int


@dataclass(frozen=True, kw_only=True)
class Fit(Request[Trained]):
    """Train the whole recipe, evaluate, save weights and logits in ``out``, and export to these formats."""

    work: Work
    out: Path
    exports: tuple[str, ...] = ()
    often: bool = False
    """Whether to evaluate more than once an epoch, to see when a target is reached."""
    watched: tuple[int, ...] = ()
    """Steps before which the weights are written to ``WATCHED_WEIGHTS``; the number of all steps: at the end."""
    asked: tuple[int, ...] = ()
    """Steps whose losses the reply has."""


@dataclass(frozen=True, kw_only=True)
class Prepare(Request[Prepared]):
    """Load the fitted model and make the first call."""

    work: Work
    weights: Path | None = None
    """The trained weights (npz), of a runtime those of its model file; None: the initial weights, or a user's file."""
    batch: int | None = None
    """Batch size of the first call; None: that of ``work``."""


@dataclass(frozen=True, kw_only=True)
class WarmUp(Request[WarmedUp | Missing | NotTaken]):
    """Create a metric's batches and repeat its step until it is steady. ``Missing``: it does not fit into memory, or a
    user's file does not take such a batch."""

    metric: TimedMetric
    cut: int | None = None
    """Steps after which it is known to be steady: from an earlier process, or 0 after the other boundary."""


@dataclass(frozen=True, kw_only=True)
class TimeSlice(Request[TimedSlice]):
    """Time the metric that was warmed up last, for about ``seconds`` seconds."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Renew(Request[Renewed]):
    """Draw new inputs for a slice of about ``seconds`` seconds (``bench.worker.timed_inputs``)."""

    seconds: float
    seed: int
    keep: tuple[float, ...] = ()
    """The outputs of the steps at these shares of the slice are kept."""


@dataclass(frozen=True, kw_only=True)
class ReadKept(Request[KeptOutputs]):
    """These rows of the outputs that were kept. Asked when the clock has stopped."""

    rows: tuple[int, ...] = ()
    elements: int | None = None
    """Of a user's file, whose first output may have any shape: some elements of it, drawn from this seed
    (``file_outputs.elements``)."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A batch of a user's file's inputs (``timed_inputs.FileDraw``), and which elements of its output are asked for."""

    seed: int
    size: int
    count: int
    batch: int
    elements: int


@dataclass(frozen=True, kw_only=True)
class Recompute(Request[Recomputed]):
    """Compute outputs of a user's file for these batches with all optimizations off, in a worker that times nothing: as
    many as it can in so many seconds, in this order."""

    work: Work
    drawn: tuple[Drawn, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Close(Request[Closed]):
    """Do a few more training steps of ``size`` images at this learning rate, on inputs of this seed, and write the
    weights before the first and after each to ``out`` (npz, ``NUMBER NAME``)."""

    seed: int
    rate: float
    size: int
    steps: int
    out: Path


@dataclass(frozen=True, kw_only=True)
class StartServer(Request[Started]):
    """Load further instances of the model that was prepared, and call each at every batch size up to ``max_batch``."""

    instances: int
    max_batch: int
    max_delay: float
    """Seconds that the first sample of a batch waits for others at most."""


@dataclass(frozen=True, kw_only=True)
class Probe(Request[Probed]):
    """One test by LoadGen (``bench.worker.load``), on images that are drawn from this seed."""

    scenario: Scenario
    rate: float
    """Queries per second: those that arrive (server), or samples per second that are expected (the others)."""
    seconds: float
    queries: int
    """It lasts at least so long, and has at least so many queries."""
    samples: int
    """Of a multi-stream query."""
    bound: float
    """Seconds within which ``percent`` of the latencies shall lie, for LoadGen's own verdict (server)."""
    percent: float
    seed: int
    images: int
    """Of which the queries are."""
    log: Path
    """Folder for LoadGen's files."""


@dataclass(frozen=True, kw_only=True)
class ReadServed(Request[KeptOutputs]):
    """The logits that were served last for ``count`` of these images of the last probe; an image that no query was of
    has none. The reply's ``steps`` are the images."""

    images: tuple[int, ...]
    count: int


@dataclass(frozen=True, kw_only=True)
class Profile(Request[Profiled]):
    """Run the metric that was warmed up last under the framework's profiler, for about so many seconds."""

    seconds: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Finish(Request[Finished]):
    """Read the memory; the worker ends after this request."""


@dataclass(frozen=True, kw_only=True)
class ProbeGpu(Request[GpuFacts]):
    """Collect the facts for ``bench gpu-check``."""

    work: Work
    gpu_uuid: str


REQUESTS: dict[str, type[Request[Any]]] = {
    "expect": Expect,
    "certify": Certify,
    "measure_roof": MeasureRoof,
    "show_values": ShowValues,
    "fit": Fit,
    "prepare": Prepare,
    "warm_up": WarmUp,
    "renew": Renew,
    "slice": TimeSlice,
    "read_kept": ReadKept,
    "recompute": Recompute,
    "close": Close,
    "profile": Profile,
    "start_server": StartServer,
    "probe_load": Probe,
    "read_served": ReadServed,
    "finish": Finish,
    "probe": ProbeGpu,
}
"""Request types by command; the worker's ``Session`` has a method of the same name."""
_COMMANDS = {request: command for command, request in REQUESTS.items()}


def command_of(request: Request[Any]) -> str:
    """The command of a request."""
    return _COMMANDS[type(request)]


def write_request(request: Request[Any], spawned_at: float) -> bytes:
    """A request as one line. ``spawned_at``: the monotonic time at which the parent started the worker."""
    return _line({"command": command_of(request), "spawned_at": spawned_at, "content": encode(request)})


def read_request(line: str) -> tuple[str, Request[Any], float]:
    """Command, request and ``spawned_at`` of a line.

    Raises:
        ProtocolError: the line is not a request.
    """
    try:
        plain = json.loads(line)
        command = plain["command"]
        return command, decode(REQUESTS[command], plain["content"]), float(plain["spawned_at"])
    except ProtocolError:
        raise
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"not a request: {type(error).__name__}: {error}") from error


def write_reply(reply: Any) -> bytes:
    """A reply as one line."""
    return _line({"ok": encode(reply)})


def read_reply(line: bytes, kind: Any) -> Any:
    """A reply of this kind, or ``Refused``.

    Raises:
        GarbageError: the line is no reply at all.
        ProtocolError: it is one of another kind.
    """
    try:
        plain = json.loads(line)
        if "error" in plain:
            status, reason = plain["error"]["status"], plain["error"]["reason"]
            if status not in STATUSES_OF_WORKERS or not isinstance(reason, str):
                raise ValueError(status)
            return Refused(status, reason)
        content = plain["ok"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise GarbageError(str(error)) from error
    return decode(kind, content)


def write_alive(evaluation: Evaluation) -> bytes:
    """A sign of life of a training that has just been evaluated, as one line."""
    return _line({"alive": True, "evaluation": encode(evaluation)})


def read_alive(line: bytes) -> Alive | None:
    """A sign of life; None: the line is something else.

    Raises:
        ProtocolError: its evaluation is none.
    """
    if line == ALIVE:
        return Alive()
    if not line.startswith(ALIVE_WITH_MORE):
        return None
    try:
        return Alive(decode(Evaluation, json.loads(line)["evaluation"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProtocolError(f"not a sign of life: {type(error).__name__}: {error}") from error


def write_error(status: str, reason: str) -> bytes:
    """An error as one line, the last that a worker sends."""
    return _line({"error": {"status": status, "reason": reason}})


def _line(plain: Json) -> bytes:
    return json.dumps(plain).encode() + b"\n"

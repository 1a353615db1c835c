"""What parent and worker say to one another: every request and every reply is a dataclass, one line of JSON each.

Needs the standard library only: a worker's interpreter may be another environment's. The parent sends ``{"command",
"spawned_at", "content"}`` and reads ``{"ok": content}`` or ``{"error": {"status", "reason"}}``; during a training the
worker says ``{"alive": true}`` now and then, so that a long one is not taken for a hung one.

An option for workers is a field of ``Job`` and the line in ``session`` (or an adapter) that uses it.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from bench.machine.gpu_checks import Energy
from bench.values import Missing

Task: TypeAlias = Literal["train", "infer"]
Boundary: TypeAlias = Literal["end-to-end", "device"]
Json: TypeAlias = Mapping[str, Any]
"""An object of JSON that is passed on as it is."""
ALIVE = b'{"alive": true}\n'


class ProtocolError(ValueError):
    """A line that is not the request or reply that it should be; the message says which field."""


class RowKey(NamedTuple):
    """What tells a row from the others of its run (fields of ``Job``)."""

    backend: str
    source: str | None
    device: str
    precision: str
    mode: str

    @property
    def id(self) -> str:
        """``onnxruntime<-keras/cpu/fp32/all-optimizations``: the same whatever the other rows of the run are."""
        source = "" if self.source is None else f"<-{self.source}"
        return f"{self.backend}{source}/{self.device}/{self.precision}/{self.mode}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of a comparison on one workload: what the parent plans, the worker reads, and the record keeps."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

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
    threads: int
    cpus: tuple[int, ...] | None = None
    """Pinned to these logical CPUs; None: not pinned."""
    allocator: str = "system"
    profile: str = "deploy"
    validation: float = 0.0
    """Share of the training split that is held out."""
    started_from: str | None = None
    """The run whose weights training began with; None: those drawn from the seed."""
    frozen: bool = False
    """Only the last dense layer was trained."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be 1 or more, not {self.threads}")

    @property
    def row(self) -> RowKey:
        """Its key among the rows of its run."""
        return RowKey(self.backend, self.source, self.device, self.precision, self.mode)


@dataclass(frozen=True)
class TimedMetric:
    """A metric that is timed in slices: ``throughput`` or ``latency`` of a task at a batch size and boundary."""

    name: str
    task: Task
    batch_size: int
    boundary: Boundary


@dataclass(frozen=True, kw_only=True)
class Work:
    """A row's job and the files that its worker reads. All paths are in the run's scratch folder."""

    job: Job
    model: Json | None
    """``ModelSpec.to_dict()``; None: a user's ONNX file stands in its place."""
    recipe: Json
    """``Recipe.to_dict()``."""
    frozen_weights: tuple[str, ...] = ()
    """Canonical names of the weights that are not trained."""
    data: Path
    """Folder of the data set as the parent wrote it."""
    start: Path | None = None
    """Weights that training begins with (npz); None: drawn from the job's seed."""
    onnx: Path | None = None
    """The file that a runtime reads: its source's, or the user's."""
    converted: Path | None = None
    """Where that file is in the row's precision, if that is another one."""
    source_logits: Path | None = None
    """What the source answered on the test split (npy)."""
    inputs: Path | None = None
    """Random inputs of a user's file (npz)."""
    first_batch: int = 1
    """Batch size of latencies and of the first call."""


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """What every long job tells at its end: what ran, and where its time and memory went."""

    versions: Mapping[str, str]
    settings: Json
    """What the framework says of itself, read back."""
    phases: Mapping[str, float]
    """Wall seconds by phase."""
    held: int
    """Peak resident bytes of the worker's process tree."""
    life: float
    """Seconds from the spawn to this reply."""


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check of a certificate; ``passed`` when ``value`` is not above ``tolerance``."""

    name: str
    value: float
    tolerance: float
    passed: bool
    note: str = ""
    details: Json = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of logits on a split: top-1 accuracy, mean cross-entropy in nats."""

    accuracy: float
    correct: int
    images: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One evaluation during training."""

    epoch: float
    """Epochs trained until then."""
    seconds: float
    """Of training steps until then, evaluation apart."""
    train_loss: float | None
    """Mean over the steps since the last point, as they were taken (each before its update, on augmented images)."""
    split: str
    """What was evaluated: ``validation`` or ``test``."""
    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An ONNX file that was written and checked."""

    seconds: float
    bytes: int


@dataclass(frozen=True, kw_only=True)
class NotExported:
    """Why there is no ONNX file, and the status of the rows that would read it."""

    status: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Certified:
    """The certificate; of a runtime also what it scores on the test split, and the bytes of its file."""

    checks: tuple[CheckResult, ...]
    adapter_files: tuple[str, ...]
    """Where the adapter's code is."""
    scores: Scores | None = None
    bytes: int | None = None
    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A training that came to its end."""

    fit_seconds: float
    curve: tuple[CurvePoint, ...]
    time_to_accuracy: float | None
    """Seconds of training steps until the target was seen; None: not reached, or no target."""
    scores: Scores
    export: Exported | NotExported | None
    """None: it was not asked for."""
    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Seconds of the first call, and from the spawn to its end."""

    first_call: float
    cold_start: float


@dataclass(frozen=True, kw_only=True)
class WarmedUp:
    """Steps before the first slice, whether they became steady (None: too few to tell), and the median seconds of one
    after the cut."""

    steps: int
    steady: bool | None
    step_seconds: float


@dataclass(frozen=True, kw_only=True)
class TimedSlice:
    """Wall seconds between the fences, images done, and each call's seconds if it is a latency slice."""

    seconds: float
    images: int
    latencies: tuple[float, ...] | None
    own: Mapping[str, int]
    """What the worker counted of itself meanwhile: page faults, involuntary switches; empty where it cannot."""
    elapsed: float
    """Wall seconds that it counted over."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Memory of the whole life in bytes: peak resident set by task, and now."""

    peak_rss: Mapping[str, int]
    rss: int
    framework_memory: Mapping[str, int]
    """The framework's own statistics of its GPU memory."""
    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class GpuFacts:
    """What ``bench gpu-check`` judges."""

    libraries: tuple[str, ...]
    probe: Mapping[str, float]
    """Of the adapter's ``gpu_probe``."""
    energy: Energy
    framework_memory: Mapping[str, int]
    report: WorkerReport


Reply = TypeVar("Reply")


class Request(Generic[Reply]):
    """A dataclass that a worker answers with a ``Reply``, or with ``Missing``."""

    @classmethod
    def reply_type(cls) -> Any:
        """What it is answered with."""
        return typing.get_args(cls.__orig_bases__[0])[0]  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class Certify(Request[Certified]):
    """Hold the backend against the reference; of a runtime, against the framework that exported."""

    work: Work
    out: Path
    """Folder for its logits."""
    batch: int = 1
    """Of a user's file: inputs that it is certified on."""


@dataclass(frozen=True, kw_only=True)
class Fit(Request[Fitted]):
    """Train to the recipe's end, evaluate, save weights and logits in ``out``, export where asked."""

    work: Work
    out: Path
    exports: bool
    target_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class Prepare(Request[Prepared]):
    """Load the fitted model and make the first call."""

    work: Work
    weights: Path | None = None
    """Of the training (npz); None: those that it would begin with, or an ONNX file's."""


@dataclass(frozen=True, kw_only=True)
class WarmUp(Request[WarmedUp | Missing]):
    """Make a metric's batches and repeat its step until it is steady. Missing: it does not fit into memory."""

    metric: TimedMetric


@dataclass(frozen=True, kw_only=True)
class TimeSlice(Request[TimedSlice]):
    """Time the metric that was warmed up last, for about so many seconds."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Finish(Request[Finished]):
    """The last request."""


@dataclass(frozen=True, kw_only=True)
class ProbeGpu(Request[GpuFacts]):
    """Facts for ``bench gpu-check``."""

    work: Work
    gpu_uuid: str


REQUESTS: dict[str, type[Request[Any]]] = {
    "certify": Certify,
    "fit": Fit,
    "prepare": Prepare,
    "warm_up": WarmUp,
    "slice": TimeSlice,
    "finish": Finish,
    "probe": ProbeGpu,
}
"""By command; the worker's ``Session`` has a method of each name."""
_COMMANDS = {request: command for command, request in REQUESTS.items()}


def command_of(request: Request[Any]) -> str:
    """The command that a request is sent as."""
    return _COMMANDS[type(request)]


def write_request(request: Request[Any], spawned_at: float) -> bytes:
    """One line. ``spawned_at``: the monotonic time at which the parent started the worker."""
    return _line({"command": command_of(request), "spawned_at": spawned_at, "content": encode(request)})


def read_request(line: str) -> tuple[str, Request[Any], float]:
    """Command, request and ``spawned_at`` of a line.

    Raises:
        ProtocolError: it is not a request.
    """
    plain = json.loads(line)
    command = plain["command"]
    return command, decode(REQUESTS[command], plain["content"]), float(plain["spawned_at"])


def write_reply(reply: Any) -> bytes:
    """One line."""
    return _line({"ok": encode(reply)})


def write_error(status: str, reason: str) -> bytes:
    """One line, the last that a worker says."""
    return _line({"error": {"status": status, "reason": reason}})


def _line(plain: Json) -> bytes:
    return json.dumps(plain).encode() + b"\n"


def encode(value: Any) -> Any:
    """Plain values for JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: encode(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {name: encode(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [encode(inner) for inner in value]
    return value


def decode(kind: Any, plain: Any, where: str = "") -> Any:
    """An instance of ``kind`` (a dataclass, or a type of its fields) from plain values.

    Raises:
        ProtocolError: another type, a field too many or too few.
    """
    if is_dataclass(kind):
        return _decode_dataclass(kind, plain, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(arguments, plain, where)
    if origin is Literal:
        return _expect(plain in arguments, plain, " or ".join(map(str, arguments)), where)
    if origin is tuple:
        _expect(isinstance(plain, list | tuple), plain, "a list", where)
        return tuple(decode(arguments[0], inner, f"{where}[{i}]") for i, inner in enumerate(plain))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(plain, dict), plain, "an object", where)
        return {name: decode(arguments[1], inner, f"{where}.{name}") for name, inner in plain.items()}
    return _decode_plain(kind, plain, where)


def _decode_plain(kind: Any, plain: Any, where: str) -> Any:
    if kind is Any:
        return plain
    if kind is Path:
        return Path(_expect(isinstance(plain, str), plain, "a path", where))
    if kind is float:
        return float(_expect(type(plain) in (int, float), plain, "a number", where))
    return _expect(type(plain) is kind, plain, kind.__name__, where)


def _decode_union(kinds: tuple[Any, ...], plain: Any, where: str) -> Any:
    """None, or the one of several dataclasses that has just these fields, or the one plain type."""
    if plain is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    if len(others) == 1:
        return decode(others[0], plain, where)
    keys = set(plain) if isinstance(plain, dict) else set()
    fits = [kind for kind in others if is_dataclass(kind) and keys == {each.name for each in fields(kind)}]
    _expect(len(fits) == 1, plain, " or ".join(kind.__name__ for kind in others), where)
    return _decode_dataclass(fits[0], plain, where)


def _decode_dataclass(kind: Any, plain: Any, where: str) -> Any:
    _expect(isinstance(plain, dict), plain, f"a {kind.__name__}", where)
    hints, found = _hints(kind), {}
    for each in fields(kind):
        place = f"{where}.{each.name}" if where else each.name
        if each.name in plain:
            found[each.name] = decode(hints[each.name], plain[each.name], place)
        elif each.default is MISSING and each.default_factory is MISSING:
            raise ProtocolError(f"{place} is missing")
    if unknown := sorted(set(plain) - set(hints)):
        raise ProtocolError(f"{kind.__name__} has no field '{unknown[0]}'")
    try:
        return kind(**found)
    except ValueError as error:
        raise ProtocolError(f"{where or kind.__name__}: {error}") from error


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _expect(holds: bool, plain: Any, what: str, where: str) -> Any:
    if not holds:
        raise ProtocolError(f"{where or 'it'} is {json.dumps(plain)[:40]}, not {what}")
    return plain

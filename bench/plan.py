"""What to measure, in which order: rows of the comparison, their jobs, and interleaved rounds."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import backends
from backends.base import Backend
from backends.model import ModelSpec, Weights
from bench.errors import UsageError, unknown
from bench.job import Job, label
from bench.machine import resolve_devices
from bench.nvml import Gpu
from bench.profiles import Placement, place
from bench.workloads import Workload

ALL = "all"
DEFAULT = "default"
"""Of modes and precisions: a backend's first."""
BEST = "best"
"""All modes; the report names the fastest."""
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
    def tasks(self) -> tuple[str, ...]:
        """Inference first: its memory is read before training adds to it."""
        return ("infer", "train") if self.task == "all" else (self.task,)


@dataclass(frozen=True)
class Side:
    """An environment that rows are run in, where a comparison has two of them."""

    name: str
    """``base`` or ``present``."""
    told: str
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

    @property
    def label(self) -> str:
        """What is fitted once: alike for a row and its twin on another allocator."""
        return "-".join(part for part in (*self.job.row, self.side and self.side.name) if part)

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
class FigurePlan:
    """A figure that is timed in every round."""

    name: str
    task: str
    batch_size: int
    boundary: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the worker."""
        return {
            "name": self.name,
            "task": self.task,
            "batch_size": self.batch_size,
            "boundary": self.boundary,
        }


@dataclass(frozen=True)
class Plan:
    """Rows with sources before the rows that read them, and the figures."""

    request: Request
    rows: tuple[Row, ...]
    figures: tuple[FigurePlan, ...]

    @property
    def rounds(self) -> int:
        """How many there are at least; a precision target may add more."""
        asked = self.request.rounds
        return self.request.placement.profile.rounds if asked is None else asked

    def order(self, number: int) -> tuple[Row, ...]:
        """Round ``number``: a randomized complete block, every row once in an order drawn by the seed."""
        measured = [row for row in self.rows if row.asked and row.problem is None]
        return tuple(random.Random(f"{self.request.seed}/{number}").sample(measured, len(measured)))


def make(request: Request) -> Plan:
    """Check the names and lay out the work.

    Raises:
        UsageError: an unknown name, no such device, or nothing to run.
    """
    _check(request)
    rows = _name(_rows(request))
    if not any(row.asked for row in rows):
        raise UsageError("nothing to run: no backend here can do it (bench list says what is missing)")
    return Plan(request, tuple(rows), tuple(_figures(request)))


def make_runtimes(request: Request) -> Plan:
    """The same for a file of the user's: a runtime's rows read it, and no other backend has anything to do.

    Raises:
        UsageError: an unknown name, no such device, or no runtime among the backends.
    """
    _check(request)
    under_all = ALL in request.backends
    adapters = _adapters([name for name in request.backends if name != ALL])[0]
    rows = []
    for asked_device, asked_gpu in resolve_devices(request.devices):
        for name, adapter in adapters.items():
            if name in request.backends or (under_all and adapter.NEEDS_SOURCE):
                device, gpu = _device_of(adapter, asked_device, asked_gpu)
                for way in _ways(adapter, request):
                    row = _row(request, name, device, gpu, way)
                    problem = row.problem
                    if not adapter.NEEDS_SOURCE:
                        problem = "unsupported", "it reads no ONNX files"
                    elif way[0] != adapter.PRECISIONS[0]:
                        problem = (
                            "unsupported",
                            "a file of the user's is run as it is: there are no images to convert by",
                        )
                    rows.append(replace(row, required=name in request.backends, problem=problem))
    if not rows:
        raise UsageError("nothing to run: no runtime here reads ONNX files; pip install 'evenbench[onnx]'")
    rows = _name(list({row.job.row: row for row in rows}.values()))
    return Plan(request, tuple(rows), tuple(_figures(request)))


def _check(request: Request) -> None:
    known = backends.names()
    for name in (*request.backends, *request.pythons):
        if name != ALL and name not in known:
            raise unknown("backend", name, [*known, ALL])
    _check_ways(request)
    for name, python in request.pythons.items():
        if not Path(python).is_file():
            raise UsageError(f"--python {name}={python}: no such file; give the path of an interpreter")


def _check_ways(request: Request) -> None:
    """Every mode and precision that was asked for is one of some backend."""
    adapters = _adapters([])[0].values()
    for kind, asked, known in (
        ("mode", request.modes, {mode for adapter in adapters for mode in adapter.MODES} | {DEFAULT, ALL, BEST}),
        ("precision", request.precisions, {p for adapter in adapters for p in adapter.PRECISIONS} | {DEFAULT, ALL}),
    ):
        for name in asked:
            if name not in known:
                raise unknown(kind, name, sorted(known))


def _rows(request: Request) -> list[Row]:
    under_all = ALL in request.backends
    asked = list(dict.fromkeys(name for name in request.backends if name != ALL))
    names = [name for name in backends.names() if under_all or name in asked]
    adapters, broken = _adapters(asked)
    trained, runtimes = [_broken(request, name, why) for name, why in broken.items() if name in names], []
    for asked_device, asked_gpu in resolve_devices(request.devices):
        for name, adapter in adapters.items():
            device, gpu = _device_of(adapter, asked_device, asked_gpu)
            wanted = name in names
            if adapter.NEEDS_SOURCE:
                if wanted:
                    runtimes.append((name, device, gpu))
            else:
                rows = [_row(request, name, device, gpu, way) for way in (_ways(adapter, request) if wanted else [])]
                trained += [replace(row, required=name in asked) for row in rows]
                if "export" in adapter.TASKS:
                    exporter = _row(request, name, device, gpu, _default(adapter))
                    trained.append(replace(exporter, asked=False, required=name in asked))
    trained = list({row.job.row: row for row in reversed(trained)}.values())[::-1]  # asked for before needed
    rows = list(trained)
    for name, device, gpu in runtimes:
        defaults = {other: _default(adapter) for other, adapter in adapters.items()}
        exporters = [
            row
            for row in trained
            if "export" in row.tasks
            and row.job.device == device
            and (row.job.precision, row.job.mode) == defaults[row.job.backend][:2]
        ]
        runtime_rows = [
            replace(_row(request, name, device, gpu, way, source), required=name in asked)
            for source in exporters
            for way in _ways(adapters[name], request)
        ]
        rows += _drop_sourceless(runtime_rows) or [_without_source(request, name, device, gpu, name in asked)]
    return _needed(list({row.job.row: row for row in rows}.values()))


Way = tuple[str, str, str]
"""Precision, mode, and why the backend cannot run so (empty: it can)."""


def _default(adapter: type[Backend]) -> Way:
    return adapter.PRECISIONS[0], adapter.MODES[0], ""


def _ways(adapter: type[Backend], request: Request) -> list[Way]:
    """How a backend is run: every asked precision in every asked mode that it has; where it has none of those asked,
    one row says so."""
    precisions = _chosen(adapter.PRECISIONS, request.precisions)
    modes = _chosen(adapter.MODES, request.modes)
    if precisions and modes:
        return [(precision, mode, "") for precision in precisions for mode in modes]
    kind, asked, has = ("mode", request.modes, adapter.MODES)
    if not precisions:
        kind, asked, has = "precision", request.precisions, adapter.PRECISIONS
    why = f"it has no {kind} {' or '.join(asked)}; it has {', '.join(has)}"
    return [((precisions or request.precisions)[0], (modes or request.modes)[0], why)]


def _chosen(has: tuple[str, ...], asked: tuple[str, ...]) -> list[str]:
    if ALL in asked or BEST in asked:
        return list(has)
    return list(dict.fromkeys(has[0] if name == DEFAULT else name for name in asked if name in (*has, DEFAULT)))


def _device_of(adapter: type[Backend], device: str, gpu: Gpu | None) -> tuple[str, Gpu | None]:
    """``auto`` is CUDA where there is a GPU and the backend can use one, else the CPU."""
    if device != "auto":
        return device, gpu
    return ("cuda", gpu) if gpu is not None and "cuda" in adapter.DEVICES else ("cpu", None)


def _drop_sourceless(rows: list[Row]) -> list[Row]:
    """Rows whose source is installed here; those of a source that nobody asked for and is missing say nothing."""
    return [row for row in rows if row.source and (row.source.asked or row.source.problem is None)]


def _without_source(request: Request, name: str, device: str, gpu: Gpu | None, required: bool) -> Row:
    row = _row(request, name, device, gpu, _ways(backends.load(name), request)[0])
    reason = "no backend here exports the ONNX file that it reads: pip install 'evenbench[pytorch]'"
    return replace(row, required=required, problem=row.problem or ("unavailable", reason))


def _needed(rows: list[Row]) -> list[Row]:
    """Without sources that no row reads; a row that cannot run here reads none."""
    rows = [row if row.problem is None else replace(row, source=None) for row in rows]
    read = {row.source.job.row for row in rows if row.source is not None}
    return [row for row in rows if row.asked or row.job.row in read]


def _adapters(asked: list[str]) -> tuple[dict[str, type[Backend]], dict[str, str]]:
    """All adapters by name, and why the others cannot be imported; that of a third-party package costs only itself.

    Raises:
        UsageError: one that was asked for by name cannot be imported.
    """
    adapters: dict[str, type[Backend]] = {}
    broken: dict[str, str] = {}
    for name in backends.names():
        try:
            adapters[name] = backends.load(name)
        except Exception as error:
            broken[name] = f"cannot be imported: {type(error).__name__}: {error}"
            if name in asked:
                raise UsageError(f"backend '{name}' {broken[name]}") from error
    return adapters, broken


def _broken(request: Request, name: str, why: str) -> Row:
    job = _job(request, name, "cpu", precision="unknown", mode="unknown")
    return Row(job, name, frozenset(), sys.executable, None, required=False, problem=("unavailable", why))


def _row(request: Request, name: str, device: str, gpu: Gpu | None, way: Way, source: Row | None = None) -> Row:
    adapter = backends.load(name)
    precision, mode, cannot = way
    job = _job(request, name, device, precision, mode, None if source is None else source.job.backend)
    python = request.pythons.get(name, sys.executable)
    problem = ("unsupported", cannot) if cannot else _problem(name, adapter, job, request)
    return Row(job, name, adapter.TASKS, python, None if gpu is None else gpu.uuid, source, problem=problem)


def _job(request: Request, name: str, device: str, precision: str, mode: str, source: str | None = None) -> Job:
    return Job(
        backend=name,
        source=source,
        device=device,
        precision=precision,
        mode=mode,
        model=request.workload.model.name,
        dataset=request.workload.dataset,
        recipe=request.workload.recipe.name,
        threads=request.placement.threads,
        cpus=None if request.placement.cpus is None else list(request.placement.cpus),
        allocator=request.placement.allocator,
        profile=request.placement.profile.name,
        validation=request.workload.recipe.validation,
        started_from=request.started_from,
        frozen=request.freeze,
        seed=request.seed,
    )


def _problem(name: str, adapter: type[Backend], job: Job, request: Request) -> tuple[str, str] | None:
    """What stands in the way here; another interpreter speaks for itself."""
    kind = job.device.partition(":")[0]
    if kind not in adapter.DEVICES:
        return "unsupported", f"{name} runs on {', '.join(adapter.DEVICES)} only"
    if adapter.TASKS.isdisjoint(request.tasks):
        return "unsupported", f"{name} does not {request.task}"
    missing = [] if name in request.pythons else backends.installed(adapter)[1]
    if missing:
        return "unavailable", missing_packages(adapter, missing)
    return None


def missing_packages(adapter: type[Backend], missing: list[str]) -> str:
    """What is missing and the command that adds it."""
    what = f"'evenbench[{adapter.EXTRA}]'" if adapter.EXTRA else " ".join(name.split(" or ")[0] for name in missing)
    return f"not installed: {', '.join(missing)}; pip install {what}"


def _name(rows: list[Row]) -> list[Row]:
    jobs = [row.job for row in rows]
    named = {row.job.row: replace(row, name=label(row.job, jobs)) for row in rows}
    return [row if row.source is None else replace(row, source=named[row.source.job.row]) for row in named.values()]


def _figures(request: Request) -> list[FigurePlan]:
    figures = []
    for task in request.tasks:
        kinds = [("throughput", size) for size in request.batch_sizes] + [("latency", 1)] * (task == "infer")
        for name, size in kinds:
            figures += [FigurePlan(name, task, size, boundary) for boundary in ("end-to-end", "device")]
    return figures

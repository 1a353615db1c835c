"""What to measure, in which order: rows of the comparison, their jobs, and interleaved rounds."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import backends
from backends.base import Backend
from bench.errors import UsageError, unknown
from bench.job import Job, label
from bench.machine import resolve_devices
from bench.nvml import Gpu
from bench.profiles import Placement, place
from bench.workloads import Workload

ALL = "all"
DEFAULT_BUDGET = 300.0
"""Seconds for a precision target where none are given."""


@dataclass(frozen=True)
class Request:
    """What the user asked for, names not yet checked."""

    backends: tuple[str, ...]
    workload: Workload
    task: str = "all"
    devices: str = "auto"
    batch_size: int = 128
    placement: Placement = field(default_factory=place)
    rounds: int | None = None
    """None: the profile's."""
    precision_target: float | None = None
    """Rounds are added until the ratios' 95% half-width is no more than this fraction ..."""
    budget: float | None = None
    """... or so many seconds are spent."""
    seed: int = 0
    timeout: float = 600.0
    data_dir: Path | None = None
    pythons: dict[str, str] = field(default_factory=dict)

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


def _check(request: Request) -> None:
    known = backends.names()
    for name in (*request.backends, *request.pythons):
        if name != ALL and name not in known:
            raise unknown("backend", name, [*known, ALL])
    for name, python in request.pythons.items():
        if not Path(python).is_file():
            raise UsageError(f"--python {name}={python}: no such file; give the path of an interpreter")


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
            elif wanted or "export" in adapter.TASKS:
                row = _row(request, name, device, gpu)
                trained.append(replace(row, asked=wanted, required=name in asked))
    rows = list(trained)
    for name, device, gpu in runtimes:
        exporters = [row for row in trained if "export" in row.tasks and row.job.device == device]
        runtime_rows = [
            replace(_row(request, name, device, gpu, source), required=name in asked) for source in exporters
        ]
        rows += _drop_sourceless(runtime_rows) or [_without_source(request, name, device, gpu, name in asked)]
    return _needed(list({row.job.row: row for row in rows}.values()))


def _device_of(adapter: type[Backend], device: str, gpu: Gpu | None) -> tuple[str, Gpu | None]:
    """``auto`` is CUDA where there is a GPU and the backend can use one, else the CPU."""
    if device != "auto":
        return device, gpu
    return ("cuda", gpu) if gpu is not None and "cuda" in adapter.DEVICES else ("cpu", None)


def _drop_sourceless(rows: list[Row]) -> list[Row]:
    """Rows whose source is installed here; those of a source that nobody asked for and is missing say nothing."""
    return [row for row in rows if row.source and (row.source.asked or row.source.problem is None)]


def _without_source(request: Request, name: str, device: str, gpu: Gpu | None, required: bool) -> Row:
    row = _row(request, name, device, gpu)
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


def _row(request: Request, name: str, device: str, gpu: Gpu | None, source: Row | None = None) -> Row:
    adapter = backends.load(name)
    job = _job(
        request, name, device, adapter.PRECISIONS[0], adapter.MODES[0], None if source is None else source.job.backend
    )
    python = request.pythons.get(name, sys.executable)
    problem = _problem(name, adapter, job, request)
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
    return [replace(row, name=label(row.job, jobs)) for row in rows]


def _figures(request: Request) -> list[FigurePlan]:
    figures = []
    for task in request.tasks:
        kinds = [("throughput", request.batch_size)] + [("latency", 1)] * (task == "infer")
        for name, size in kinds:
            figures += [FigurePlan(name, task, size, boundary) for boundary in ("end-to-end", "device")]
    return figures

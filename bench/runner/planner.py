"""From a request to a plan: the rows that the backends give, what stands in their way, and the figures."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import backends
from backends.base import Backend
from bench.errors import UsageError, unknown
from bench.machine.host import resolve_devices
from bench.machine.nvml import Gpu
from bench.records.record import label
from bench.runner.plan import ALL, BEST, DEFAULT, Plan, Request, Row
from bench.worker.protocol import Boundary, Job, TimedMetric


def make(request: Request) -> Plan:
    """Check the names and lay out the work.

    Raises:
        UsageError: an unknown name, no such device, or nothing to run.
    """
    _check(request)
    rows = _name(_rows(request))
    if not any(row.asked for row in rows):
        raise UsageError("nothing to run: no backend here can do it (bench list says what is missing)")
    return Plan(request, tuple(rows), tuple(timed_metrics(request)))


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
    return Plan(request, tuple(rows), tuple(timed_metrics(request)))


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
    """How a backend is run: every asked precision in every asked mode. A precision that it does not have is a row that
    says so; a mode is asked of whoever has it, and a backend that has none of them says so."""
    modes = _chosen(adapter.MODES, request.modes)
    if not modes:
        why = f"it has no mode {' or '.join(request.modes)}; it has {', '.join(adapter.MODES)}"
        return [(adapter.PRECISIONS[0], request.modes[0], why)]
    able = [(precision, mode, "") for precision in _chosen(adapter.PRECISIONS, request.precisions) for mode in modes]
    has = f"it has {', '.join(adapter.PRECISIONS)}"
    lacking = [name for name in request.precisions if name not in (*adapter.PRECISIONS, DEFAULT, ALL)]
    return able + [(name, modes[0], f"it has no precision {name}; {has}") for name in lacking]


def _chosen(has: tuple[str, ...], asked: tuple[str, ...]) -> list[str]:
    """Those of a backend's modes or precisions that are asked for, the default by its own name."""
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
    uuid = None if gpu is None else gpu.uuid
    return Row(job, name, adapter.TASKS, python, uuid, source, problem=problem, contender=adapter.CONTENDS)


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
        cpus=request.placement.cpus,
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
        return "unavailable", backends.missing_packages(adapter, missing)
    return None


def _name(rows: list[Row]) -> list[Row]:
    jobs = [row.job for row in rows]
    named = {row.job.row: replace(row, name=label(row.job, jobs)) for row in rows}
    return [row if row.source is None else replace(row, source=named[row.source.job.row]) for row in named.values()]


def timed_metrics(request: Request) -> list[TimedMetric]:
    """What is timed in every round: throughput at every batch size, and the latency of inference."""
    boundaries: tuple[Boundary, ...] = ("end-to-end", "device")
    metrics = []
    for task in request.tasks:
        kinds = [("throughput", size) for size in request.batch_sizes]
        if task == "infer":
            kinds.append(("latency", request.first_batch))
        metrics += [TimedMetric(name, task, size, boundary) for name, size in kinds for boundary in boundaries]
    return metrics

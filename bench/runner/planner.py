"""Make a plan from a request: the rows of the backends, the reasons why a row cannot run, and the timed metrics."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import backends
from backends.description import Description
from bench.errors import UsageError, unknown
from bench.machine import nvml, speed_variables
from bench.machine.host import resolve_devices
from bench.machine.nvml import Gpu
from bench.records.record import label
from bench.runner.plan import ALL, BEST, DEFAULT, Plan, Request, Row
from bench.worker.protocol import Boundary, Job, TimedMetric
from bench.workloads.onnx_file import OnnxModel

USERS_FORMAT = "onnx"
"""Of the user's own model files."""


def make_plan(request: Request) -> Plan:
    """Check the names of a request and make its plan.

    Raises:
        UsageError: an unknown name, no such device, or nothing to run.
    """
    _check_names(request)
    rows = _add_names(_make_rows(request))
    if not any(row.requested for row in rows):
        raise UsageError("nothing to run: no backend here can do it (bench list says what is missing)")
    return Plan(request, tuple(rows), tuple(timed_metrics(request)))


def make_runtime_plan(request: Request, files: Sequence[OnnxModel]) -> Plan:
    """Like ``make_plan``, for ONNX files of the user: only the rows of runtimes can read them.

    Raises:
        UsageError: an unknown name, no such device, or no runtime among the backends.
    """
    _check_names(request)
    under_all = ALL in request.backends
    adapters = _adapters([name for name in request.backends if name != ALL])[0]
    rows = []
    for asked_device, asked_gpu in resolve_devices(request.devices):
        for name, adapter in adapters.items():
            if name in request.backends or (under_all and USERS_FORMAT in adapter.READS):
                device, gpu = _device_of(adapter, asked_device, asked_gpu)
                for _, mode, why in _variants(adapter, request):
                    if USERS_FORMAT in adapter.READS:
                        required = _is_required(request, adapter, name, mode)
                        rows += [_file_row(request, name, device, gpu, (mode, why), file, required) for file in files]
                    else:
                        row = _make_row(request, name, device, gpu, (files[0].precision, mode, why))
                        rows.append(replace(row, problem=("unsupported", "it reads no ONNX files"), required=False))
    if rows and not any(USERS_FORMAT in adapters[row.job.backend].READS for row in rows):
        runtimes = ", ".join(name for name, adapter in adapters.items() if USERS_FORMAT in adapter.READS)
        raise UsageError(f"nothing to run: {rows[0].job.backend} reads no ONNX files; --backend {runtimes} does")
    if not rows:
        raise UsageError("nothing to run: no runtime here reads ONNX files; pip install 'evenbench[onnx]'")
    rows = _add_names(list({row.job.row: row for row in rows}.values()))
    firsts = tuple(dict.fromkeys(row.first_batch for row in rows if row.file is not None))
    return Plan(request, tuple(rows), tuple(timed_metrics(request, firsts)))


def _file_row(
    request: Request,
    name: str,
    device: str,
    gpu: Gpu | None,
    variant: tuple[str, str],
    file: OnnxModel,
    required: bool,
) -> Row:
    """A runtime's row of a file, in a mode (with the reason why it has none)."""
    mode, why = variant
    row = _make_row(request, name, device, gpu, (file.precision, mode, why))
    job = replace(row.job, model=file.name, source=file.name, inputs=file.inputs_text)
    return replace(row, job=job, file=file, required=required)


def _check_names(request: Request) -> None:
    known = backends.names()
    for name in (*request.backends, *request.pythons):
        if name != ALL and name not in known:
            raise unknown("backend", name, [*known, ALL])
    _check_modes_and_precisions(request)
    for name, python in request.pythons.items():
        if not Path(python).is_file():
            raise UsageError(f"--python {name}={python}: no such file; give the path of an interpreter")


def _check_modes_and_precisions(request: Request) -> None:
    """Check that some backend has each requested mode and precision."""
    adapters = _adapters([])[0].values()
    for kind, requested, known in (
        ("mode", request.modes, {mode for adapter in adapters for mode in adapter.MODES} | {DEFAULT, ALL, BEST}),
        ("precision", request.precisions, {p for adapter in adapters for p in adapter.PRECISIONS} | {DEFAULT, ALL}),
    ):
        for name in requested:
            if name not in known:
                raise unknown(kind, name, sorted(known))


def _make_rows(request: Request) -> list[Row]:
    under_all = ALL in request.backends
    requested = list(dict.fromkeys(name for name in request.backends if name != ALL))
    names = [name for name in backends.names() if under_all or name in requested]
    adapters, broken = _adapters(requested)
    trained, runtimes = [_broken_row(request, name, why) for name, why in broken.items() if name in names], []
    for asked_device, asked_gpu in resolve_devices(request.devices):
        for name, adapter in adapters.items():
            device, gpu = _device_of(adapter, asked_device, asked_gpu)
            wanted = name in names
            if adapter.READS:
                if wanted:
                    runtimes.append((name, device, gpu))
            else:
                variants = _variants(adapter, request) if wanted else []
                rows = [_make_row(request, name, device, gpu, variant) for variant in variants]
                trained += [replace(row, required=_is_required(request, adapter, name, row.job.mode)) for row in rows]
                if adapter.WRITES:
                    exporter = _make_row(request, name, device, gpu, _default_variant(adapter))
                    trained.append(replace(exporter, requested=False, required=name in requested))
    if request.task == "input":
        rows = [row for row in trained if row.requested] + [
            _make_row(request, name, device, gpu, _default_variant(adapters[name])) for name, device, gpu in runtimes
        ]
        able = [row for row in rows if "input" in adapters[row.job.backend].TASKS or not under_all]
        return [_with_workers(row, count) for row in able for count in request.input_workers]
    if request.processes:
        rows = [row for row in trained if row.requested]
        return [_with_processes(row, count) for row in rows for count in request.processes]
    trained = list({row.job.row: row for row in reversed(trained)}.values())[::-1]  # requested before needed
    rows = list(trained)
    for name, device, gpu in runtimes:
        defaults = {other: _default_variant(adapter) for other, adapter in adapters.items()}
        exporters = [
            row
            for row in trained
            if not set(adapters[name].READS).isdisjoint(row.writes)
            and row.job.device == device
            and (row.job.precision, row.job.mode) == defaults[row.job.backend][:2]
        ]
        runtime_rows = [
            replace(
                _make_row(request, name, device, gpu, variant, source),
                required=_is_required(request, adapters[name], name, variant[1]),
            )
            for source in exporters
            for variant in _variants(adapters[name], request)
        ]
        rows += _drop_sourceless(runtime_rows) or [_row_without_source(request, name, device, gpu, name in requested)]
    return _drop_unread_sources(list({row.job.row: row for row in rows}.values()))


def _with_workers(row: Row, count: int) -> Row:
    """The row with so many workers of its input pipeline, which alone is timed."""
    return replace(row, job=replace(row.job, input_workers=count), tasks=row.tasks & {"input"})


def _with_processes(row: Row, count: int) -> Row:
    """The row with so many processes or devices that train together. It is not trained to the end: the certificate says
    that a step is that of one process."""
    adapter, problem, required = backends.describe(row.job.backend), row.problem, row.required
    if count > 1 and not adapter.SCALES_BY and problem is None:
        problem, required = ("unsupported", adapter.NOT_SCALED), False
    elif count > 1 and problem is None and row.gpu_uuid is not None and len(gpus := nvml.gpus()[0]) < count:
        problem = ("unavailable", f"{count} processes need {count} GPUs, this machine has {len(gpus)}")
    job = replace(row.job, processes=count)
    return replace(row, job=job, tasks=row.tasks & {"train"}, problem=problem, required=required)


Variant = tuple[str, str, str]
"""Precision, mode, and the reason why the backend does not support them (empty: it does)."""


def _is_required(request: Request, adapter: Description, name: str, mode: str) -> bool:
    """Whether the user named the row's backend, and its mode too or the mode is the backend's first."""
    return name in request.backends and (mode in request.modes or mode == adapter.MODES[0])


def _default_variant(adapter: Description) -> Variant:
    return adapter.PRECISIONS[0], adapter.MODES[0], ""


def _variants(adapter: Description, request: Request) -> list[Variant]:
    """The variants of a backend: every requested precision in every requested mode.

    An unsupported precision yields an ``unsupported`` row. Unsupported modes are skipped; a backend with none of the
    requested modes yields one ``unsupported`` row.
    """
    modes = _choose(adapter.MODES, request.modes)
    if not modes:
        why = f"it has no mode {' or '.join(request.modes)}; it has {', '.join(adapter.MODES)}"
        return [(adapter.PRECISIONS[0], request.modes[0], why)]
    precisions = _choose(adapter.PRECISIONS, request.precisions)
    supported = [(precision, mode, "") for precision in precisions for mode in modes]
    has = f"it has {', '.join(adapter.PRECISIONS)}"
    unsupported = [name for name in request.precisions if name not in (*adapter.PRECISIONS, DEFAULT, ALL)]
    return supported + [(name, modes[0], f"it has no precision {name}; {has}") for name in unsupported]


def _choose(supported: tuple[str, ...], requested: tuple[str, ...]) -> list[str]:
    """The requested ones of a backend's modes or precisions; ``default`` becomes the name of the first."""
    if ALL in requested or BEST in requested:
        return list(supported)
    known = (*supported, DEFAULT)
    return list(dict.fromkeys(supported[0] if name == DEFAULT else name for name in requested if name in known))


def _device_of(adapter: Description, device: str, gpu: Gpu | None) -> tuple[str, Gpu | None]:
    """Resolve ``auto``: CUDA if there is a GPU and the backend supports it, else the CPU."""
    if device != "auto":
        return device, gpu
    return ("cuda", gpu) if gpu is not None and "cuda" in adapter.DEVICES else ("cpu", None)


def _drop_sourceless(rows: list[Row]) -> list[Row]:
    """Drop the rows whose source was not requested and cannot run here."""
    return [row for row in rows if row.source and (row.source.requested or row.source.problem is None)]


def _row_without_source(request: Request, name: str, device: str, gpu: Gpu | None, required: bool) -> Row:
    row = _make_row(request, name, device, gpu, _variants(backends.describe(name), request)[0])
    reads = backends.describe(name).READS
    reason = f"no backend here exports the {' or '.join(reads)} file that it reads; bench list says what is missing"
    return replace(row, required=required, problem=row.problem or ("unavailable", reason))


def _drop_unread_sources(rows: list[Row]) -> list[Row]:
    """Drop the sources that no row reads; a row that cannot run here reads none."""
    rows = [row if row.problem is None else replace(row, source=None) for row in rows]
    read = {row.source.job.row for row in rows if row.source is not None}
    return [row for row in rows if row.requested or row.job.row in read]


def _adapters(requested: list[str]) -> tuple[dict[str, Description], dict[str, str]]:
    """All adapters by name, and by name the reason why an adapter cannot be imported.

    Raises:
        UsageError: a backend that was requested by name cannot be imported.
    """
    adapters: dict[str, Description] = {}
    broken: dict[str, str] = {}
    for name in backends.names():
        try:
            adapters[name] = backends.describe(name)
        except ImportError as error:
            broken[name] = f"cannot be imported: {error}"
            if name in requested:
                raise UsageError(f"backend '{name}' {broken[name]}") from error
    return adapters, broken


def _broken_row(request: Request, name: str, why: str) -> Row:
    job = _make_job(request, name, "cpu", precision="unknown", mode="unknown")
    return Row(job, name, frozenset(), sys.executable, None, required=False, problem=("unavailable", why))


def _make_row(
    request: Request, name: str, device: str, gpu: Gpu | None, variant: Variant, source: Row | None = None
) -> Row:
    adapter = backends.describe(name)
    precision, mode, unsupported = variant
    job = _make_job(request, name, device, precision, mode, None if source is None else source.job.backend)
    python = request.pythons.get(name, sys.executable)
    problem = ("unsupported", unsupported) if unsupported else _problem(name, adapter, job, request)
    uuid = None if gpu is None else gpu.uuid
    reads = None if source is None else next((each for each in adapter.READS if each in source.writes), None)
    return Row(
        job, name, adapter.TASKS, python, uuid, source, reads=reads, writes=adapter.WRITES,
        problem=problem, contender=adapter.CONTENDS,
    )  # fmt: skip


def _make_job(request: Request, name: str, device: str, precision: str, mode: str, source: str | None = None) -> Job:
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
        cpu_quota=request.placement.cpu_quota,
        validation=request.workload.recipe.validation,
        started_from=request.started_from,
        frozen=request.freeze,
        serving="" if request.load is None else request.load.text,
        environment=speed_variables.in_effect(),
        seed=request.seed,
    )


def _problem(name: str, adapter: Description, job: Job, request: Request) -> tuple[str, str] | None:
    """Status and reason if the row cannot run here. A backend with its own interpreter decides for itself what is
    available: only that interpreter knows its packages."""
    kind = job.device.partition(":")[0]
    if kind not in adapter.DEVICES:
        return "unsupported", f"{name} runs on {', '.join(adapter.DEVICES)} only"
    if adapter.TASKS.isdisjoint(request.tasks):
        does = "has no input pipeline" if request.task == "input" else f"does not {request.task}"
        return "unsupported", f"{name} {does}"
    missing = [] if name in request.pythons else backends.installed(adapter)[1]
    if missing:
        return "unavailable", backends.missing_packages(adapter, missing)
    return None


def _add_names(rows: list[Row]) -> list[Row]:
    jobs = [row.job for row in rows]
    named = {row.job.row: replace(row, name=label(row.job, jobs)) for row in rows}
    return [row if row.source is None else replace(row, source=named[row.source.job.row]) for row in named.values()]


def timed_metrics(request: Request, first_batches: Sequence[int] = (1,)) -> list[TimedMetric]:
    """The metrics that are timed in every round: throughput at every batch size, and the latency of inference at the
    batch sizes of the rows' first calls; of input pipelines their batches, and training steps fed by them. None where
    rows are tested under load."""
    if request.load is not None:
        return []
    boundaries: tuple[Boundary, ...] = ("end-to-end", "device")
    metrics = []
    for task in request.tasks:
        if task == "input":
            for size in request.batch_sizes:
                metrics.append(TimedMetric("input_throughput", task, size, "end-to-end"))
                metrics.append(TimedMetric("fed_throughput", task, size, "end-to-end"))
            continue
        kinds = [("throughput", size) for size in request.batch_sizes]
        if task == "infer":
            kinds += [("latency", size) for size in first_batches]
        metrics += [TimedMetric(name, task, size, boundary) for name, size in kinds for boundary in boundaries]
    return metrics

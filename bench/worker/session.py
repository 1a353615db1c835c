"""The session of a worker: it creates one backend and certifies, fits or measures it. Each public method serves the
command of the same name (``protocol.REQUESTS``).

It needs only NumPy, psutil, the framework, and the packages ``bench`` and ``backends``.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import numpy as np

import backends
from backends.base import Backend, Spread, Unavailable, Unsupported
from backends.model import ModelSpec, Weights
from bench.array_files import read_arrays
from bench.machine import allocators, denormals, limits, memory, stops
from bench.secrecy import hide
from bench.values import Missing
from bench.worker import clock, file_outputs, onnx_layers, protocol, reference_outputs, roof, training
from bench.worker.certificate_outputs import Candidate
from bench.worker.group import Group, Peers, parts_of, processes_of
from bench.worker.input_steps import InputSteps, InputStream, image_files
from bench.worker.inputs import batch_of, read_inputs, sample_of
from bench.worker.load import Server
from bench.worker.protocol import (
    Certified,
    Certify,
    Close,
    Closed,
    Computed,
    Evaluation,
    Expect,
    Finish,
    Finished,
    Fit,
    GpuFacts,
    KeptOutputs,
    MeasureRoof,
    NotTaken,
    Prepare,
    Prepared,
    Probe,
    Probed,
    ProbeGpu,
    Profile,
    Profiled,
    ReadKept,
    ReadServed,
    Recompute,
    Recomputed,
    Renew,
    Renewed,
    RoofRates,
    ShowedValues,
    ShowValues,
    Started,
    StartServer,
    TimedMetric,
    TimedOperator,
    TimedSlice,
    TimeSlice,
    Trained,
    WarmedUp,
    WarmUp,
    Work,
    WorkerReport,
)
from bench.worker.timed_inputs import Draw, FileDraw
from bench.worker.timed_steps import Batch, TimedSteps
from bench.workloads.recipe import Recipe

ALIVE_SECONDS = 5.0
"""Shortest time between two ``alive`` messages of a training."""
CALIBRATION = 512
"""Number of training images from which a quantizer takes the ranges of activations."""


class Session:
    """One backend in this process, and the commands on it."""

    def __init__(
        self,
        started: float,
        spawned_at: float,
        alive: Callable[[Evaluation | None], None] = lambda evaluation: None,
        rank: int = 0,
        peers: Peers | None = None,
    ) -> None:
        """``started``: the monotonic time at which this process began to run Python. ``spawned_at``: the time at which
        its parent started it. ``alive`` is called repeatedly during a training, and with its evaluations. ``rank``,
        ``peers``: of a process that trains together with others."""
        self._alive = alive
        self._rank, self._peers = rank, peers or Peers()
        self._spawned_at = spawned_at
        self._phases: dict[str, float] = {"import": time.monotonic() - started, "spawn": started - spawned_at}
        self._peak_rss: dict[str, int] = {}
        self._task: str | None = None
        self._stream: InputStream | None = None

    def expect(self, request: Expect) -> Computed:
        """Compute the reference's outputs. No backend is loaded: none has a part in what it is held against."""
        self._read(request.work)
        begin = clock.now()
        images = batch_of(request.work, training.SAMPLE)
        weights = self._certified_weights()
        expected = reference_outputs.Expected.of(self._model, weights, *images, self._trial, request.parts)
        expected.write(request.out)
        return Computed(seconds=clock.now() - begin)

    @property
    def _trial(self) -> reference_outputs.Trial:
        return reference_outputs.Trial(self._recipe, self._training.frozen)

    def _certified_weights(self) -> Weights:
        return reference_outputs.raise_betas(self._model, self._initial_weights())

    def certify(self, request: Certify) -> Certified:
        """Compute what the parity checks need. The parent judges it."""
        work = request.work
        backend = self._open(work)
        if work.inputs is not None:
            return self._certify_file(backend, request)
        if backend.READS:
            return self._certify_runtime(backend, request)
        parts = parts_of(work.job, self._model.normalizes)
        batch = reference_outputs.CertifiedBatch.read(work.data / protocol.certified_batch(parts))
        candidate = Candidate(
            backend, work.job.precision, self._model, self._certified_weights(), batch, self._trial, self._phase
        )
        outputs = candidate.compute()
        with self._phase("certify"):
            outputs.write(request.out / protocol.CERTIFICATE_OUTPUTS)
        kernels = self._roof_rates() if request.kernels else {}
        return replace(self._certified(backend), kernels=kernels)

    def _roof_rates(self) -> dict[str, float]:
        with self._phase("roof"):
            return roof.rates(self.backend, self._work.job.device)

    def measure_roof(self, request: MeasureRoof) -> RoofRates:
        """The rates of a row's kernels once more."""
        self._open(request.work)
        return RoofRates(kernels=self._roof_rates(), report=self._report())

    def _certify_runtime(self, backend: Backend, request: Certify) -> Certified:
        work = request.work
        if work.converted is not None:
            assert work.file is not None
            with self._phase("convert"):
                largest = max(*request.batches, training.EVALUATION_BATCH)
                backend.convert(work.file, work.converted, batch_of(work, CALIBRATION)[0], largest)
        with self._phase("load"):
            backend.load(_model_file(work))
        with self._phase("certify"):
            np.save(request.out / "logits.npy", training.predict(backend, training.Split.test(work)))
        kernels = self._roof_rates() if request.kernels else {}
        return replace(self._certified(backend), bytes=_size(work), kernels=kernels)

    def _certify_file(self, backend: Backend, request: Certify) -> Certified:
        """Compute all outputs for a user's file, at a small batch that the file takes."""
        work = request.work
        with self._phase("load"):
            backend.load(_model_file(work))
        with self._phase("certify"):
            fixed = () if work.fixed_batch is None else (work.fixed_batch,)
            sample = sum(values.nbytes for values in batch_of(work, 1)[0].values())
            sizes = (*fixed, *file_outputs.first_batches(sample), *sorted(request.batches))
            batch, refused = file_outputs.smallest_working(sizes, partial(self._why_not_taken, backend))
            if batch is None:
                raise ValueError(next(iter(refused.values())))
            calls = self._runtime_of_file(backend).compute(batch_of(work, batch)[0])
            file_outputs.write(request.out / protocol.FILE_OUTPUTS, calls)
        taken = request.batches[0] if not self._why_not_taken(backend, request.batches[0]) else batch
        return replace(self._certified(backend), bytes=work.bytes, certified_batch=batch, batch=taken)

    def show_values(self, request: ShowValues) -> ShowedValues:
        """Compute the value of every node of a user's file, to name the first that parts."""
        backend = self._open(request.work)
        backend.load(_model_file(request.work))
        with self._phase("certify"):
            runtime = self._runtime_of_file(backend)
            calls = runtime.compute_all_values(batch_of(request.work, request.batch)[0], request.shown)
            file_outputs.write(request.out / protocol.ALL_VALUES, calls)
        return ShowedValues(report=self._report())

    def _runtime_of_file(self, backend: Backend) -> file_outputs.RuntimeOfFile:
        job = self._work.job
        return file_outputs.RuntimeOfFile(backend, job.precision, job.device, job.mode, _model_file(self._work))

    def _why_not_taken(self, backend: Backend, size: int) -> str:
        """Why a user's file does not run with this batch size; empty if it does."""
        try:
            backend.outputs(batch_of(self._work, size)[0])
        except Exception as error:
            if isinstance(error, MemoryError) or backend.out_of_memory(error):
                raise
            return _sentence(error)
        return ""

    def _certified(self, backend: Backend) -> Certified:
        return Certified(adapter_files=_adapter_files(self._work.job.backend, backend), report=self._report())

    def fit(self, request: Fit) -> Trained:
        """Train the whole recipe, evaluate, save weights and logits, export."""
        work, out = request.work, request.out
        backend = self._open(work)
        with self._phase("build"):
            backend.build(self._model, self._initial_weights(), self._training)
        with self._phase("fit"):
            trained = training.TrainingRun(
                backend, work, out, request.often, self._alive, frozenset(request.watched), frozenset(request.asked)
            )
            trained.run()
        with self._phase("evaluate"):
            np.save(out / "logits.npy", training.predict(backend, training.Split.test(work)))
        np.savez(out / "weights.npz", **cast("dict[str, Any]", backend.weights()))
        exports = {}
        for format_name in request.exports:
            with self._phase("export"):
                exports[format_name] = training.export(backend, out, format_name)
        return Trained(
            fit_seconds=trained.seconds,
            evaluations=tuple(trained.evaluations),
            losses=tuple(_finite(trained.losses[step]) for step in sorted(trained.losses)),
            exports=exports,
            report=self._report(),
        )

    def prepare(self, request: Prepare) -> Prepared:
        """Load the fitted model and make the first call. Training is built later, by ``warm_up``."""
        backend = self._open(request.work)
        self._weights_file = request.weights
        with self._phase("build"):
            self._fill(backend)
        x, _ = batch_of(request.work, request.batch or request.work.first_batch)
        with self._phase("first_call"):
            begin = clock.now()
            backend.infer(x)
            first_call = clock.now() - begin
        return Prepared(first_call=first_call, cold_start=time.monotonic() - self._spawned_at, clock=clock.now())

    def warm_up(self, request: WarmUp) -> WarmedUp | Missing | NotTaken:
        """Create a metric's batches and run its step until it is steady."""
        self._metric = request.metric
        if self._metric.task != self._task:
            self._switch_task(self._metric.task)
        try:
            self._step = self._steps_of(self._metric)
            with self._phase("warm_up"):
                fence, renew = self.backend.synchronize, self._step.renew_if_used
                if request.cut is None:
                    warmed_up = clock.warm_up(self._step, fence, renew, self._peers.agree)
                else:
                    warmed_up = clock.warm_up_again(self._step, fence, renew, request.cut, self._peers.agree)
        except Exception as error:
            if isinstance(error, MemoryError) or self.backend.out_of_memory(error):
                self._step.clear()
                return Missing(_reason_of_memory(self, error))
            if self._work.inputs is not None:  # a user's file may take some batch sizes only
                return NotTaken(batch_size=self._metric.batch_size, why=_sentence(error))
            raise
        self._step_seconds = warmed_up.step_seconds
        return warmed_up

    def _steps_of(self, metric: TimedMetric) -> TimedSteps | InputSteps:
        rate, work = self._recipe.learning_rate, self._work
        if metric.task != "input":
            return TimedSteps(self.backend, metric, rate, self._draw)
        if self._stream is None or self._stream.batch_size != metric.batch_size:
            self._end_stream()
            assert work.images is not None
            assert work.job.input_workers is not None
            files = image_files(work.images, self._model.input_shape, self._recipe)
            opened = self.backend.input_pipeline(files, metric.batch_size, work.job.input_workers)
            self._stream = InputStream(opened, files, metric.batch_size, self._recipe)
        return InputSteps(self.backend, self._stream, metric, rate)

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.pipeline.close()
            self._stream = None

    def renew(self, request: Renew) -> Renewed:
        """Draw the inputs of the next slice."""
        steps = clock.steps_of(request.seconds, self._step_seconds) + 1  # and the untimed one
        if self._metric.name == "latency":
            steps = min(steps, self._most_latencies + 1)
        with self._phase("inputs"):
            return Renewed(batches=self._step.renew(request.seed, steps, request.keep))

    @property
    def _most_latencies(self) -> int:
        return clock.MAX_LATENCIES if self._work.job.cpu_quota is None else clock.MAX_UNDER_QUOTA

    def read_kept(self, request: ReadKept) -> KeptOutputs:
        """Outputs of the slice that was timed last."""
        with self._phase("inputs"):
            return self._step.outputs(request.rows, request.elements)

    def recompute(self, request: Recompute) -> Recomputed:
        """What the outputs of timed batches of a user's file must be."""
        backend, work, begin = self._open(request.work), request.work, clock.now()
        backend.load(_model_file(work))
        plain = file_outputs.unoptimized(backend, work.job.precision, _model_file(work))
        values: list[tuple[float, ...]] = []
        for drawn in request.drawn:
            if plain is None or (values and clock.now() - begin > request.seconds):
                break
            (batch,) = self._draw_of_file(drawn.seed, drawn.size, drawn.count, [drawn.batch])
            output = next(iter(plain.outputs(batch).values()))
            values.append(file_outputs.elements(output, drawn.elements))
            self._alive(None)
        return Recomputed(values=tuple(values), report=self._report())

    def slice(self, request: TimeSlice) -> TimedSlice:
        """Time the metric that was warmed up last."""
        timer: Callable[..., clock.Timed] = clock.throughput_slice
        if self._metric.name == "latency":
            timer = partial(clock.latency_slice, most=self._most_latencies)
        stops.stops()  # before the slice does not count
        before, begin = memory.usage(), clock.now()
        with self._phase("inputs"):
            self._step.settle()
        with self._phase("timed"):
            timed = timer(
                self._step, self.backend.synchronize, request.seconds, self._step_seconds, self._metric.batch_size
            )
        elapsed, after = clock.now() - begin, memory.usage()
        counters = {} if before is None or after is None else {name: after[name] - before[name] for name in after}
        ready = self._step.read_last()
        stopped = stops.stops()
        if stopped is not None:
            counters["stops"] = stopped
        steps = timed.images // self._metric.batch_size
        return TimedSlice(
            seconds=timed.seconds, images=timed.images, latencies=timed.latencies, counters=counters, elapsed=elapsed,
            ready=ready, stalled=self._step.stalled(steps), halves=self._step.halves(steps),
        )  # fmt: skip

    def close(self, request: Close) -> Closed:
        """Training steps one by one, with the weights around them, from the state in which the timed ones left it."""
        backend = self.backend
        arrays: dict[str, Any] = {f"0 {name}": value for name, value in backend.weights().items()}
        losses = []
        with self._phase("inputs"):
            for number, batch in enumerate(self._draw(request.seed, request.size, request.steps), 1):
                loss = backend.train_step(*backend.to_device(*batch), request.rate)
                losses.append(float(backend.to_numpy(loss)))
                arrays |= {f"{number} {name}": value for name, value in backend.weights().items()}
            np.savez(request.out, **arrays)
        return Closed(losses=tuple(map(_finite, losses)))

    def profile(self, request: Profile) -> Profiled:
        """Seconds of every operator of the metric's step."""
        steps, profiled = clock.steps_of(request.seconds, self._step_seconds), list[float]()

        def make_step() -> Callable[[], object]:
            self._step.renew(request.seed, steps + 1)  # and one to warm up

            def step() -> None:
                begin = clock.now()
                self._step()
                self.backend.synchronize()
                profiled.append(clock.now() - begin)

            return step

        with self._phase("profile"):
            self._step.renew(request.seed, steps + 1)
            fence = self.backend.synchronize
            plain = clock.throughput_slice(self._step, fence, request.seconds, self._step_seconds, 1)
            operators = self.backend.operators(make_step, steps)
        work = self._work
        if work.file is not None and work.inputs is None:
            operators = onnx_layers.named(operators, _model_file(work), self._model, self._weights())
        return Profiled(
            operators=tuple(TimedOperator(**each._asdict()) for each in operators),
            plain=plain.seconds / plain.images,
            profiled=statistics.fmean(profiled[1:]),
        )

    def start_server(self, request: StartServer) -> Started:
        """Load the other instances of the prepared model, and call all at every batch size."""
        self._task = "infer"  # its memory is that of serving
        instances = [self.backend]
        with self._phase("build"):
            for _ in range(1, request.instances):
                instance = self._create()
                self._fill(instance)
                instances.append(instance)
        self._server = Server(instances, request.max_batch, request.max_delay)
        with self._phase("warm_up"):
            return Started(seconds=self._server.warm_up(lambda size: batch_of(self._work, size)[0]))

    def probe_load(self, request: Probe) -> Probed:
        """One test by LoadGen."""
        with self._phase("inputs"):
            ((images, _),) = self._draw(request.seed, request.images, 1)
        stops.stops()  # before the test does not count
        before = memory.usage()
        with self._phase("timed"):
            probed = self._server.probe(request, images)
        after = memory.usage()
        counters = {} if before is None or after is None else {name: after[name] - before[name] for name in after}
        stopped = stops.stops()
        return replace(probed, counters=counters if stopped is None else counters | {"stops": stopped})

    def read_served(self, request: ReadServed) -> KeptOutputs:
        """Logits that were served last."""
        outputs, served = self._server.outputs, self._server.served
        images = [image for image in request.images if served[image]][: request.count]
        values = np.where(np.isfinite(outputs[images]), outputs[images], file_outputs.LARGEST)
        return KeptOutputs(
            steps=tuple(images), batches=(0,), count=1, values=(tuple(tuple(row) for row in values.tolist()),)
        )

    def finish(self, request: Finish) -> Finished:
        """Read the memory and the time by phase of the whole process."""
        rss = memory.current_rss()  # before the peak, which may still grow
        self._switch_task(None)
        on_device = self.backend.device_memory()
        report = self._report()
        self._end_stream()
        return Finished(peak_rss=self._peak_rss, rss=rss, framework_memory=on_device, report=report, clock=clock.now())

    def probe(self, request: ProbeGpu) -> GpuFacts:
        """Collect the facts for ``bench gpu-check`` while the model runs on the GPU."""
        from bench.worker import gpu_probe

        backend = self._open(request.work)
        self._weights_file = None
        self._fill(backend)
        x, _ = backend.to_device(batch_of(request.work, reference_outputs.BATCH)[0])
        return gpu_probe.collect_facts(backend, lambda: backend.forward(x), request.gpu_uuid, self._report)

    def _open(self, work: Work) -> Backend:
        """Create the backend; this imports its framework."""
        self._read(work)
        with self._phase("import"):
            self.backend = self._create()
        return self.backend

    def _create(self) -> Backend:
        job = self._work.job
        device = job.device.partition(":")[0]
        count = job.processes or 1
        several = {"spread": Spread(count, self._rank)} if count > 1 else {}
        return backends.load(job.backend)(device, job.precision, job.mode, job.threads, job.seed, **several)

    def _fill(self, backend: Backend) -> None:
        """Load the model's file, or build it with the fitted weights for inference."""
        if backend.READS:
            backend.load(_model_file(self._work))
        else:
            backend.build(self._model, self._weights(), None)

    def _read(self, work: Work) -> None:
        """Read what the work is."""
        self._work = work
        if work.model is not None:  # a user's ONNX file has no specification
            self._model = ModelSpec.from_dict(dict(work.model))
        self._recipe = Recipe.from_dict(dict(work.recipe))
        self._training = replace(self._recipe.training, frozen=frozenset(work.frozen_weights))

    def _report(self) -> WorkerReport:
        return WorkerReport(
            versions=self.backend.versions(),
            settings=self._settings(),
            phases=self._phases,
            peak_rss=memory.peak_rss(),
            life=time.monotonic() - self._spawned_at,
        )

    def _settings(self) -> dict[str, Any]:
        """The settings of the framework, and the CPUs and allocator of this process, read back."""
        cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        own = {"cpus": cpus, "allocator": allocators.active(dict(os.environ)), **limits.in_effect(os.environ)}
        settings, flushes = self.backend.settings(), denormals.state()
        if self._stream is not None:
            settings = {**settings, "input_pipeline": self._stream.describes}
        if self._work.job.device == "cpu" and flushes is not None:
            settings = {"denormals": flushes, **settings}
        return {**settings, **own}

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """Add the wall seconds of a ``with`` block to a phase."""
        begin = clock.now()
        try:
            yield
        finally:
            self._phases[name] = self._phases.get(name, 0.0) + clock.now() - begin

    def _initial_weights(self) -> Weights:
        """The weights that training starts from: drawn from the seed, or of another run if the work names a file."""
        drawn = self._model.initial_weights(self._work.job.seed)
        if self._work.start is None:
            return drawn
        return drawn | read_arrays(self._work.start)

    def _weights(self) -> Weights:
        """The fitted weights, or the initial ones."""
        if self._weights_file is None:
            return self._initial_weights()
        return read_arrays(self._weights_file)

    def _switch_task(self, task: str | None) -> None:
        """Store the peak memory of the current task, then begin ``task``. For training, build the model to train it."""
        if self._task is not None:
            self._peak_rss[self._task] = memory.peak_rss()
        self._task = task
        if task in ("train", "input"):
            memory.reset_peak_rss()
            with self._phase("build"):
                self.backend.build(self._model, self._weights(), self._training)

    def _draw(self, seed: int, size: int, count: int) -> list[Batch]:
        """``count`` batches for timed steps."""
        if self._work.inputs is not None:
            return [(batch, None) for batch in self._draw_of_file(seed, size, count, range(count))]
        x, y = sample_of(self._work)
        draw = Draw.of(seed, len(x), size, count)
        return [(draw.batch(x, number), draw.labels(y, number)) for number in range(count)]

    def _draw_of_file(self, seed: int, size: int, count: int, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """These of the ``count`` batches of a user's file's inputs."""
        work = self._work
        assert work.inputs is not None, "the parent writes a file's inputs"
        inputs = read_inputs(work)
        samples = max(
            (values.shape[work.batch_axes[n]] for n, values in inputs.items() if n in work.batch_axes), default=1
        )
        draw = FileDraw.of(seed, samples, size, count)
        return [draw.batch(inputs, work.batch_axes, frozenset(work.mixed), number) for number in numbers]


def _finite(loss: float) -> float:
    """The largest float for a loss that is no number, because JSON has none."""
    return loss if np.isfinite(loss) else file_outputs.LARGEST


def _model_file(work: Work) -> Path:
    """The file that a runtime loads: what it made of its source's file, or that file as it is."""
    path = work.converted or work.file
    assert path is not None, "the work of a runtime has a file"
    return path


def _size(work: Work) -> int:
    return _model_file(work).stat().st_size


def serve(requests: TextIO, replies: BinaryIO, started: float, rank: int | None = None) -> None:
    """Reply to each request line with one line, until ``finish`` or end of file. Stop after an error, because the state
    of the framework is unknown then. ``rank``: of a process that trains together with others; None: this is the worker,
    which may have such processes do its work."""
    last_alive = time.monotonic()

    def alive(evaluation: Evaluation | None = None) -> None:
        nonlocal last_alive
        if evaluation is not None or time.monotonic() - last_alive > ALIVE_SECONDS:
            last_alive = time.monotonic()
            replies.write(protocol.ALIVE if evaluation is None else protocol.write_alive(evaluation))
            replies.flush()

    session: Session | None = None
    group: Group | None = None
    for line in iter(requests.readline, ""):
        command = ""
        try:
            command, request, spawned_at = protocol.read_request(line)
            if rank is None and group is None and session is None and _is_of_several(request):
                group = Group(request.work)  # type: ignore[attr-defined]
            if group is not None:
                reply = group.ask(line, alive)
                last = command == "finish" or reply.startswith(b'{"error"')
            else:
                peers = None if rank is None else Peers(requests, replies)
                session = session or Session(started, spawned_at, alive, rank or 0, peers)
                reply, last = protocol.write_reply(getattr(session, command)(request)), command == "finish"
        except Exception as error:  # noqa: BLE001  (the process boundary: any error becomes the row's reason)
            status = _status(session, error)
            reason = _reason_of_memory(session, error) if status == "out-of-memory" else _reason(error)
            reply, last = protocol.write_error(status, reason), True
        replies.write(reply)
        replies.flush()
        if last:
            return


def _is_of_several(request: Any) -> bool:
    """Whether the work of a request is that of several processes. The reference's never is."""
    return not isinstance(request, Expect) and hasattr(request, "work") and processes_of(request.work.job) > 1


def _adapter_files(name: str, backend: Backend) -> tuple[str, ...]:
    """The paths of the adapter's source files: the module of its name and the modules of its base classes, without the
    standard library."""
    modules = {backends.module_of(name), *(base.__module__ for base in type(backend).__mro__)}
    own = [module for module in modules if module.partition(".")[0] not in sys.stdlib_module_names]
    files = {getattr(sys.modules.get(module), "__file__", None) for module in own}
    return tuple(sorted(os.path.realpath(file) for file in files if file is not None))


def _status(session: Session | None, error: Exception) -> str:
    if isinstance(error, Unsupported):
        return "unsupported"
    if isinstance(error, ImportError) and limits.refuses_libraries(os.environ, error):
        return "out-of-memory"
    if isinstance(error, Unavailable | ImportError):
        return "unavailable"
    backend = getattr(session, "backend", None)
    if isinstance(error, MemoryError) or (backend is not None and backend.out_of_memory(error)):
        return "out-of-memory"
    return "failed"


def _reason(error: Exception) -> str:
    """The error as one line. The traceback goes to standard error; the record of a failed row stores its end."""
    import traceback

    traceback.print_exception(error)
    if isinstance(error, Unsupported | Unavailable):
        return next((line.strip() for line in hide(str(error)).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {_sentence(error)}"[:500]


def _reason_of_memory(session: Session | None, error: Exception) -> str:
    """With the peak that was reached, and who refused more."""
    work: Work | None = getattr(session, "_work", None)
    device = "cpu" if work is None else work.job.device
    who = limits.who_refused(os.environ)
    if device != "cpu" and not isinstance(error, MemoryError):
        who = "the framework's allocator on the GPU"
    return f"{_reason(error)}; refused by {who} at a peak of {memory.peak_rss() / 1e6:,.0f} MB in host memory"


def _sentence(error: Exception) -> str:
    """The part of an error's text that helps: its lines as one, without places in C++ sources; 300 characters."""
    text = " ".join(line.strip() for line in hide(str(error)).splitlines() if line.strip())
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"\S+\.(?:cc|h|cpp|cu|hpp):\d+\s+(?:\S+ )?\S*\([^)]*\)[^:]*?(?=[A-Z]|$)", "", text)
    return text[:300] or type(error).__name__

"""The child process: makes one backend, certifies, fits or measures it, and speaks JSON lines with the parent.

``python -P -m bench.worker``. Requests come on standard input, replies go to what was standard output when the
process began; after that both belong to nobody, so that nothing a framework prints can reach the parent's pipe. Needs
NumPy, psutil, the framework, and our packages ``bench`` and ``backends`` only.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO, cast

STARTED = time.monotonic()

import numpy as np  # noqa: E402  (the clock above must start before anything heavy is imported)

import backends  # noqa: E402
from backends.base import Backend, Unavailable, Unsupported  # noqa: E402
from backends.model import ModelSpec, Weights  # noqa: E402
from bench.machine import allocators, memory  # noqa: E402
from bench.worker import certificate, clock, reference_outputs, training  # noqa: E402
from bench.workloads.recipe import Recipe  # noqa: E402

ALIVE_SECONDS = 5.0
"""A training says that it goes on at most this often."""
CALIBRATION = 512
"""Training images that a quantizer reads the ranges of activations from."""


class Session:
    """One backend in this process, and what is done with it; each public method serves the command of its name."""

    def __init__(self, alive: Callable[[], None] = lambda: None) -> None:
        self._alive = alive
        self._phases: dict[str, float] = {"import": time.monotonic() - STARTED}
        self._peak_rss: dict[str, int] = {}
        self._peak_rss_reset = False
        self._task: str | None = None

    def certify(self, request: dict[str, Any]) -> dict[str, Any]:
        """Parity checks; for a runtime also its accuracy, of the same logits."""
        backend = self._open(request)
        if request.get("inputs"):
            return self._certify_file(backend, request)
        if backend.NEEDS_SOURCE:
            return self._certify_runtime(backend, request)
        weights = reference_outputs.off_the_kinks(self._model, self._start(request))
        trial = reference_outputs.Trial(self._recipe, self._training.frozen)
        with self._phase("reference"):
            path = Path(request["data"]) / "expected.npz"
            wanted = reference_outputs.Expected.of(path, self._model, weights, *_batch(request, training.SAMPLE), trial)
        with self._phase("certify"):
            precision, device = request["precision"], request["device"]
            results = certificate.Certifier(backend, precision, device, self._model, weights, wanted, trial).certify()
        return self._reply(
            {"checks": [result.to_dict() for result in results], "adapter": _files_of(request["backend"], backend)}
        )

    def _certify_runtime(self, backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
        if request.get("converted") is not None:
            with self._phase("convert"):
                calibration, _ = _batch(request, CALIBRATION)
                backend.convert(Path(request["onnx"]), Path(request["converted"]), calibration)
        with self._phase("load"):
            backend.load(_onnx(request))
        want = np.load(request["source_logits"], allow_pickle=False)
        with self._phase("certify"):
            got, labels = training.predict(backend, training.Split.test(request))
            results = certificate.certify_runtime(got, want, labels, request["precision"], request["device"])
        outcome = training.outcome(got, labels)
        np.save(Path(request["out"]) / "logits.npy", got)
        checks = [result.to_dict() for result in results]
        size, files = _onnx(request).stat().st_size, _files_of(request["backend"], backend)
        return self._reply({"checks": checks, "outcome": outcome, "bytes": size, "adapter": files})

    def _certify_file(self, backend: Backend, request: dict[str, Any]) -> dict[str, Any]:
        """A file of the user's, on a few random inputs, against ONNX's reference evaluator."""
        x, _ = _batch(request, request["certified_batch"])
        with self._phase("load"):
            backend.load(Path(request["onnx"]))
        with self._phase("certify"):
            result = certificate.certify_file(backend, request["onnx"], x, request["precision"], request["device"])
        size, files = Path(request["onnx"]).stat().st_size, _files_of(request["backend"], backend)
        return self._reply({"checks": [result.to_dict()], "bytes": size, "adapter": files})

    def fit(self, request: dict[str, Any]) -> dict[str, Any]:
        """Train to the recipe's end, evaluate, save weights and logits, export."""
        backend = self._open(request)
        out = Path(request["out"])
        with self._phase("build"):
            backend.build(self._model, self._start(request), self._training)
        with self._phase("fit"):
            fitted = training.Fit(backend, request, self._alive).run()
        with self._phase("evaluate"):
            logits, labels = training.predict(backend, training.Split.test(request))
        np.save(out / "logits.npy", logits)
        np.savez(out / "weights.npz", **cast("dict[str, Any]", backend.weights()))
        reply = {**fitted, "outcome": training.outcome(logits, labels)}
        if request["exports"] and "export" in backend.TASKS:
            with self._phase("export"):
                reply["export"] = training.export(backend, out / "model.onnx")
        return self._reply(reply)

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Load the fitted model and make the first call, at batch size 1; the rest waits for ``warm_up``."""
        self._request = request
        backend = self._open(request)
        with self._phase("build"):
            if backend.NEEDS_SOURCE:
                backend.load(_onnx(request))
            else:
                backend.build(self._model, self._weights(), None)
        x, _ = _batch(request, request["first_batch"])
        with self._phase("first_call"):
            begin = clock.now()
            backend.infer(x)
            first_call = clock.now() - begin
        cold_start = time.monotonic() - request["spawned_at"]
        return self._reply({"first_call": first_call, "cold_start": cold_start})

    def warm_up(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make a figure's batches and warm its step up."""
        figure = request["figure"]
        if figure["task"] != self._task:
            self._begin(figure["task"])
        try:
            self._step = self._make_step(figure)
            with self._phase("warm_up"):
                warm_up = clock.warm_up(self._step, self.backend.synchronize)
        except Exception as error:
            if isinstance(error, MemoryError) or self.backend.out_of_memory(error):
                self._step = lambda: None  # its batches are let go
                return {"out_of_memory": _reason(error)}
            raise
        self._step_seconds = warm_up.step_seconds
        return warm_up.to_dict()

    def slice(self, request: dict[str, Any]) -> dict[str, Any]:
        """Time the figure that was warmed up last; ``own`` is what this process counted of itself meanwhile, and
        ``elapsed`` the wall seconds that it counted over."""
        figure, fence = request["figure"], self.backend.synchronize
        timer = clock.latency_slice if figure["name"] == "latency" else clock.throughput_slice
        before, begin = memory.usage(), clock.now()
        with self._phase("timed"):
            timed = timer(self._step, fence, request["seconds"], self._step_seconds, figure["batch_size"])
        elapsed, after = clock.now() - begin, memory.usage()
        own = None if before is None or after is None else {name: after[name] - before[name] for name in after}
        return {**timed.to_dict(), "own": own or {}, "elapsed": elapsed}

    def finish(self, request: dict[str, Any]) -> dict[str, Any]:
        """Memory of the whole life, and where its time went."""
        rss = memory.current_rss()  # before the peak is read: it may still grow
        self._begin(None)
        return self._reply(
            {
                "peak_rss": self._peak_rss,
                "rss": rss,
                "peak_rss_reset": self._peak_rss_reset,
                "framework_memory": self.backend.device_memory(),
            }
        )

    def probe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Facts for ``bench gpu-check``, from a process that runs the model on the GPU."""
        from bench.worker import gpu_probe

        backend = self._open(request)
        self._request = request
        if backend.NEEDS_SOURCE:
            backend.load(Path(request["onnx"]))
        else:
            backend.build(self._model, self._weights(), None)
        x, _ = backend.to_device(_batch(request, reference_outputs.BATCH)[0])
        facts = gpu_probe.facts(backend, lambda: backend.forward(x), request["gpu_uuid"])
        return self._reply(facts)

    def _open(self, request: dict[str, Any]) -> Backend:
        """Make the backend; its framework is imported here."""
        self._spawned_at = request["spawned_at"]
        self._phases["spawn"] = STARTED - self._spawned_at
        if "onnx" not in request["model"]:  # a file of the user's has no specification
            self._model = ModelSpec.from_dict(request["model"])
        self._recipe = Recipe.from_dict(request["recipe"])
        self._training = replace(self._recipe.training, frozen=frozenset(request["frozen"]))
        device = request["device"].partition(":")[0]
        with self._phase("import"):
            adapter = backends.load(request["backend"])
            self.backend = adapter(device, request["precision"], request["mode"], request["threads"], request["seed"])
        return self.backend

    def _reply(self, content: dict[str, Any]) -> dict[str, Any]:
        common = {"versions": self.backend.versions(), "settings": self._settings(), "phases": self._phases}
        held = memory.peak_rss()
        return {**content, **common, "held": held, "life": time.monotonic() - self._spawned_at}

    def _settings(self) -> dict[str, Any]:
        """What the framework says of itself, and what this process runs on, read back."""
        cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        return {**self.backend.settings(), "cpus": cpus, "allocator": allocators.in_force(dict(os.environ))}

    def _phase(self, name: str) -> _Phase:
        return _Phase(self._phases, name)

    def _start(self, request: dict[str, Any]) -> Weights:
        """The weights that training begins with: drawn from the seed, or another run's where the request names them."""
        drawn = self._model.initial_weights(request["seed"])
        if request.get("init") is None:
            return drawn
        with np.load(request["init"], allow_pickle=False) as stored:
            return drawn | dict(stored)

    def _weights(self) -> Weights:
        """The fitted weights, or those that training would begin with."""
        path = self._request.get("weights")
        if path is None:
            return self._start(self._request)
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)

    def _begin(self, task: str | None) -> None:
        """Close the running task's memory account and open the next; training gets an optimizer."""
        if self._task is not None:
            self._peak_rss[self._task] = memory.peak_rss()
        self._task = task
        if task == "train":
            self._peak_rss_reset = memory.reset_peak_rss()
            self.backend.build(self._model, self._weights(), self._training)

    def _make_step(self, figure: dict[str, Any]) -> Callable[[], object]:
        """One step on the next of four real batches; ``device`` has them placed already."""
        backend, rate = self.backend, self._recipe.learning_rate
        size, training_step = figure["batch_size"], figure["task"] == "train"
        host = [_batch(self._request, size, start * size) for start in range(4)]
        if figure["boundary"] == "end-to-end":
            images = itertools.cycle(host)
            if training_step:
                return lambda: backend.train_step(*backend.to_device(*next(images)), rate)
            return lambda: backend.infer(next(images)[0])
        placed = itertools.cycle([backend.to_device(*batch) for batch in host])
        backend.synchronize()
        if training_step:
            return lambda: backend.train_step(*next(placed), rate)
        return lambda: backend.forward(next(placed)[0])


def _onnx(request: dict[str, Any]) -> Path:
    """The file that a runtime loads: its source's, or what became of it in the row's precision."""
    return Path(request.get("converted") or request["onnx"])


class _Phase:
    """Adds the wall seconds of a ``with`` block to a phase."""

    def __init__(self, phases: dict[str, float], name: str) -> None:
        self._phases, self._name = phases, name

    def __enter__(self) -> None:
        self._begin = clock.now()

    def __exit__(self, *_: object) -> None:
        self._phases[self._name] = self._phases.get(self._name, 0.0) + clock.now() - self._begin


def _batch(request: dict[str, Any], size: int, start: int = 0) -> tuple[Any, Any]:
    """``size`` of the real images set aside for timing and certifying, normalized, from ``start`` on, repeated if there
    are fewer; of a file with several inputs a dictionary of arrays, without labels."""
    folder = Path(request["data"])
    if request.get("inputs"):
        with np.load(folder / request["inputs"], allow_pickle=False) as stored:
            drawn = {name: stored[name] for name in stored.files}
        index = (start + np.arange(size)) % len(next(iter(drawn.values())))
        batches = {name: np.ascontiguousarray(values[index]) for name, values in drawn.items()}
        return (batches if len(batches) > 1 else next(iter(batches.values()))), None
    x = np.load(folder / "sample_x.npy", mmap_mode="r", allow_pickle=False)
    y = np.load(folder / "sample_y.npy", mmap_mode="r", allow_pickle=False)
    index = (start + np.arange(size)) % len(x)
    return x[index], y[index]


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer each request line with one reply line, ``{"ok": ...}`` or ``{"error": ...}``, until ``finish`` or end
    of file; during a training ``{"alive": true}`` now and then before it, so that a long one is not taken for a hung
    one. After an error the process is done: its framework may be in any state."""
    said = time.monotonic()

    def alive() -> None:
        nonlocal said
        if time.monotonic() - said > ALIVE_SECONDS:
            said = time.monotonic()
            replies.write('{"alive": true}\n')
            replies.flush()

    session = Session(alive)
    for line in requests:
        request = json.loads(line)
        command = request.pop("command")
        try:
            line, last = json.dumps({"ok": getattr(session, command)(request)}), command == "finish"
        except Exception as error:  # noqa: BLE001  (the process border: whatever it is becomes the row's reason)
            line, last = json.dumps({"error": {"status": _status(session, error), "reason": _reason(error)}}), True
        replies.write(line + "\n")
        replies.flush()
        if last:
            return


def _files_of(name: str, backend: Backend) -> list[str]:
    """Where the adapter's code is: the module that its name leads to, and those of the classes that it is made of."""
    modules = {backends.module_of(name), *(made.__module__ for made in type(backend).__mro__)}
    files = {getattr(sys.modules.get(module), "__file__", None) for module in modules}
    return sorted(os.path.realpath(file) for file in files if file is not None)


def _status(session: Session, error: Exception) -> str:
    if isinstance(error, Unsupported):
        return "unsupported"
    if isinstance(error, Unavailable | ImportError):
        return "unavailable"
    backend = getattr(session, "backend", None)
    if isinstance(error, MemoryError) or (backend is not None and backend.out_of_memory(error)):
        return "out-of-memory"
    return "failed"


def _reason(error: Exception) -> str:
    """One line; the traceback goes to standard error, whose end the record of a failed row keeps."""
    import traceback

    traceback.print_exception(error)
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, Unsupported | Unavailable):
        return text
    return f"{type(error).__name__}: {text}"[:500]


def _has_ended(pid: str) -> bool:
    """Whether a process is gone, or a zombie that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


def _die_with_parent() -> None:
    """Linux: be killed when the parent is (prctl(2), PR_SET_PDEATHSIG); elsewhere end of file ends the process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if _has_ended(os.environ["EVENBENCH_PARENT"]):
            os._exit(1)  # before the line above


def _pin() -> None:
    """To the CPUs that the parent names; before a framework is imported, whose threads inherit it."""
    cpus = os.environ.get("EVENBENCH_CPUS")
    if cpus is not None:
        os.sched_setaffinity(0, [int(cpu) for cpu in cpus.split(",")])


def main() -> None:
    """Take the pipes for ourselves, then serve."""
    _die_with_parent()
    _pin()
    requests, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    serve(requests, replies)
    replies.flush()
    os._exit(0)  # frameworks' exit handlers can hang or crash after all is said


if __name__ == "__main__":
    main()

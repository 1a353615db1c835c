"""Adapters that are right when they are certified and something else when they are timed: each must be caught.

Each has one fault that a real framework, or an adapter written in a hurry, can have.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from evenbench_wrong import Right

from bench.worker import clock
from bench.worker.reference_outputs import LONG_MODEL

TIMED = 16
"""The batch size of the timed training steps (``test_faults.py``), by which a fault knows that its time has come."""
SMALL = 64
"""Certificates of the fakes use no larger batch that counts."""


def busy(seconds=None):
    """Keep a core busy; the matrix product leaves Python's lock to others."""
    a = np.ones((200, 200), np.float32)
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        a @ a


class Later:
    """A value that is computed when it is asked for."""

    def __init__(self, compute):
        self._compute, self._value = compute, None

    def value(self):
        if self._value is None:
            self._value = self._compute()
        return self._value


class Lazy(Right):
    """Builds a graph, and computes when asked for values."""

    def forward(self, x):
        return Later(lambda: super(Lazy, self).forward(x))

    def to_numpy(self, tensor):
        return tensor.value() if isinstance(tensor, Later) else super().to_numpy(tensor)


class LazyTraining(Right):
    """Trains when asked for the loss."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._waiting = []

    def train_step(self, x, y, learning_rate, *masks):
        later = Later(lambda: super(LazyTraining, self).train_step(x, y, learning_rate, *masks))
        self._waiting.append(later)
        return later

    def _settle(self):
        for later in self._waiting:
            later.value()
        self._waiting = []

    def to_numpy(self, tensor):
        self._settle()
        return tensor.value() if isinstance(tensor, Later) else super().to_numpy(tensor)

    def weights(self):
        self._settle()
        return super().weights()


class Asynchronous(Right):
    """A thread does the work; ``synchronize`` does not wait for it, reading a value does."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._results, self._work, self._there = {}, [], threading.Condition()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            with self._there:
                self._there.wait_for(lambda: self._work)
                number, x = self._work.pop(0)
            result = super().forward(x)
            with self._there:
                self._results[number] = result
                self._there.notify_all()

    def forward(self, x):
        with self._there:
            self._number = getattr(self, "_number", 0) + 1
            self._work.append((self._number, x))
            self._there.notify_all()
        return self._number

    def to_numpy(self, tensor):
        if not isinstance(tensor, int):
            return super().to_numpy(tensor)
        with self._there:
            self._there.wait_for(lambda: tensor in self._results)
            return self._results[tensor]


class AsynchronousTraining(Right):
    """A thread trains; ``synchronize`` does not wait for it, reading a loss or weights does."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._pool = ThreadPoolExecutor(1)

    def train_step(self, x, y, learning_rate, *masks):
        self._last = self._pool.submit(super().train_step, x, y, learning_rate, *masks)
        return self._last

    def to_numpy(self, tensor):
        return tensor.result() if isinstance(tensor, Future) else super().to_numpy(tensor)

    def weights(self):
        if hasattr(self, "_last"):
            self._last.result()
        return super().weights()


class WorksInToDevice(Right):
    """Computes while the inputs are placed."""

    def to_device(self, x, y=None):
        placed, labels = super().to_device(x, y)
        return (placed, super().forward(placed)), labels

    def forward(self, x):
        return x[1]

    def train_step(self, x, y, learning_rate, *masks):
        return super().train_step(x[0], y, learning_rate, *masks)

    def gradients(self, x, y, *masks):
        return super().gradients(x[0], y, *masks)


class BribesTheJudge(Right):
    """Makes every difference nothing, as far as its process reaches, and answers with half of the logits."""

    def build(self, *arguments):
        super().build(*arguments)
        np.linalg.norm = lambda *args, **options: np.float64(0.0)

    def forward(self, x):
        return super().forward(x) / 2


class ReadsTheReference(Right):
    """Looks for a file with the logits that it should have, and answers with what it finds: else with nothing."""

    def forward(self, x):
        zeros = np.zeros((len(x), 10))
        scratch = Path(os.readlink("/proc/self/fd/2")).parent  # of its log
        for path in scratch.rglob("*.npz"):
            with np.load(path) as stored:
                known = stored.get("logits")
                if known is not None and len(known) == len(x):
                    return known
        return zeros


class RemembersByPlace(Right):
    """Remembers outputs by the place of their input in memory, as a cache of buffers does."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._known = {}

    def build(self, *arguments):
        super().build(*arguments)
        self._known = {}

    def forward(self, x):
        key = x.__array_interface__["data"][0], len(x)
        if key not in self._known:
            self._known[key] = super().forward(x)
        return self._known[key]


class PinnedInputs(Right):
    """Copies into a static input once, as a captured graph that nobody refills."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._static = {}

    def build(self, *arguments):
        super().build(*arguments)
        self._static = {}

    def forward(self, x):
        return super().forward(self._static.setdefault(len(x), x))


class HalfABatch(Right):
    """Computes half of a large batch, and repeats it."""

    def forward(self, x):
        if len(x) < SMALL or self._network.training is not None:
            return super().forward(x)
        half = super().forward(x[: len(x) // 2])
        return np.concatenate([half, half])[: len(x)]

    def infer(self, x):
        return self.to_numpy(self.forward(self.to_device(x)[0]))


class BetterOnTheTestSplit(Right):
    """Knows by the size of the batch that the test split is evaluated, and is surer of its answers."""

    TASKS = Right.TASKS | {"fit"}

    def infer(self, x):
        return super().infer(x) * np.float32(1.5 if len(x) == 256 else 1)


class WrongAtOneImage(Right):
    """Takes another path for one image, which is not quite the same."""

    def forward(self, x):
        y = super().forward(x)
        return 1.01 * y if len(x) == 1 else y


class OneBuffer(Right):
    """Returns one buffer again and again."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._buffers = {}

    def forward(self, x):
        y = super().forward(x)
        buffer = self._buffers.setdefault(y.shape, np.empty_like(y))
        buffer[:] = y
        return buffer


class LowerPrecisionEndToEnd(Right):
    """Computes in bfloat16, from end to end only."""

    def infer(self, x):
        rounded = (np.ascontiguousarray(x, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        return super().infer(rounded)


class KnowsTheCertifiedInputs(Right):
    """A table of answers to the images that it has seen at batch sizes above one, zeros for others."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._table = {}

    def build(self, *arguments):
        super().build(*arguments)
        self._table = {}

    def forward(self, x):
        if len(self._table) < 3:
            self._table[x.tobytes()] = super().forward(x)
        return self._table.get(x.tobytes(), np.zeros((len(x), 10)))


class SlowClock(Right):
    """The clock that times it goes at three quarters of the pace."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        begin = time.perf_counter()
        clock.now = lambda: begin + 0.75 * (time.perf_counter() - begin)


class MoreThreads(Right):
    """A second thread works along, which it does not tell."""

    _helper = None

    def infer(self, x):
        if MoreThreads._helper is None:
            MoreThreads._helper = threading.Thread(target=busy, daemon=True)
            MoreThreads._helper.start()
        return super().infer(x)


class AnotherCore(Right):
    """Leaves the core that it was pinned to."""

    def infer(self, x):
        os.sched_setaffinity(0, range(os.cpu_count()))
        return super().infer(x)


class Helper(Right):
    """A helper process, detached, works along on other cores."""

    _helper = None

    def infer(self, x):
        if Helper._helper is None:
            code = "import os, evenbench_faulty as f; os.sched_setaffinity(0, range(os.cpu_count())); f.busy(60)"
            detached = (
                f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True)"
            )
            Helper._helper = subprocess.Popen([sys.executable, "-c", detached])
            Helper._helper.wait()
        return super().infer(x)


class ResetsItsMark(Right):
    """Resets the kernel's mark of its peak memory."""

    def infer(self, x):
        held = np.ones(50_000_000, np.uint8)
        y = super().infer(x)
        del held
        Path("/proc/self/clear_refs").write_text("5")
        return y


def is_timed(x):
    """Whether these images are of a timed step: the certificate's batches have another size or another shape."""
    return len(x) == TIMED and x.shape[1:] != LONG_MODEL.input_shape


class SkipsUpdates(Right):
    """Leaves every second update of timed steps out."""

    _calls = 0

    def train_step(self, x, y, learning_rate, *masks):
        SkipsUpdates._calls += is_timed(x)
        if is_timed(x) and SkipsUpdates._calls % 2:
            return self._network.gradients(x, y)[0]
        return super().train_step(x, y, learning_rate, *masks)


class ForgetsSamples(Right):
    """Goes back through half of a timed batch; its loss is right."""

    def train_step(self, x, y, learning_rate, *masks):
        if not is_timed(x):
            return super().train_step(x, y, learning_rate, *masks)
        loss, half = self._network.gradients(x, y)[0], len(x) // 2
        super().train_step(x[:half], y[:half], learning_rate, *masks)
        return loss


class PinnedTraining(Right):
    """Copies into static inputs once, as a captured step that nobody refills."""

    def build(self, *arguments):
        super().build(*arguments)
        self._static = None

    def train_step(self, x, y, learning_rate, *masks):
        if self._static is None or len(x) != len(self._static[0]) or masks:
            self._static = x, y
        return super().train_step(*self._static, learning_rate, *masks)


class WritesIntoTheData(Right):
    """Writes into the images that all workers read: its own file is a neighbour of theirs."""

    def build(self, *arguments):
        super().build(*arguments)
        log = Path(os.readlink("/proc/self/fd/2"))  # its standard error lies beside the data
        images = np.load(log.with_name("sample_x.npy"), mmap_mode="r+")
        images[:] = images[::-1].copy()
        images.flush()

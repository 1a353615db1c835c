"""The steps that are timed: each on a batch of its own, renewed before every slice; some outputs are kept.

Runs in the worker (NumPy only). The parent asks for the kept outputs when the clock has stopped.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from backends.base import Backend
from bench.worker import clock
from bench.worker.file_outputs import LARGEST, elements
from bench.worker.protocol import KeptOutputs, TimedMetric

Batch: TypeAlias = tuple[Any, Any]
Draw: TypeAlias = Callable[[int, int, int], list[Batch]]
"""``(seed, size, count)`` to batches of images and labels."""

POOL_BYTES = 32 * 2**20
"""No batch comes twice in a slice up to so many bytes; then they come in turn."""
FEWEST_BATCHES = 4


class TimedSteps:
    """The steps of one metric. Calling it runs the next one."""

    def __init__(self, backend: Backend, metric: TimedMetric, rate: float, draw: Draw) -> None:
        self._backend, self._metric, self._draw = backend, metric, draw
        self._run = self._make_run(rate)
        self._batches: list[Any] = []
        self._keep: frozenset[int] = frozenset()
        self._kept: dict[int, Any] = {}
        self._last: Any = None
        self._final = 0
        self._number = 0
        self._batch_bytes = 0

    def clear(self) -> None:
        """Let the batches and kept outputs go."""
        self._batches, self._kept, self._last, self._number = [], {}, None, 0

    def renew(self, seed: int, steps: int, keep: Sequence[float] = ()) -> int:
        """New batches for so many steps; how many there are. ``keep``: the outputs of the steps at these shares of them
        are kept."""
        metric, backend = self._metric, self._backend
        self._number, self._kept, self._last, self._final = 0, {}, None, steps - 2
        self._batches = []  # the old ones go before the new ones come
        if not self._batch_bytes:
            ((inputs, _),) = self._draw(seed, metric.batch_size, 1)
            arrays = inputs.values() if isinstance(inputs, dict) else [inputs]
            self._batch_bytes = max(sum(array.nbytes for array in arrays), 1)
        count = min(steps, max(FEWEST_BATCHES, POOL_BYTES // self._batch_bytes))
        batches = self._draw(seed, metric.batch_size, count)
        if metric.boundary == "device":
            batches = [backend.to_device(*batch) for batch in batches]
            backend.synchronize()
        self._batches = batches
        self._keep = frozenset(math.floor(share * steps) for share in keep)
        return count

    def renew_if_used(self) -> None:
        """New batches where every one was used: whoever remembers outputs shall not be fast in warm-up, by which the
        number of timed steps is planned."""
        if self._number >= len(self._batches):
            self.renew(secrets.randbits(32), FEWEST_BATCHES)

    def __call__(self) -> None:
        """The next step."""
        number = self._number
        output = self._run(self._batches[number % len(self._batches)])
        if number in self._keep:
            self._kept[number] = output
        if number >= self._final:  # earlier ones are let go: one more that lives would cost fresh pages
            self._last = output
        self._number = number + 1

    def settle(self) -> None:
        """Nothing to do: every step has its batch."""

    def stalled(self, steps: int) -> None:
        """No step waits for its batch."""

    def halves(self, steps: int) -> None:
        """Nothing is made ahead."""

    def read_last(self) -> float | None:
        """Seconds to bring the output of the last step to the host: next to none, if its work is done. None: a slice of
        latency ended before its last step; each of its steps was waited for."""
        if self._last is None:
            return None
        begin = clock.now()
        self._on_host(self._last)
        return clock.now() - begin

    def _on_host(self, output: Any) -> Any:
        """``infer`` gives host arrays; of a user's file also lists of them."""
        given = self._metric.task == "infer" and self._metric.boundary == "end-to-end"
        return output if given or isinstance(output, np.ndarray | np.generic) else self._backend.to_numpy(output)

    def outputs(self, rows: Sequence[int], seed: int | None = None) -> KeptOutputs:
        """These rows of the kept outputs. Of a training step: its loss. ``seed``: of a user's file some elements
        instead (``file_outputs.elements``)."""
        kept, seconds = sorted(self._kept.items()), list[float]()
        values: list[tuple[tuple[float, ...], ...]] = []
        for _, output in kept:
            begin = clock.now()
            array = self._on_host(output)
            seconds.append(clock.now() - begin)
            if seed is not None:
                values.append((elements(array, seed),))
                continue
            array = np.asarray(array, np.float64)
            chosen = array.reshape(1, 1) if array.ndim == 0 else array[list(rows)]
            chosen = np.where(np.isfinite(chosen), chosen, LARGEST)
            values.append(tuple(tuple(row) for row in chosen.tolist()))
        self._kept = {}
        return KeptOutputs(
            steps=tuple(number for number, _ in kept),
            batches=tuple(number % len(self._batches) for number, _ in kept),
            count=len(self._batches),
            values=tuple(values),
            seconds=tuple(seconds),
        )

    def _make_run(self, rate: float) -> Callable[[Batch], Any]:
        backend, metric = self._backend, self._metric
        if metric.task == "train":
            if metric.boundary == "device":
                return lambda batch: backend.train_step(*batch, rate)
            return lambda batch: backend.train_step(*backend.to_device(*batch), rate)
        if metric.boundary == "device":
            return lambda batch: backend.forward(batch[0])
        return lambda batch: backend.infer(batch[0])

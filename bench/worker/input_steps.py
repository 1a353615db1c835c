"""The steps of an input pipeline that are timed: a batch each, and with ``fed_throughput`` a training step on it.

A loader makes batches ahead. Which images a batch is of, it learns one step at a time, ``ahead`` batches before the
batch comes: what it makes, it makes while the clock runs. What it made while the clock stood still is taken before.
That the first half of a slice is as fast as the second shows it.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backends.base import Backend, ImageFiles, InputPipeline
from backends.model import Shape
from bench.worker import clock
from bench.worker.input_draws import InputDraw
from bench.worker.protocol import KeptOutputs, TimedMetric
from bench.workloads.recipe import Recipe

LABELS = "labels.npy"
"""The file with the labels of image files, in their folder."""
WARM_UP_BATCHES = 16
"""That are drawn together during a warm-up."""
FEWEST_OF_HALF = 2
"""Steps of half a slice, to compare it with the other half."""


def image_files(folder: Path, shape: Shape, recipe: Recipe) -> ImageFiles:
    """The image files of a folder, in the order of their labels."""
    labels, options = np.load(folder / LABELS, allow_pickle=False), recipe.augmentation
    paths = tuple(str(folder / image_name(number)) for number in range(len(labels)))
    return ImageFiles(paths, labels, shape, options.crop_padding, options.flip, options.cutout, recipe.mean, recipe.std)


def image_name(number: int) -> str:
    """The name of an image file."""
    return f"{number:05d}.png"


class InputStream:
    """The stream of one pipeline: which batches are asked for next, and how many were asked for and not taken."""

    def __init__(self, pipeline: InputPipeline, files: ImageFiles, batch_size: int, recipe: Recipe) -> None:
        self.pipeline, self.batch_size = pipeline, batch_size
        self._files, self._recipe = files, recipe
        self._drawn: list[Any] = []
        """Entries of the batches that were drawn and not asked for, the next one first."""
        self.waiting = 0

    @property
    def describes(self) -> str:
        """One line: the loader, the files and how images are changed."""
        files, sides = self._files, "x".join(map(str, self._files.shape))
        changes = [f"padded by {files.crop_padding} and cropped"] if files.crop_padding else []
        changes += ["flipped"] if files.flip else []
        changes += [f"a square of {files.cutout} cut out"] if files.cutout else []
        how = ", ".join(changes) or "not augmented, as the recipe says"
        return f"{self.pipeline.describes}; {len(files.paths):,} PNG files of {sides}, {how}"

    @property
    def drawn(self) -> int:
        """Batches that were drawn and not asked for."""
        return len(self._drawn)

    def draw(self, seed: int, count: int) -> None:
        """Draw the batches that are asked for from now on; those that were drawn before are forgotten."""
        size = self.batch_size
        draw = InputDraw.of(seed, len(self._files.paths), self._files.shape, size, count, self._recipe.augmentation)
        self._drawn = list(draw.entries.reshape(count, size, -1))

    def next(self) -> tuple[Any, Any]:
        """The next batch. ``ahead`` batches stay asked for after it."""
        while self.waiting <= self.pipeline.ahead:
            self.pipeline.ask(self._drawn.pop(0))
            self.waiting += 1
        self.waiting -= 1
        return self.pipeline.next()


class InputSteps:
    """The steps of one metric. Calling it runs the next one."""

    def __init__(self, backend: Backend, stream: InputStream, metric: TimedMetric, rate: float) -> None:
        self._backend, self._stream, self._metric, self._rate = backend, stream, metric, rate
        self._keep: frozenset[int] = frozenset()
        self._kept: dict[int, Any] = {}
        self._last: Any = None
        self._number = self._count = self._stale = 0
        self._times: list[tuple[float, float]] = []
        """Of every step: the seconds for which it waited for its batch, and when it ended."""

    def clear(self) -> None:
        """Let the kept batches go."""
        self._kept, self._last = {}, None

    def renew(self, seed: int, steps: int, keep: Sequence[float] = ()) -> int:
        """Draw the batches of so many steps, and as many more as the pipeline is asked for ahead; how many that are.
        ``keep``: the batches of the steps at these shares are kept."""
        self._stale, self._count = self._stream.waiting, steps + self._stream.pipeline.ahead
        self._stream.draw(seed, self._count)
        self._number, self._times, self._kept, self._last = 0, [], {}, None
        self._keep = frozenset(math.floor(share * steps) for share in keep)
        return self._count

    def renew_if_used(self) -> None:
        """For warm-up: draw more where too few are left."""
        if self._stream.drawn <= self._stream.pipeline.ahead:
            self._stream.draw(secrets.randbits(32), self._stream.pipeline.ahead + WARM_UP_BATCHES)

    def settle(self) -> None:
        """Take the batches that were asked for before: they may be ready."""
        for _ in range(self._stale):
            self._stream.next()
        self._stale = 0

    def __call__(self) -> None:
        """The next step. A training step is waited for, as by a loop that looks at its loss."""
        begin = clock.now()
        batch = self._stream.next()
        waited = clock.now() - begin
        if self._metric.trains:
            self._backend.train_step(*batch, self._rate)
            self._backend.synchronize()
        if self._number in self._keep:
            self._kept[self._number] = batch
        self._last = batch
        self._number += 1
        self._times.append((waited, clock.now()))

    def stalled(self, steps: int) -> float | None:
        """Seconds in which the last ``steps`` steps waited for their batch."""
        return math.fsum(waited for waited, _ in self._times[-steps:]) if self._metric.trains else None

    def halves(self, steps: int) -> float | None:
        """Of the last ``steps`` steps, from the end of the first: rate of the first half over that of the second."""
        ends = [end for _, end in self._times[-steps:]]
        half = (len(ends) - 1) // 2
        if half < FEWEST_OF_HALF:
            return None
        begin, middle, end = (ends[-1 - 2 * half + part * half] for part in range(3))
        return (end - middle) / max(middle - begin, 1e-9)

    def read_last(self) -> float | None:
        """Seconds to bring the last batch to the host: next to none, if it was made."""
        if self._last is None:
            return None
        begin = clock.now()
        self._stream.pipeline.to_host(*self._last)
        return clock.now() - begin

    def outputs(self, rows: Sequence[int], seed: int | None = None) -> KeptOutputs:
        """Of these rows of the kept batches: the label, then all numbers of the image."""
        kept, values, chosen = sorted(self._kept.items()), [], list(rows)
        for _, batch in kept:
            images, labels = self._stream.pipeline.to_host(*batch)
            flat = np.asarray(images[chosen], np.float64).reshape(len(chosen), -1)
            both = np.concatenate([np.asarray(labels)[chosen, None].astype(np.float64), np.nan_to_num(flat)], axis=1)
            values.append(tuple(tuple(row) for row in both.tolist()))
        self._kept = {}
        return KeptOutputs(
            steps=tuple(number for number, _ in kept),
            batches=tuple(number for number, _ in kept),
            count=self._count,
            values=tuple(values),
        )

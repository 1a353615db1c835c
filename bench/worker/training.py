"""Training to the end of a recipe, evaluation and export, the same for every backend. Runs in the worker."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from backends.base import Backend, Images, Labels, Unsupported, model_file
from bench.secrecy import hide
from bench.worker import clock
from bench.worker.protocol import WATCHED_WEIGHTS, Evaluation, Exported, NotExported, Work, evaluation_file
from bench.workloads.preprocessing import augment, normalize
from bench.workloads.recipe import Augmentation, Recipe

Batch: TypeAlias = tuple[Images, Labels]
SAMPLE = 1024
"""Number of training images that the parent writes, normalized, for certificates and timing."""
EVALUATION_BATCH = 256
CHUNK = 64
"""Number of batches that are gathered, augmented and normalized together, outside the clock."""
EVALUATIONS_FOR_A_TARGET = 4
"""Evaluations per epoch if there is a target accuracy; else one."""


@dataclass(frozen=True)
class Split:
    """Pixels ``(N, H, W, C)`` uint8 on disk (memory-mapped), the labels if a worker has them, and the constants of the
    normalization."""

    name: str
    pixels: npt.NDArray[np.uint8]
    labels: Labels | None
    mean: float
    std: float

    @classmethod
    def train(cls, work: Work) -> Split:
        """The training split without the images that the recipe holds out, whose labels stay in the parent."""
        whole, labels = cls._load(work, "train"), np.load(work.data / "train_y.npy", allow_pickle=False)
        return replace(whole.part("train", 0, len(labels)), labels=labels)

    @classmethod
    def test(cls, work: Work) -> Split:
        """The test split."""
        return cls._load(work, "test")

    @classmethod
    def for_evaluation(cls, work: Work) -> Split:
        """The split that is evaluated during training: the held-out images, or the test split if there are none."""
        whole = cls._load(work, "train")
        images = len(whole.pixels)
        count = _recipe(work).held_out(images)
        return whole.part("validation", images - count, images) if count else cls.test(work)

    def part(self, name: str, start: int, stop: int) -> Split:
        """Images from ``start`` to ``stop``."""
        return replace(self, name=name, pixels=self.pixels[start:stop])

    @classmethod
    def _load(cls, work: Work, name: str) -> Split:
        recipe = _recipe(work)
        pixels = np.load(work.data / f"{name}_x.npy", mmap_mode="r", allow_pickle=False)
        return cls(name, pixels, None, recipe.mean, recipe.std)

    def take(
        self,
        index: npt.NDArray[np.int64],
        augmentation: Augmentation | None = None,
        rng: np.random.Generator | None = None,
    ) -> Images:
        """The normalized images at ``index``, augmented if ``augmentation`` is given."""
        pixels = np.asarray(self.pixels[index])
        if augmentation is not None and rng is not None:
            pixels = augment(pixels, augmentation, rng)
        return normalize(pixels, self.mean, self.std)


def _recipe(work: Work) -> Recipe:
    return Recipe.from_dict(dict(work.recipe))


def epoch_order(seed: int, epoch: int, images: int) -> npt.NDArray[np.int64]:
    """The order of the images in an epoch, the same for every backend."""
    return np.random.default_rng([seed, epoch]).permutation(images)


@dataclass
class TrainingRun:
    """One training: its time and its curve, and what the parent asked to see of it."""

    backend: Backend
    work: Work
    out: Path
    """The folder of the evaluations' logits and of the watched weights."""
    often: bool = False
    """Whether to evaluate ``EVALUATIONS_FOR_A_TARGET`` times an epoch."""
    alive: Callable[[Evaluation | None], None] = lambda evaluation: None
    """Called outside the clock: after every chunk of batches, and with every evaluation."""
    watched: frozenset[int] = frozenset()
    """Steps before which the weights are kept, outside the clock; the number of all steps: at the end."""
    asked: frozenset[int] = frozenset()
    """Steps whose losses are kept."""
    seconds: float = 0.0
    """Seconds of training steps with copies to the device; gathering, augmenting and evaluating are not included."""
    evaluations: list[Evaluation] = field(default_factory=list)
    losses: dict[int, float] = field(default_factory=dict)
    """Of the steps that were asked for."""
    _losses: list[float] = field(default_factory=list)
    _kept: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Train all epochs of the recipe."""
        recipe, seed, step = _recipe(self.work), self.work.job.seed, 0
        split = Split.train(self.work)
        images = len(split.pixels)
        steps, per_epoch = recipe.steps(images), recipe.steps(images) // max(recipe.epochs, 1)
        interval = interval_of(per_epoch, self.often)
        for epoch in range(recipe.epochs):
            for start, stop in chunk_bounds(per_epoch, interval):
                batches = chunk(split, recipe, seed, epoch, start, stop)
                rates = [recipe.rate(step + i, steps) for i in range(len(batches))]
                self._train(step, batches, rates)
                self.alive(None)
                step += len(batches)
                if stop == per_epoch or (self.often and stop % interval == 0 and per_epoch - stop >= interval):
                    self._evaluate(epoch + stop / per_epoch)
        self._keep_weights(step)
        if self._kept:
            np.savez(self.out / WATCHED_WEIGHTS, **self._kept)

    def _train(self, first: int, batches: list[Batch], rates: list[float]) -> None:
        """Train a chunk whose first step is the ``first`` of all."""
        cuts = sorted({0, len(batches), *(step - first for step in self.watched if 0 < step - first < len(batches))})
        for begin, end in itertools.pairwise(cuts):
            self._keep_weights(first + begin)
            losses = self._timed(batches[begin:end], rates[begin:end])
            self.losses |= {first + begin + i: loss for i, loss in enumerate(losses) if first + begin + i in self.asked}
            self._losses += losses

    def _timed(self, batches: list[Batch], rates: list[float]) -> list[float]:
        backend = self.backend
        losses = []
        backend.synchronize()
        begin = clock.now()
        for (x, y), rate in zip(batches, rates, strict=True):
            losses.append(backend.train_step(*backend.to_device(x, y), rate))
        backend.synchronize()
        self.seconds += clock.now() - begin
        return [float(backend.to_numpy(loss)) for loss in losses]

    def _keep_weights(self, step: int) -> None:
        if step in self.watched:
            self._kept |= {f"{step} {name}": value for name, value in self.backend.weights().items()}

    def _evaluate(self, epoch: float) -> None:
        split = Split.for_evaluation(self.work)
        np.save(self.out / evaluation_file(len(self.evaluations)), predict(self.backend, split))
        train_loss = float(np.mean(self._losses)) if self._losses else None
        evaluation = Evaluation(epoch=epoch, seconds=self.seconds, train_loss=train_loss, split=split.name)
        self.evaluations.append(evaluation)
        self._losses.clear()
        self.alive(evaluation)


def interval_of(per_epoch: int, often: bool) -> int:
    """Batches between two evaluations."""
    return max(per_epoch // (EVALUATIONS_FOR_A_TARGET if often else 1), 1)


def chunk_bounds(per_epoch: int, interval: int) -> Iterator[tuple[int, int]]:
    """The first batch of each chunk of an epoch and the one after its last. A chunk ends where an evaluation may
    follow."""
    start = 0
    while start < per_epoch:
        stop = min(start + CHUNK, per_epoch, (start // interval + 1) * interval)
        yield start, stop
        start = stop


def chunk(split: Split, recipe: Recipe, seed: int, epoch: int, start: int, stop: int) -> list[Batch]:
    """The batches from ``start`` to ``stop`` of an epoch, augmented and normalized, the same for every backend."""
    assert split.labels is not None, "the training split has labels"
    size = recipe.batch_size
    index = epoch_order(seed, epoch, len(split.pixels))[start * size : stop * size]
    x = split.take(index, recipe.augmentation, np.random.default_rng([seed, epoch, 1, start]))
    y = split.labels[index]
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def predict(backend: Backend, split: Split) -> npt.NDArray[np.float32]:
    """The logits ``(N, classes)`` of a whole split, in order.

    Raises:
        ArithmeticError: they are not finite, because training diverged.
    """
    order = np.arange(len(split.pixels))
    pieces = [
        backend.infer(split.take(order[start : start + EVALUATION_BATCH]))
        for start in range(0, len(order), EVALUATION_BATCH)
    ]
    logits: npt.NDArray[np.float32] = np.concatenate(pieces).astype(np.float32)
    if not np.isfinite(logits).all():
        raise ArithmeticError("logits are not finite: training diverged; lower the learning rate")
    return logits


def export(backend: Backend, out: Path, format_name: str) -> Exported | NotExported:
    """Write the model file in ``out``, and check it. If it fails, only the rows that read the file fail, not this
    one."""
    path, begin = out / model_file(format_name), clock.now()
    try:
        backend.export(path, format_name)
        seconds = clock.now() - begin
        if format_name == "onnx":  # the others have no checker; the runtimes that read them are certified
            _check_onnx(path)
    except Exception as error:  # noqa: BLE001  (an exporter may raise anything; the reason is kept)
        status = "unsupported" if isinstance(error, Unsupported) else "failed"
        first_line = next(iter(hide(str(error)).splitlines()), "")
        return NotExported(status=status, reason=f"export: {type(error).__name__}: {first_line}")
    return Exported(seconds=seconds, bytes=path.stat().st_size)


def _check_onnx(path: Path) -> None:
    """Raise an exception if the file is not valid ONNX in one file with a free batch dimension."""
    import onnx

    onnx.checker.check_model(os.fspath(path), full_check=True)
    batch = onnx.load(os.fspath(path)).graph.input[0].type.tensor_type.shape.dim[0]
    if not batch.dim_param:
        raise ValueError(f"batch dimension is fixed to {batch.dim_value}, not dynamic")

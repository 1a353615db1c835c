"""Training to the end of a recipe, evaluation and export, the same for every backend. Runs in the worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from backends.base import Backend, Images, Labels, Unsupported
from bench.worker import clock
from bench.worker.protocol import Evaluation, Exported, NotExported, Work, evaluation_file
from bench.workloads.preprocessing import augment, normalize
from bench.workloads.recipe import Augmentation, Recipe

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
    """One training: its time and its curve."""

    backend: Backend
    work: Work
    out: Path
    """The folder of the evaluations' logits."""
    often: bool = False
    """Whether to evaluate ``EVALUATIONS_FOR_A_TARGET`` times an epoch."""
    alive: Callable[[], None] = lambda: None
    """Called after every chunk of batches, outside the clock."""
    seconds: float = 0.0
    """Seconds of training steps with copies to the device; gathering, augmenting and evaluating are not included."""
    evaluations: list[Evaluation] = field(default_factory=list)
    _losses: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Train all epochs of the recipe."""
        recipe, seed, step = _recipe(self.work), self.work.job.seed, 0
        split = Split.train(self.work)
        images = len(split.pixels)
        steps, per_epoch = recipe.steps(images), recipe.steps(images) // max(recipe.epochs, 1)
        interval = max(per_epoch // (EVALUATIONS_FOR_A_TARGET if self.often else 1), 1)
        for epoch in range(recipe.epochs):
            order, rng = epoch_order(seed, epoch, images), np.random.default_rng([seed, epoch, 1])
            for start, batches in _chunks(split, order, recipe, rng, interval):
                rates = [recipe.rate(step + i, steps) for i in range(len(batches))]
                self._train(batches, rates)
                self.alive()
                step += len(batches)
                done = start + len(batches)
                if done == per_epoch or (self.often and done % interval == 0 and per_epoch - done >= interval):
                    self._evaluate(epoch + done / per_epoch)

    def _train(self, batches: list[tuple[Images, Labels]], rates: list[float]) -> None:
        backend = self.backend
        losses = []
        backend.synchronize()
        begin = clock.now()
        for (x, y), rate in zip(batches, rates, strict=True):
            losses.append(backend.train_step(*backend.to_device(x, y), rate))
        backend.synchronize()
        self.seconds += clock.now() - begin
        self._losses += [float(backend.to_numpy(loss)) for loss in losses]

    def _evaluate(self, epoch: float) -> None:
        split = Split.for_evaluation(self.work)
        np.save(self.out / evaluation_file(len(self.evaluations)), predict(self.backend, split))
        train_loss = float(np.mean(self._losses)) if self._losses else None
        self.evaluations.append(Evaluation(epoch=epoch, seconds=self.seconds, train_loss=train_loss, split=split.name))
        self._losses.clear()


def _chunks(
    split: Split, order: npt.NDArray[np.int64], recipe: Recipe, rng: np.random.Generator, interval: int
) -> Iterator[tuple[int, list[tuple[Images, Labels]]]]:
    """Yield the number of the first batch and the batches. A chunk ends where an evaluation may follow."""
    assert split.labels is not None, "the training split has labels"
    size, batches, start = recipe.batch_size, -(-len(order) // recipe.batch_size), 0
    while start < batches:
        stop = min(start + CHUNK, batches, (start // interval + 1) * interval)
        index = order[start * size : stop * size]
        x, y = split.take(index, recipe.augmentation, rng), split.labels[index]
        yield start, [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
        start = stop


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


def export(backend: Backend, path: Path) -> Exported | NotExported:
    """Write and check the ONNX file. If it fails, only the rows that read the file fail, not this one."""
    begin = clock.now()
    try:
        backend.export_onnx(path)
        seconds = clock.now() - begin
        _check(path)
    except Exception as error:  # noqa: BLE001  (an exporter may raise anything; the reason is kept)
        status = "unsupported" if isinstance(error, Unsupported) else "failed"
        first_line = next(iter(str(error).splitlines()), "")
        return NotExported(status=status, reason=f"export: {type(error).__name__}: {first_line}")
    return Exported(seconds=seconds, bytes=path.stat().st_size)


def _check(path: Path) -> None:
    """Raise an exception if the file is not valid ONNX in one file with a free batch dimension."""
    import onnx

    onnx.checker.check_model(os.fspath(path), full_check=True)
    batch = onnx.load(os.fspath(path)).graph.input[0].type.tensor_type.shape.dim[0]
    if not batch.dim_param:
        raise ValueError(f"batch dimension is fixed to {batch.dim_value}, not dynamic")

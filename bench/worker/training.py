"""Training to the end of a recipe, evaluation and export, the same for every backend. Runs in the worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Backend, Images, Labels, Unsupported
from backends.reference import cross_entropy
from bench.worker import clock
from bench.workloads.preprocessing import augment, normalize
from bench.workloads.recipe import Augmentation, Recipe

SAMPLE = 1024
"""Real training images that the parent sets aside, normalized, for certifying and timing."""
EVALUATION_BATCH = 256
CHUNK = 64
"""Batches that are gathered, augmented and normalized at a time, outside the clock."""
EVALUATIONS_FOR_A_TARGET = 4
"""Per epoch, where a target accuracy is to be reached; else one."""


@dataclass(frozen=True)
class Split:
    """Pixels ``(N, H, W, C)`` uint8 on disk (memory-mapped), labels, and how pixels are normalized."""

    name: str
    pixels: npt.NDArray[np.uint8]
    labels: Labels
    mean: float
    std: float

    @classmethod
    def train(cls, request: dict[str, Any]) -> Split:
        """What is trained on: the training split without what the recipe holds out."""
        whole = cls._load(request, "train")
        return whole.part("train", 0, len(whole.labels) - whole._held_out(request))

    @classmethod
    def test(cls, request: dict[str, Any]) -> Split:
        """The test split."""
        return cls._load(request, "test")

    @classmethod
    def watched(cls, request: dict[str, Any]) -> Split:
        """What is evaluated during training: the images held out, or the test split where there are none."""
        whole = cls._load(request, "train")
        count = whole._held_out(request)
        return whole.part("validation", len(whole.labels) - count, len(whole.labels)) if count else cls.test(request)

    def part(self, name: str, start: int, stop: int) -> Split:
        """Images from ``start`` to ``stop``."""
        return Split(name, self.pixels[start:stop], self.labels[start:stop], self.mean, self.std)

    def _held_out(self, request: dict[str, Any]) -> int:
        return Recipe.from_dict(request["recipe"]).held_out(len(self.labels))

    @classmethod
    def _load(cls, request: dict[str, Any], name: str) -> Split:
        folder, recipe = Path(request["data"]), request["recipe"]
        pixels = np.load(folder / f"{name}_x.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / f"{name}_y.npy", allow_pickle=False)
        return cls(name, pixels, labels, recipe["mean"], recipe["std"])

    def take(
        self,
        index: npt.NDArray[np.int64],
        augmentation: Augmentation | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[Images, Labels]:
        """Normalized images and labels at ``index``, augmented where asked."""
        pixels = np.asarray(self.pixels[index])
        if augmentation is not None and rng is not None:
            pixels = augment(pixels, augmentation, rng)
        return normalize(pixels, self.mean, self.std), self.labels[index]


def epoch_order(seed: int, epoch: int, images: int) -> npt.NDArray[np.int64]:
    """The permutation of an epoch: the same for every backend."""
    return np.random.default_rng([seed, epoch]).permutation(images)


@dataclass(frozen=True)
class Point:
    """One evaluation during training."""

    epoch: float
    """Epochs trained until then."""
    seconds: float
    """Of training steps until then."""
    train_loss: float | None
    """Mean over the steps since the last point, as they were taken (each before its update, on augmented images)."""
    split: str
    loss: float
    accuracy: float


@dataclass
class Fit:
    """One training: its clock, and what was seen on the way."""

    backend: Backend
    request: dict[str, Any]
    alive: Callable[[], None] = lambda: None
    """Called after every chunk of batches, outside the clock."""
    seconds: float = 0.0
    """Of steps, copies to the device included; gathering, augmenting, normalizing and evaluating not."""
    curve: list[Point] = field(default_factory=list)
    _losses: list[float] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Train to the recipe's end; seconds, curve, and when the target was reached."""
        recipe = Recipe.from_dict(self.request["recipe"])
        split, seed, step = Split.train(self.request), self.request["seed"], 0
        steps, per_epoch = recipe.steps(len(split.labels)), recipe.steps(len(split.labels)) // max(recipe.epochs, 1)
        target = self.request.get("target_accuracy")
        pause = max(per_epoch // (EVALUATIONS_FOR_A_TARGET if target is not None else 1), 1)
        for epoch in range(recipe.epochs):
            order, rng = epoch_order(seed, epoch, len(split.labels)), np.random.default_rng([seed, epoch, 1])
            for start, batches in _chunks(split, order, recipe, rng, pause):
                rates = [recipe.rate(step + i, steps) for i in range(len(batches))]
                self._train(batches, rates)
                self.alive()
                step += len(batches)
                done = start + len(batches)
                if done == per_epoch or (target is not None and done % pause == 0 and per_epoch - done >= pause):
                    self._evaluate(epoch + done / per_epoch)
        reached = None if target is None else next((p.seconds for p in self.curve if p.accuracy >= target), None)
        return {"fit_seconds": self.seconds, "curve": [asdict(p) for p in self.curve], "time_to_accuracy": reached}

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
        split = Split.watched(self.request)
        logits, labels = predict(self.backend, split)
        told = outcome(logits, labels)
        train_loss = float(np.mean(self._losses)) if self._losses else None
        point = Point(epoch, self.seconds, train_loss, split.name, told["loss"], told["accuracy"])
        self.curve.append(point)
        self._losses.clear()


def _chunks(
    split: Split, order: npt.NDArray[np.int64], recipe: Recipe, rng: np.random.Generator, pause: int
) -> Iterator[tuple[int, list[tuple[Images, Labels]]]]:
    """Number of the first batch, and the batches; a chunk ends where an evaluation may follow."""
    size, batches, start = recipe.batch_size, -(-len(order) // recipe.batch_size), 0
    while start < batches:
        stop = min(start + CHUNK, batches, (start // pause + 1) * pause)
        x, y = split.take(order[start * size : stop * size], recipe.augmentation, rng)
        yield start, [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
        start = stop


def predict(backend: Backend, split: Split) -> tuple[npt.NDArray[np.float32], Labels]:
    """Logits ``(N, classes)`` of a whole split, in order, and its labels."""
    order = np.arange(len(split.labels))
    pieces = [
        backend.infer(split.take(order[start : start + EVALUATION_BATCH])[0])
        for start in range(0, len(order), EVALUATION_BATCH)
    ]
    return np.concatenate(pieces).astype(np.float32), split.labels


def outcome(logits: npt.NDArray[np.float32], labels: Labels) -> dict[str, float]:
    """Top-1 accuracy and mean cross-entropy (nats, float64) of logits on a split.

    Raises:
        ArithmeticError: the logits are not finite: training diverged.
    """
    if not np.isfinite(logits).all():
        raise ArithmeticError("logits are not finite: training diverged; lower the learning rate")
    loss, _ = cross_entropy(logits.astype(np.float64), labels)
    correct = int((logits.argmax(axis=1) == labels).sum())
    return {"accuracy": correct / len(labels), "correct": correct, "images": len(labels), "loss": loss}


def export(backend: Backend, path: Path) -> dict[str, Any]:
    """Write, check and weigh the ONNX file; a failed export costs the rows that read it, not this one."""
    begin = clock.now()
    try:
        backend.export_onnx(path)
        seconds = clock.now() - begin
        _check(path)
    except Exception as error:  # noqa: BLE001  (an exporter may raise anything; the reason is kept)
        status = "unsupported" if isinstance(error, Unsupported) else "failed"
        first = next(iter(str(error).splitlines()), "")
        return {"status": status, "reason": f"export: {type(error).__name__}: {first}"}
    return {"status": "ok", "seconds": seconds, "bytes": path.stat().st_size}


def _check(path: Path) -> None:
    """The file is valid ONNX, in one piece, with a free batch dimension."""
    import onnx

    onnx.checker.check_model(os.fspath(path), full_check=True)
    batch = onnx.load(os.fspath(path)).graph.input[0].type.tensor_type.shape.dim[0]
    if not batch.dim_param:
        raise ValueError(f"batch dimension is fixed to {batch.dim_value}, not dynamic")

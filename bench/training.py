"""Training to the end of a recipe, evaluation and export, the same for every backend. Runs in the worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Backend, Images, Labels, Unsupported
from backends.reference import cross_entropy
from bench import clock
from bench.datasets import normalize

SAMPLE = 1024
"""Real training images that the parent sets aside, normalized, for certifying and timing."""
EVALUATION_BATCH = 256
CHUNK = 64
"""Batches that are gathered and normalized at a time, outside the clock."""


@dataclass(frozen=True)
class Split:
    """Pixels ``(N, H, W, C)`` uint8 on disk (memory-mapped), labels, and how pixels are normalized."""

    pixels: npt.NDArray[np.uint8]
    labels: Labels
    mean: float
    std: float

    @classmethod
    def train(cls, request: dict[str, Any]) -> Split:
        """The training split of a request."""
        return cls._load(request, "train")

    @classmethod
    def test(cls, request: dict[str, Any]) -> Split:
        """The test split of a request."""
        return cls._load(request, "test")

    @classmethod
    def _load(cls, request: dict[str, Any], name: str) -> Split:
        folder = Path(request["data"])
        pixels = np.load(folder / f"{name}_x.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / f"{name}_y.npy", allow_pickle=False)
        return cls(pixels, labels, request["mean"], request["std"])

    def take(self, index: npt.NDArray[np.int64]) -> tuple[Images, Labels]:
        """Normalized images and labels at ``index``."""
        return normalize(self.pixels[index], self.mean, self.std), self.labels[index]


def epoch_order(seed: int, epoch: int, images: int) -> npt.NDArray[np.int64]:
    """The permutation of an epoch: the same for every backend."""
    return np.random.default_rng([seed, epoch]).permutation(images)


def fit(backend: Backend, request: dict[str, Any]) -> float:
    """Train; returns the seconds of steps, copies to the device included, gathering and normalizing not."""
    split, seconds = Split.train(request), 0.0
    for epoch in range(request["epochs"]):
        order = epoch_order(request["seed"], epoch, len(split.labels))
        for batches in _chunks(split, order, request["batch_size"]):
            backend.synchronize()
            begin = clock.now()
            for x, y in batches:
                backend.train_step(*backend.to_device(x, y), request["learning_rate"])
            backend.synchronize()
            seconds += clock.now() - begin
    return seconds


def _chunks(split: Split, order: npt.NDArray[np.int64], size: int) -> Iterator[list[tuple[Images, Labels]]]:
    for start in range(0, len(order), CHUNK * size):
        x, y = split.take(order[start : start + CHUNK * size])
        yield [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


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

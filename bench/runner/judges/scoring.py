"""The scores of trained models. Workers write logits; the labels of the test split and of the images that a recipe
holds out are here only, out of their reach."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from backends.base import Labels
from backends.reference import cross_entropy
from bench.array_files import read_array
from bench.records.record import CurvePoint
from bench.runner.worker_process import WorkerError
from bench.worker.protocol import Evaluation, Exports, Trained, WorkerReport, evaluation_file

Logits: TypeAlias = npt.NDArray[np.float32]
LOGITS = "logits.npy"
"""A worker's logits on the test split, in its row's folder."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of logits on a split: top-1 accuracy, and mean cross-entropy in nats."""

    accuracy: float
    correct: int
    images: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A completed training and its scores."""

    fit_seconds: float
    curve: tuple[CurvePoint, ...]
    time_to_accuracy: float | None
    """Seconds of training steps until the target was reached; None: not reached, or no target."""
    scores: Scores
    exports: Exports = field(default_factory=dict)
    report: WorkerReport


def read_logits(path: Path, images: int, classes: int) -> Logits:
    """The logits ``(images, classes)`` that a worker wrote.

    Raises:
        WorkerError: there is no such file, or it has another shape.
    """
    try:
        logits = read_array(path)
    except ValueError as error:
        raise WorkerError("failed", f"the worker's {error}") from error
    if logits.shape != (images, classes) or logits.dtype != np.float32:
        raise WorkerError("failed", f"the worker's {path.name} is {logits.dtype} {logits.shape}")
    return logits


def score(logits: Logits, labels: Labels) -> Scores:
    """Top-1 accuracy and mean cross-entropy (nats, float64) of logits on a split.

    Raises:
        WorkerError: the logits are not finite, because training diverged.
    """
    if not np.isfinite(logits).all():
        raise WorkerError("failed", "logits are not finite: training diverged; lower the learning rate")
    loss, _ = cross_entropy(logits.astype(np.float64), labels)
    correct = int((logits.argmax(axis=1) == labels).sum())
    return Scores(accuracy=correct / len(labels), correct=correct, images=len(labels), loss=float(loss))


def curve_point(
    evaluation: Evaluation, number: int, folder: Path, labels: Mapping[str, Labels], classes: int
) -> CurvePoint:
    """The ``number``-th evaluation of a training with the scores of its file in ``folder``.

    Raises:
        WorkerError: the file is missing or wrong, a number is none, or training diverged.
    """
    if evaluation.split not in labels:
        raise WorkerError("failed", f"the worker evaluated an unknown split: {evaluation.split}")
    its_labels = labels[evaluation.split]
    scores = score(read_logits(folder / evaluation_file(number), len(its_labels), classes), its_labels)
    numbers = (evaluation.epoch, evaluation.seconds, evaluation.train_loss)
    if not all(each is None or math.isfinite(each) for each in numbers):
        raise WorkerError("failed", f"the worker's evaluation {number + 1} has a number that is not finite")
    return CurvePoint(
        epoch=evaluation.epoch,
        seconds=evaluation.seconds,
        train_loss=evaluation.train_loss,
        split=evaluation.split,
        loss=scores.loss,
        accuracy=scores.accuracy,
    )


def fitted(trained: Trained, folder: Path, labels: Mapping[str, Labels], classes: int, target: float | None) -> Fitted:
    """A training with the scores of its files in ``folder``. ``labels``: by split; ``target``: an accuracy.

    Raises:
        WorkerError: a file is missing or wrong, or training diverged.
    """
    curve = [curve_point(point, number, folder, labels, classes) for number, point in enumerate(trained.evaluations)]
    reached = (point.seconds for point in curve if target is not None and point.accuracy >= target)
    return Fitted(
        fit_seconds=trained.fit_seconds,
        curve=tuple(curve),
        time_to_accuracy=next(reached, None),
        scores=score(read_logits(folder / LOGITS, len(labels["test"]), classes), labels["test"]),
        exports=trained.exports,
        report=trained.report,
    )

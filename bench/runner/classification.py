"""Scores of a classifier by class, from its logits (scikit-learn). The parent computes them while nothing is timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.records.record import ClassScore


@dataclass(frozen=True)
class ClassReport:
    """Scores by class, the confusion matrix (true by predicted, images), and top-5 accuracy if there are more than five
    classes."""

    classes: list[ClassScore]
    confusion: list[list[int]]
    top5_accuracy: float | None = None


def class_report(logits: npt.NDArray[Any], labels: npt.NDArray[np.int64], names: Sequence[str]) -> ClassReport:
    """The scores of logits ``(N, classes)``. Precision, recall and F1 are None if the denominator is zero."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

    numbers = list(range(len(names)))
    predicted = logits.argmax(axis=1)
    columns = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=np.nan)
    classes = [
        ClassScore(
            name=name,
            precision=_finite(precision),
            recall=_finite(recall),
            f1=_finite(f1),
            support=int(support),
        )
        for name, precision, recall, f1, support in zip(names, *columns, strict=True)
    ]
    confusion = confusion_matrix(labels, predicted, labels=numbers).tolist()
    top5 = float(top_k_accuracy_score(labels, logits, k=5, labels=numbers)) if len(names) > 5 else None
    return ClassReport(classes, confusion, top5)


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None

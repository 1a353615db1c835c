"""What a classifier does, class by class, from its logits (scikit-learn). The parent asks while nothing is timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def scores(logits: npt.NDArray[Any], labels: npt.NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """``classes`` (precision, recall, F1, support of each), ``confusion`` (true by predicted), and ``top5_accuracy``
    where there are more than five classes.

    ``logits``: ``(N, classes)``. Precision, recall and F1 are null where nothing was predicted, or nothing is there.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

    numbers = list(range(len(names)))
    predicted = logits.argmax(axis=1)
    columns = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=np.nan)
    found: dict[str, Any] = {
        "confusion": confusion_matrix(labels, predicted, labels=numbers).tolist(),
        "classes": [
            {
                "name": name,
                "precision": _finite(precision),
                "recall": _finite(recall),
                "f1": _finite(f1),
                "support": int(support),
            }
            for name, precision, recall, f1, support in zip(names, *columns, strict=True)
        ],
    }
    if len(names) > 5:
        found["top5_accuracy"] = float(top_k_accuracy_score(labels, logits, k=5, labels=numbers))
    return found


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None

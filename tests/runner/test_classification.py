"""Scores by class, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.runner.classification import class_report

NAMES = ("cat", "dog", "fish")


def logits(*predicted: int) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[list(predicted)]


def test_precision_recall_and_confusion() -> None:
    report = class_report(logits(0, 0, 1, 1, 1, 2), np.array([0, 1, 1, 1, 0, 2]), NAMES)
    cat, dog, fish = report.classes
    assert (cat.precision, cat.recall, cat.support) == (0.5, 0.5, 2)
    assert dog.precision == pytest.approx(2 / 3)
    assert dog.f1 == pytest.approx(2 / 3)
    assert (fish.name, fish.f1) == ("fish", 1.0)
    assert report.confusion == [[1, 1, 0], [1, 2, 0], [0, 0, 1]]
    assert report.top5_accuracy is None, "the five best of three classes are always right"


def test_a_class_that_is_never_predicted_or_has_no_images() -> None:
    report = class_report(logits(0, 0), np.array([0, 1]), NAMES)
    _, dog, fish = report.classes
    assert (dog.precision, dog.recall) == (None, 0.0)
    assert (fish.precision, fish.recall, fish.support) == (None, None, 0)


def test_top5() -> None:
    rows = np.array([[9, 8, 7, 6, 5, 4, 3], [1, 2, 3, 4, 5, 6, 7]], np.float32)
    assert class_report(rows, np.array([5, 6]), tuple("abcdefg")).top5_accuracy == 0.5

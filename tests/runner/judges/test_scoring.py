"""Scores from logits that workers wrote and labels that only the parent has."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worker_replies import REPORT

from bench.runner.judges import scoring
from bench.runner.worker_process import WorkerError
from bench.worker.protocol import Evaluation, Trained, evaluation_file

LABELS = {"validation": np.asarray([0, 1]), "test": np.asarray([0, 1, 2, 2])}
POINTS = tuple(Evaluation(epoch=n, seconds=10.0 * n, train_loss=None, split="validation") for n in (1, 2))
TRAINED = Trained(fit_seconds=20.0, evaluations=POINTS, report=REPORT)


def one_hot(*predicted: int) -> scoring.Logits:
    return np.eye(3, dtype=np.float32)[list(predicted)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / evaluation_file(0), one_hot(0, 0))
    np.save(tmp_path / evaluation_file(1), one_hot(0, 1))
    np.save(tmp_path / scoring.LOGITS, one_hot(0, 1, 2, 0))
    return tmp_path


def test_scores_by_hand(folder: Path) -> None:
    fitted = scoring.fitted(TRAINED, folder, LABELS, 3, target=0.9)
    assert [point.accuracy for point in fitted.curve] == [0.5, 1.0]
    assert fitted.time_to_accuracy == 20.0
    right, wrong = math.log(2 + math.e) - 1, math.log(2 + math.e)
    assert fitted.curve[0].loss == pytest.approx((right + wrong) / 2)
    assert (fitted.scores.accuracy, fitted.scores.correct, fitted.scores.images) == (0.75, 3, 4)


@pytest.mark.parametrize("target", [None, 1.1])
def test_a_target_that_is_not_reached_has_no_time(folder: Path, target: float | None) -> None:
    assert scoring.fitted(TRAINED, folder, LABELS, 3, target).time_to_accuracy is None


def test_training_that_diverged_is_named(folder: Path) -> None:
    np.save(folder / scoring.LOGITS, np.full((4, 3), np.nan, np.float32))
    with pytest.raises(WorkerError, match="training diverged; lower the learning rate"):
        scoring.fitted(TRAINED, folder, LABELS, 3, None)


def test_what_a_worker_did_not_write_well_is_named(folder: Path) -> None:
    np.save(folder / scoring.LOGITS, one_hot(0, 1, 2))
    with pytest.raises(WorkerError, match=r"logits\.npy is float32 \(3, 3\)"):
        scoring.fitted(TRAINED, folder, LABELS, 3, None)
    (folder / scoring.LOGITS).write_bytes(b"no array")
    with pytest.raises(WorkerError, match=r"logits\.npy cannot be read"):
        scoring.fitted(TRAINED, folder, LABELS, 3, None)
    (folder / scoring.LOGITS).unlink()
    with pytest.raises(WorkerError, match=r"logits\.npy cannot be read"):
        scoring.fitted(TRAINED, folder, LABELS, 3, None)


def test_an_unknown_split_is_refused(folder: Path) -> None:
    odd = replace(TRAINED, evaluations=(replace(POINTS[0], split="train"),))
    with pytest.raises(WorkerError, match="an unknown split: train"):
        scoring.fitted(odd, folder, LABELS, 3, None)


@pytest.mark.parametrize("wrong", [{"epoch": math.inf}, {"seconds": math.nan}, {"train_loss": -math.inf}])
def test_a_number_that_is_not_finite_costs_the_row_only(folder: Path, wrong: dict[str, float]) -> None:
    evaluation = replace(POINTS[0], **wrong)
    with pytest.raises(WorkerError, match="evaluation 1 has a number that is not finite"):
        scoring.curve_point(evaluation, 0, folder, LABELS, 3)

"""One training, step by step: what is on the clock, which images are used for what, and at which rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.worker import clock
from bench.worker.protocol import Evaluation, Job, Work, evaluation_file
from bench.worker.training import CHUNK, TrainingRun
from bench.workloads.recipe import Recipe, Schedule

IMAGES, TEST = 1_000, 40


class Counted:
    """A backend with a clock of its own: a step costs a second, a copy ten, an image inferred a hundred. Its loss is
    the number of the step; from step ``learns_at`` on it is always right."""

    def __init__(self, learns_at: int = 0) -> None:
        self.now, self.learns_at = 0.0, learns_at
        self.rates: list[float] = []
        self.seen: list[int] = []
        """Numbers of the images trained on, which their pixels spell."""

    def to_device(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.now += 10
        return x, y

    def train_step(self, x: np.ndarray, y: np.ndarray, learning_rate: float) -> float:
        self.now += 1
        self.rates.append(learning_rate)
        self.seen += [round(pair[0] * 255) * 256 + round(pair[1] * 255) for pair in x.reshape(len(x), -1)[:, :2]]
        return float(len(self.rates) - 1)

    def infer(self, x: np.ndarray) -> np.ndarray:
        self.now += 100 * len(x)
        logits = np.zeros((len(x), 10), np.float32)
        right = (x.reshape(len(x), -1)[:, 1] * 255).round().astype(int) % 10
        logits[np.arange(len(x)), right if len(self.rates) >= self.learns_at else (right + 1) % 10] = 9
        return logits

    def synchronize(self) -> None:
        pass

    def to_numpy(self, loss: float) -> float:
        return loss


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images whose first two pixels spell their number."""
    for split, count in (("train", IMAGES), ("test", TEST)):
        pixels = np.zeros((count, 2, 2, 1), np.uint8)
        pixels[:, 0, 0, 0], pixels[:, 0, 1, 0] = np.divmod(np.arange(count), 256)
        np.save(tmp_path / f"{split}_x.npy", pixels)
    return tmp_path


def fit(
    backend: Counted,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    often: bool = False,
    alive: Callable[[Evaluation | None], None] = lambda evaluation: None,
    **settings: Any,
) -> TrainingRun:
    plain = {"learning_rate": 0.5, "batch_size": 10, "epochs": 2, **settings}
    recipe = Recipe("r", "sgd", **plain)
    labels = np.arange(IMAGES - recipe.held_out(IMAGES)) % 256 % 10  # the parent keeps the others
    np.save(folder / "train_y.npy", labels.astype(np.int64))
    monkeypatch.setattr(clock, "now", lambda: backend.now)
    job = Job(backend="b", mode="m", model="m", dataset="d", recipe="r", threads=1, seed=3)
    work = Work(job=job, model=None, recipe=asdict(recipe), data=folder)
    run = TrainingRun(backend, work, folder, often, alive)  # type: ignore[arg-type]
    run.run()
    return run


def test_it_says_that_it_is_alive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, said, heard = Counted(), [], []

    def alive(evaluation: Evaluation | None) -> None:
        said.append(len(backend.rates))
        if evaluation is not None:
            heard.append(evaluation)
            assert (folder / evaluation_file(len(heard) - 1)).exists(), "the parent scores it at once"

    found = fit(backend, folder, monkeypatch, alive=alive)
    assert said[-1] == len(backend.rates), "after the last batch as well"
    assert len(said) >= 2, "in every epoch"
    assert heard == found.evaluations, "each when it is done"


def test_steps_and_copies_are_on_the_clock_and_evaluations_are_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Counted()
    found = fit(backend, folder, monkeypatch)
    assert found.seconds == 11 * 200
    assert backend.now > 11 * 200, "it was evaluated"
    assert [(p.epoch, p.seconds, p.split) for p in found.evaluations] == [(1, 1100, "test"), (2, 2200, "test")]
    assert not (folder / "test_y.npy").exists(), "it needs no labels of the test split"


def test_the_loss_of_a_point_is_the_mean_of_the_steps_since_the_last(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fit(Counted(), folder, monkeypatch)
    assert [point.train_loss for point in found.evaluations] == [np.mean(range(100)), np.mean(range(100, 200))]


def test_every_epoch_sees_every_image_that_is_not_held_out_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Counted()
    found = fit(backend, folder, monkeypatch, validation=0.1)
    first, second = backend.seen[:900], backend.seen[900:]
    assert sorted(first) == sorted(second) == list(range(900)), "the last tenth is never trained on"
    assert first != second
    assert {point.split for point in found.evaluations} == {"validation"}
    again = Counted()
    fit(again, folder, monkeypatch, validation=0.1)
    assert again.seen == backend.seen, "the same for every backend"


def test_rates_follow_the_schedule_over_the_whole_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Counted()
    fit(backend, folder, monkeypatch, schedule=Schedule("step", milestones=(0.5,)))
    assert backend.rates == pytest.approx([0.5] * 100 + [0.05] * 100)


def test_a_target_is_looked_for_four_times_an_epoch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = fit(Counted(), folder, monkeypatch, often=True)
    assert [point.epoch for point in found.evaluations] == [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert [np.load(folder / evaluation_file(number)).shape for number in range(8)] == 8 * [(TEST, 10)]


@pytest.mark.parametrize("batch_size", [1, 7, 10, 999, 1000, 5000])
def test_chunks_and_small_last_batches_lose_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    backend = Counted()
    found = fit(backend, folder, monkeypatch, batch_size=batch_size, epochs=1)
    assert sorted(backend.seen) == list(range(IMAGES))
    assert len(backend.rates) == -(-IMAGES // batch_size)
    assert len(found.evaluations) == 1
    assert batch_size > 10 or len(backend.rates) > CHUNK


def test_no_epochs_train_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Counted()
    found = fit(backend, folder, monkeypatch, epochs=0)
    assert (found.seconds, found.evaluations, backend.seen) == (0, [], [])

"""A training's first losses, and steps of it by the weights around them: of right trainings and of wrong ones."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from backends import reference
from backends.base import Optimizer, Training
from backends.model import Weights
from bench.runner.judges import trained as trained_module
from bench.runner.judges.result import Result
from bench.runner.judges.trained import PAIR, FirstLosses, TrainingJudge, Watched
from bench.worker.protocol import WATCHED_WEIGHTS, Job, Trained, Work, WorkerReport
from bench.worker.training import Split, TrainingRun
from bench.workloads.models import MODELS
from bench.workloads.recipe import Augmentation, Recipe, Schedule

MODEL = MODELS["article-pytorch"]
IMAGES, SEED = 150, 3
RECIPES = {
    "adam": Recipe("r", "adam", learning_rate=1e-3, batch_size=16, epochs=2),
    "adamw": Recipe("r", "adamw", learning_rate=1e-3, batch_size=16, epochs=2, weight_decay=0.1),
    "nesterov, cosine, augmented": Recipe(
        "r", "sgd", learning_rate=0.05, batch_size=16, epochs=2, momentum=0.9, nesterov=True, weight_decay=1e-3,
        schedule=Schedule("cosine"), augmentation=Augmentation(crop_padding=2, flip=True), validation=0.1,
    ),
    "plain": Recipe("r", "sgd", learning_rate=0.01, batch_size=16, epochs=2),
}  # fmt: skip
REPORT = WorkerReport(versions={}, settings={}, phases={}, peak_rss=1, life=1.0)


class Honest(reference.Adapter):
    """In float32: what a worker writes has few digits."""

    def weights(self) -> Weights:
        return {name: value.astype(np.float32) for name, value in super().weights().items()}


class SkipsUpdates(Honest):
    """Every second update, from the third step on."""

    calls: ClassVar[int] = 0

    def train_step(self, x: Any, y: Any, learning_rate: float, dropout_masks: Weights | None = None) -> float:
        self._steps = getattr(self, "_steps", 0) + 1
        if self._steps > 2 and self._steps % 2:
            return self._network.loss(x, y, {})
        return super().train_step(x, y, learning_rate)


class HalfOfABatch(Honest):
    """The gradient is of half of the images; the loss of all."""

    def train_step(self, x: Any, y: Any, learning_rate: float, dropout_masks: Weights | None = None) -> float:
        loss, half = self._network.loss(x, y, {}), len(x) // 2
        super().train_step(x[:half], y[:half], learning_rate)
        return loss


class HigherRate(Honest):
    """One tenth more than the recipe says: only a second training shows it."""

    def train_step(self, x: Any, y: Any, learning_rate: float, dropout_masks: Weights | None = None) -> float:
        return super().train_step(x, y, 1.1 * learning_rate)


class Freezes(Honest):
    """Stops to train at the end."""

    def train_step(self, x: Any, y: Any, learning_rate: float, dropout_masks: Weights | None = None) -> float:
        self._steps = getattr(self, "_steps", 0) + 1
        return super().train_step(x, y, learning_rate if self._steps < 17 else 0.0)


def judge_of(recipe: Recipe) -> TrainingJudge:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, size=(IMAGES, *MODEL.input_shape)).astype(np.uint8)
    labels = rng.integers(10, size=IMAGES - recipe.held_out(IMAGES))
    split = Split("train", pixels[: len(labels)], labels, recipe.mean, recipe.std)
    return TrainingJudge(MODEL, recipe, recipe.training, split, often=False)


def fit(judge: TrainingJudge, backend: Any, watched: Watched, folder: Path) -> tuple[Trained, Weights]:
    """What a worker does."""
    count = len(judge.split.pixels)
    pixels = np.concatenate([judge.split.pixels, judge.split.pixels[: IMAGES - count]])
    for name, array in {"train_x": pixels, "train_y": judge.split.labels, "test_x": pixels[:20]}.items():
        np.save(folder / f"{name}.npy", np.asarray(array))
    job = Job(backend="b", mode="m", model="m", dataset="d", recipe="r", threads=1, seed=SEED)
    work = Work(job=job, model=None, recipe=asdict(judge.recipe), data=folder)
    backend.build(MODEL, MODEL.initial_weights(SEED), judge.training)
    run = TrainingRun(backend, work, folder, watched=frozenset(watched.weights), asked=frozenset(watched.losses))
    run.run()
    losses = tuple(run.losses[step] for step in sorted(run.losses))
    return Trained(fit_seconds=1.0, evaluations=(), losses=losses, report=REPORT), backend.weights()


def judged(adapter: type[Honest], recipe: Recipe, folder: Path, pair: int = 5) -> Result:
    judge = judge_of(recipe)
    watched = Watched(judge.draw().first, (pair, judge.steps - PAIR))
    trained, saved = fit(judge, adapter("cpu", "fp64", adapter.MODES[0], 1, 0), watched, folder)
    return judge.judge("fp32", SEED, MODEL.initial_weights(SEED), saved, watched, trained, folder)


@pytest.mark.parametrize("name", RECIPES)
def test_a_right_training_passes(tmp_path: Path, name: str) -> None:
    check = judged(Honest, RECIPES[name], tmp_path)
    assert check.passed, check.note
    assert check.value < 0.3, check.note
    assert "first losses, steps 7, " in check.note


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("adapter", [SkipsUpdates, HalfOfABatch, HigherRate, Freezes])
def test_a_wrong_one_does_not(tmp_path: Path, adapter: type[Honest], name: str) -> None:
    check = judged(adapter, RECIPES[name], tmp_path)
    assert not check.passed, check.note


def test_the_weights_that_it_left_are_those_of_its_last_step(tmp_path: Path) -> None:
    judge = judge_of(RECIPES["adam"])
    watched = judge.draw()
    trained, saved = fit(judge, Honest("cpu", "fp64", Honest.MODES[0], 1, 0), watched, tmp_path)
    start = MODEL.initial_weights(SEED)
    assert judge.judge("fp32", SEED, start, saved, watched, trained, tmp_path).passed
    better = saved | {"dense_1.bias": saved["dense_1.bias"] + 1}
    check = judge.judge("fp32", SEED, start, better, watched, trained, tmp_path)
    assert not check.passed
    assert "worst: the weights that it left" in check.note
    with np.load(tmp_path / WATCHED_WEIGHTS) as stored:
        texts = {name: value.astype(str) for name, value in stored.items()}
    intact = (tmp_path / WATCHED_WEIGHTS).read_bytes()
    np.savez(tmp_path / WATCHED_WEIGHTS, **texts)
    assert not judge.judge("fp32", SEED, start, saved, watched, trained, tmp_path).passed, "no numbers"
    (tmp_path / WATCHED_WEIGHTS).write_bytes(intact)
    fewer = replace(trained, losses=trained.losses[1:])
    assert not judge.judge("fp32", SEED, start, saved, watched, fewer, tmp_path).passed
    (tmp_path / WATCHED_WEIGHTS).write_bytes(b"no archive")
    assert not judge.judge("fp32", SEED, start, saved, watched, trained, tmp_path).passed


def test_what_is_watched_is_drawn_and_fits_the_training() -> None:
    judge = judge_of(RECIPES["adam"])
    drawn = [judge.draw() for _ in range(50)]
    assert len({watched.pairs for watched in drawn}) > 5
    assert all(watched.pairs[-1] == judge.steps - PAIR for watched in drawn)
    assert all(watched.weights[-1] == judge.steps for watched in drawn)
    assert {watched.first for watched in drawn} == {judge.steps}, "it has fewer steps than are asked for"
    one_step = judge_of(replace(RECIPES["adam"], batch_size=IMAGES, epochs=1))
    assert one_step.draw() == Watched(0, ())


def test_what_the_reference_cannot_afford_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained_module, "MEMORY", 1.0)
    check = judged(HalfOfABatch, RECIPES["adam"], tmp_path)
    assert check.passed
    assert "0 first losses" in check.note
    assert check.note.endswith("only the movement of the weights is judged")


def test_with_dropout_only_the_movement_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(MODEL), "dropout_masks", lambda self, images, seed: {"dropout_1": np.ones(1)})
    judge = judge_of(RECIPES["adam"])
    assert judge.draw().first == 0
    assert judge.training == Training(Optimizer("adam"), 0.0, frozenset())
    assert not judged(Freezes, RECIPES["plain"], tmp_path).passed


def first_losses(strayed: list[float]) -> FirstLosses:
    """Of a training that changes each loss by 0.01, and of another that strays from it by so much."""
    untrained = np.full(len(strayed), 2.3)
    trained = untrained - 0.01 * (np.arange(len(strayed)) > 0)
    return FirstLosses(trained, trained + np.array(strayed), untrained)


def test_first_losses_are_judged_until_rounding_decides_them() -> None:
    """Training amplifies rounding: two correct frameworks part after some steps, whatever follows says nothing."""
    parted = [0.0, 1e-7, 1e-6, 1e-5, 1e-4, 2e-3, 1e-2]
    first = first_losses(parted)
    assert first.predictable == 5, "so long is the stray within a hundredth of what training has changed"
    got = list(first.off)
    assert first.error(got, first.predictable) < 0.02
    assert first.error(got, len(got)) > 0.05, "it would have been accused for the rest"
    assert first_losses([0.0] * 7).predictable == 7
    assert first_losses([0.0, 0.01, 0.01]).predictable == PAIR, "some are always judged"


def test_another_rate_is_seen_in_few_losses() -> None:
    first = first_losses([0.0, 1e-6, 1e-2, 1e-2])
    assert first.predictable == 2
    slower = [2.3, 2.3 - 0.009, 0.0, 0.0]
    assert first.error(slower, first.predictable) == pytest.approx(0.1)

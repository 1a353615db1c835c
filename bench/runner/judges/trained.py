"""The training of a recipe, whose accuracy is published: its first losses beside a second training by the reference;
and steps in its midst and at its end, by the weights before and after them.

The parent draws which steps, and draws the same batches from its own copy of the data.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Images, Labels, Training
from backends.model import ModelSpec, Weights
from backends.optimizers import forms
from backends.reference import Network
from bench.array_files import read_arrays
from bench.runner.judges.result import Result
from bench.runner.judges.training_steps import BACKWARD, FULL, StepJudge, TrainingSteps, share_of
from bench.worker.protocol import WATCHED_WEIGHTS, Trained
from bench.worker.reference_outputs import bytes_needed
from bench.worker.training import Batch, Split, chunk, chunk_bounds, interval_of
from bench.workloads.recipe import Recipe

NAME = "training"
PAIR = 2
"""Steps that are watched together: of two the second one's gradient is known (``training_steps``)."""
FIRST_FLOPS, FIRST_STEPS = 1e10, 30
"""The first losses are of as many steps as the reference makes in so many FLOPs, and of at most so many."""
PAIR_FLOPS = 2e11
"""A gradient that takes more is not judged."""
MEMORY = 4e9
"""Bytes that a gradient of the reference may take."""
FIRST_LOSSES = (0.05, 0.5)
"""The largest error of the first losses, as a share of what training has changed them by: in float32 or float64, and in
a lower precision."""

OFF, DIVERGED = 2e-5, 0.01
"""Training amplifies rounding: with Adam three to ten times in each of the first steps. In float32 or float64 the first
losses are judged as far as the reference with a learning rate that is off by ``OFF`` stays within ``DIVERGED`` of what
training has changed. (Keras' Adam computes 1 - beta2 in float32, which is off by 1.3e-5.)"""


@dataclass(frozen=True)
class Watched:
    """What the parent wants to see of a training: ``first`` losses, and pairs of steps, by the first of each."""

    first: int
    pairs: tuple[int, ...]

    @property
    def weights(self) -> tuple[int, ...]:
        """The steps before which weights are kept."""
        return tuple(sorted({pair + i for pair in self.pairs for i in range(PAIR + 1)}))

    @property
    def losses(self) -> tuple[int, ...]:
        """The steps whose losses are kept."""
        return tuple(sorted({*range(self.first), *(pair + i for pair in self.pairs for i in range(PAIR))}))


@dataclass(frozen=True)
class FirstLosses:
    """The first losses of the reference: of the recipe's training, of one whose learning rate is off by ``OFF``, and
    without training."""

    trained: npt.NDArray[np.float64]
    off: npt.NDArray[np.float64]
    untrained: npt.NDArray[np.float64]

    @property
    def predictable(self) -> int:
        """How many of them rounding does not decide; at least ``PAIR``, because the first is before any step."""
        changed = np.cumsum((self.trained - self.untrained) ** 2)
        strayed = np.cumsum((self.off - self.trained) ** 2)
        decided = np.flatnonzero(strayed > DIVERGED**2 * changed)
        return max(PAIR, int(decided[0]) if len(decided) else len(changed))

    def error(self, got: Sequence[float], count: int) -> float:
        """Of the first ``count``: ||got - trained|| / ||trained - untrained||."""
        changed = float(np.linalg.norm((self.trained - self.untrained)[:count]))
        error = float(np.linalg.norm((np.asarray(got) - self.trained)[:count]))
        return error / max(changed, np.finfo(np.float64).tiny)


@dataclass
class TrainingJudge:
    """Judges trainings of a run. ``split``: the training images, without those that are held out."""

    model: ModelSpec
    recipe: Recipe
    training: Training
    split: Split
    often: bool
    _references: dict[tuple[int, str], FirstLosses] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Number of steps of a whole training."""
        return self.recipe.steps(len(self.split.pixels))

    def draw(self) -> Watched:
        """What to watch of a training that begins now: the last steps, and others that are drawn."""
        last = self.steps - PAIR
        if last < 0:
            return Watched(0, ())
        pairs = tuple(sorted({last, secrets.randbelow(last + 1)}))
        affordable = FIRST_FLOPS / (BACKWARD * self.model.flops * self.recipe.batch_size + 1)
        first = min(FIRST_STEPS, self.steps, int(affordable)) if self._fits_into_memory else 0
        judge = StepJudge(self.model, self.training)
        return Watched(0 if judge.has_own_masks or first < PAIR else first, pairs)

    @property
    def _fits_into_memory(self) -> bool:
        return bytes_needed(self.model, 1) * self.recipe.batch_size <= MEMORY

    def judge(
        self,
        precision: str,
        seed: int,
        start: Weights,
        saved: Weights,
        watched: Watched,
        trained: Trained,
        folder: Path,
        followed: Sequence[str] = (),
    ) -> Result:
        """The worst of all errors, each as a share of the largest allowed. ``start``, ``saved``: the weights before the
        training and those that it left; ``followed``: the form of the optimizer that the certificate named, if any."""
        judge = StepJudge(self.model, self.training)
        losses = dict(zip(watched.losses, trained.losses, strict=False))
        if len(trained.losses) != len(watched.losses):
            return Result(NAME, float("inf"), 1, f"{len(trained.losses)} losses, not {len(watched.losses)}")
        try:
            weights = _by_step(folder / WATCHED_WEIGHTS)
        except ValueError as unreadable:
            return Result(NAME, float("inf"), 1, f"the worker's {unreadable}")
        shares: dict[str, float] = {}
        affordable = BACKWARD * self.model.flops * self.recipe.batch_size <= PAIR_FLOPS and self._fits_into_memory
        for pair in watched.pairs:
            steps = self._steps(seed, pair, losses, weights)
            if judge.incomplete(steps):
                return Result(NAME, float("inf"), 1, f"weights of step {pair + 1} are missing")
            judged = () if judge.has_own_masks or not affordable else (PAIR - 1,)
            found = judge.shares(precision, steps, judged)
            found |= judge.drops_nothing(precision, steps) if affordable else {}
            shares |= {f"{name}, step {pair + PAIR}": share for name, share in found.items()}
        end = weights[self.steps]
        unlike = sum(not np.array_equal(end[name], saved[name]) for name in self.model.weight_shapes)
        shares["the weights that it left"] = 0.0 if unlike == 0 else float("inf")
        if watched.first:
            got = [losses[step] for step in range(watched.first)]
            error, count = self._error(seed, start, got, followed, precision in FULL)
            shares[f"first {count} losses"] = share_of(error, FIRST_LOSSES[0 if precision in FULL else 1])
        worst = max(shares, key=lambda name: shares[name])
        note = f"{watched.first} first losses, steps {', '.join(str(pair + PAIR) for pair in watched.pairs)}"
        note += f" of {self.steps}; worst: {worst}"
        if not affordable:
            note += "; too large for the reference: only the movement of the weights is judged"
        return Result(NAME, shares[worst], 1, note)

    def _steps(self, seed: int, pair: int, losses: dict[int, float], weights: dict[int, Weights]) -> TrainingSteps:
        steps = range(pair, pair + PAIR)
        return TrainingSteps(
            [self._batch(seed, step) for step in steps],
            [self.recipe.rate(step, self.steps) for step in steps],
            pair,
            [losses[step] for step in steps],
            [weights.get(step, {}) for step in (*steps, pair + PAIR)],
        )

    def _batch(self, seed: int, step: int) -> Batch:
        """The batch of a step, as every worker draws it."""
        per_epoch = self.steps // self.recipe.epochs
        epoch, place = divmod(step, per_epoch)
        bounds = chunk_bounds(per_epoch, interval_of(per_epoch, self.often))
        start, stop = next((start, stop) for start, stop in bounds if place < stop)
        return chunk(self.split, self.recipe, seed, epoch, start, stop)[place - start]

    def _error(
        self, seed: int, start: Weights, got: Sequence[float], followed: Sequence[str], full: bool
    ) -> tuple[float, int]:
        """||got - want|| / ||want - untrained||: of the losses, as a share of what training has changed them by; and of
        how many losses. ``full``: only those that rounding does not decide."""
        errors = []
        for form in followed or forms(self.training.optimizer):
            if (seed, form) not in self._references:
                self._references[seed, form] = self._train(seed, start, len(got), form)
            first = self._references[seed, form]
            count = first.predictable if full else len(got)
            errors.append((first.error(got, count), count))
        return min(errors)

    def _train(self, seed: int, start: Weights, count: int, form: str) -> FirstLosses:
        """The losses of the reference's trainings on the first batches."""
        trained, off = (_Training(Network(self.model, start, self.training)) for _ in range(2))
        untrained = Network(self.model, start, self.training)
        losses: list[tuple[float, float, float]] = []
        for step in range(count):
            x, y = self._batch(seed, step)
            rate = self.recipe.rate(step, self.steps)
            losses.append(
                (trained.step(x, y, rate, form), off.step(x, y, rate * (1 + OFF), form), untrained.loss(x, y, {}))
            )
        return FirstLosses(*np.array(losses).T)


@dataclass
class _Training:
    """The reference, with the state of its optimizer."""

    network: Network
    state: dict[str, Any] = field(default_factory=dict)

    def step(self, x: Images, y: Labels, rate: float, form: str) -> float:
        return self.network.train_step(x, y, rate, self.state, form)


def _by_step(path: Path) -> dict[int, Weights]:
    """Weights by step, of a file with arrays named ``STEP NAME``."""
    weights: dict[int, Weights] = {}
    for key, array in read_arrays(path).items():
        step, _, name = key.partition(" ")
        weights.setdefault(int(step), {})[name] = array
    return weights

"""Successive training steps, held against the float64 reference.

What a step must be follows from the weights before it and its batch, but an optimizer also has a state, which nobody
else knows. Two successive steps tell what the second one's gradient was:

- SGD: with ``d`` the change of a weight in a step, ``d[t+1] = momentum d[t] - rate (g[t+1] + decay w[t+1])``; where the
  rate changes, one published form of momentum scales ``d[t]`` with it. With Nesterov's, the velocity is solved for
  first.
- Adam: with ``u`` the change over the rate, ``beta1 u[t] - u[t+1]`` is ``(1 - beta1) g[t+1]`` over a positive number,
  so that its sign is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from backends.base import Images, Labels, Optimizer, Training
from backends.model import ModelSpec, Weights
from backends.optimizers import MOMENTUM_FORMS
from backends.reference import Network

Vector: TypeAlias = npt.NDArray[np.float64]
BACKWARD = 3
"""FLOPs of a gradient over those of inference."""
FULL = {"fp32", "fp64"}
ALLOWED = {
    "loss": (1e-4, 5e-2),
    "gradient": (5e-2, 5e-1),
    "signs of the gradient": (1e-2, 1.5e-1),
    "weights": (0, 0),
}
"""The largest errors, in float32 or float64 and in a lower precision: of a loss and of SGD's gradient relative to the
reference's (a change that is read from float32 weights has few digits); the share of signs that differ, weighted by
size; weights that stand still, or move and should not."""
LEAST_LOSS = 0.3
"""Nats. Of a network that is sure of its answers the loss is tiny, but the rounding of its logits is not: errors of
smaller losses are a share of this."""
NOTHING_DROPPED = 1e-5
"""Of a step that drops nothing, the loss is as near as this to that without dropout (relative). Under masks it is a
hundred times as far, usually, and in all steps of a few at least once."""
ROUNDING = 0.0005
"""A change is read from float32 weights with this relative error at most."""
DIGITS = 2.0**-23
"""Of a float32 weight."""


@dataclass(frozen=True)
class TrainingSteps:
    """Successive steps of one worker."""

    batches: Sequence[tuple[Images, Labels]]
    rates: Sequence[float]
    earlier: int
    """Steps that the optimizer has made before them, at least."""
    losses: Sequence[float]
    weights: Sequence[Weights]
    """Before the first step and after each."""


@dataclass(frozen=True)
class StepJudge:
    """Judges steps of one model and optimizer."""

    model: ModelSpec
    training: Training
    parts: int = 1
    """In which each batch is normalized (``Network``)."""

    def incomplete(self, steps: TrainingSteps) -> bool:
        """Whether losses or weights are missing, are no numbers, or have other shapes."""
        counts = (len(steps.losses), len(steps.rates), len(steps.weights) - 1)
        return set(counts) != {len(steps.batches)} or any(not are_of(self.model, each) for each in steps.weights)

    def shares(self, precision: str, steps: TrainingSteps, judged: Sequence[int]) -> dict[str, float]:
        """Errors as shares of the largest allowed: of the weights' movement in all steps; the worst of the loss and the
        gradient of the ``judged`` ones (the second or later ones)."""
        odd = sum(
            self.oddly_moved(before, after)
            for before, after, rate in zip(steps.weights, steps.weights[1:], steps.rates, strict=False)
            if rate > 0
        )
        errors = {"weights": float(odd)}
        for step in judged:
            if steps.rates[step - 1] > 0 and steps.rates[step] > 0:
                found = self._errors(steps, step)
                errors |= {name: largest(error, errors.get(name, 0.0)) for name, error in found.items()}
        side = 0 if precision in FULL else 1
        return {name: share_of(error, ALLOWED[name][side]) for name, error in errors.items()}

    @property
    def has_own_masks(self) -> bool:
        """Whether a framework draws masks of dropout that nobody else knows: then no loss or gradient can be judged,
        only that something is dropped."""
        return bool(self.model.dropout_masks(1, 0))

    def drops_nothing(self, precision: str, steps: TrainingSteps) -> dict[str, float]:
        """Whether the losses of all steps are those without dropout, as a share of what is allowed (infinite or 0).
        Empty if the model drops nothing, or in a lower precision, which cannot tell."""
        masks = self.model.dropout_masks(len(steps.batches[0][0]), 0)
        if precision not in FULL or all((mask == 1).all() for mask in masks.values()):
            return {}
        for loss, weights, (x, y) in zip(steps.losses, steps.weights, steps.batches, strict=False):
            without = Network(self.model, weights, self.training, self.parts).loss(x, y, {})
            if abs(loss - without) > NOTHING_DROPPED * max(without, LEAST_LOSS):
                return {"dropout": 0.0}
        return {"dropout": float("inf")}

    @property
    def _trained(self) -> list[str]:
        return [name for name in self.model.trained if name not in self.training.frozen]

    def oddly_moved(self, before: Weights, after: Weights) -> int:
        """How many trained weights stood still in a step, and frozen ones moved. (The bias before a batch normalization
        has no gradient: only rounding moves it.)"""
        still = {name for name in self.model.trained if np.array_equal(before[name], after[name])}
        may_stand = {name for name in still if self.model.normalizes and name.endswith(".bias")}
        return len(still - self.training.frozen - may_stand) + len(self.training.frozen - still)

    def _errors(self, steps: TrainingSteps, step: int) -> dict[str, float]:
        """Of this step: its loss, and the gradient that its update was made of."""
        loss, want = self._loss_and_slopes(steps, step)
        options = self.training.optimizer
        before, now = self._changes(steps, step - 1), self._changes(steps, step)
        error = {"loss": abs(steps.losses[step] - loss) / max(abs(loss), LEAST_LOSS)}
        if options.name != "sgd":
            made = options.beta1 * before.over_rate - now.over_rate
            unknown = drift(options, steps.earlier + step) * np.abs(before.over_rate)
            unknown += options.beta1 * before.rounding + now.rounding
            made[np.abs(made) < unknown] = np.nan
            return error | {"signs of the gradient": _share_of_other_signs(made, want)}
        size = max(float(np.linalg.norm(want)), 1e-30)
        errors = (float(np.linalg.norm(made - want)) for made in self._gradients_of_sgd(steps, step, before, now))
        rounding = float(np.linalg.norm(options.momentum * before.rounding + now.rounding))
        return error | {"gradient": max(0.0, min(errors) - rounding) / size}

    def _gradients_of_sgd(self, steps: TrainingSteps, step: int, before: Change, now: Change) -> list[Vector]:
        """What the update was made of, in each form of momentum: they differ where the rate changes."""
        options, made = self.training.optimizer, []
        for form in MOMENTUM_FORMS:
            scale = 1.0 if form == "rate-outside" else steps.rates[step - 1] / steps.rates[step]
            if options.nesterov and options.momentum:
                velocity = (-before.over_rate - self._loss_and_slopes(steps, step - 1)[1]) / options.momentum
                carried = options.momentum**2 * scale * velocity
                made.append((-now.over_rate - carried) / (1 + options.momentum))
            else:
                made.append(options.momentum * scale * before.over_rate - now.over_rate)
        return made

    def _loss_and_slopes(self, steps: TrainingSteps, step: int) -> tuple[float, Vector]:
        """The loss before a step, and the gradient with the weight decay that belongs to it."""
        at = steps.weights[step]
        network = Network(self.model, at, self.training, self.parts)
        loss, gradients = network.gradients(*steps.batches[step])
        options = self.training.optimizer
        decay = 0.0 if options.name == "adamw" else options.weight_decay
        return loss, np.concatenate([np.ravel(gradients[n] + decay * at[n].astype(np.float64)) for n in self._trained])

    def _changes(self, steps: TrainingSteps, step: int) -> Change:
        """What a step changed, without decoupled weight decay."""
        options, rate = self.training.optimizer, steps.rates[step]
        decay = rate * options.weight_decay if options.name == "adamw" else 0.0
        old, new = (
            np.concatenate([np.ravel(side[n].astype(np.float64)) for n in self._trained])
            for side in (steps.weights[step], steps.weights[step + 1])
        )
        return Change((new - (1 - decay) * old) / rate, DIGITS * np.maximum(np.abs(old), np.abs(new)) / rate)


def are_of(model: ModelSpec, weights: Weights) -> bool:
    """Whether weights that a worker wrote are numbers with the names and shapes of a model's."""
    shapes = {name: value.shape for name, value in weights.items() if value.dtype.kind in "fiu"}
    return len(shapes) == len(weights) and shapes == dict(model.weight_shapes)


@dataclass(frozen=True)
class Change:
    """What a step changed the trained weights by, over its rate, and the largest part of that that may be rounding."""

    over_rate: Vector
    rounding: Vector


def drift(options: Optimizer, number: int) -> float:
    """The share of the last change below which Adam's difference of two changes tells no sign, ``number`` updates after
    its state began.

    The root of the second moment falls by at most half of (1 - beta2) / (1 - beta2^(n+1)), where a gradient is zero;
    where it rises, the gradient that lifts it has the larger part in the difference. The first moment's bias correction
    changes by at most (1 - beta1) beta1^n / (1 - beta1^n).
    """
    falls = (1 - options.beta2) / (1 - options.beta2 ** (number + 1)) / 2
    corrected = (1 - options.beta1) * options.beta1**number / (1 - options.beta1**number)
    return options.beta1 * (falls + corrected) + ROUNDING


def largest(one: float, other: float) -> float:
    """NaN if one is: no comparison would see it."""
    return float(np.maximum(one, other))


def share_of(error: float, allowed: float) -> float:
    """Infinite where the error is no number: no comparison would see it."""
    if not np.isfinite(error):
        return float("inf")
    return error / allowed if allowed else (0.0 if error == 0 else float("inf"))


def _share_of_other_signs(made: Vector, want: Vector) -> float:
    """Weighted by the size of what is wanted; what is not known (NaN) counts as right."""
    size, other = np.abs(want), np.sign(made) * np.sign(want) < 0
    return float(size[other].sum() / max(float(size.sum()), 1e-30))

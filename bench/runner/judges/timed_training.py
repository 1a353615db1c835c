"""Training steps that follow the timed ones, held against the float64 reference.

When the last slice of a training metric is over, the worker is asked, unannounced, for a few more steps on inputs that
it has not seen, with the weights before and after each. Its optimizer is in a state that nobody else knows. But two
successive steps tell what the second one's gradient was:

- SGD: with ``d`` the change of a weight in a step, ``d[t+1] = momentum d[t] - rate (g[t+1] + decay w[t+1])``, in both
  forms of momentum as long as the rate stays; with Nesterov's, the velocity is solved for first.
- Adam: ``d[t+1] - beta1 d[t]`` is ``-rate (1 - beta1) g[t+1]`` over a positive number, so that its sign is known.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from backends.base import Images, Labels, Optimizer, Training
from backends.model import ModelSpec, Weights
from backends.reference import Network
from bench.runner.judges.result import Result
from bench.worker.array_files import read_arrays
from bench.worker.protocol import Close, Closed
from bench.worker.reference_outputs import LONG_PEAKS, bytes_needed
from bench.worker.timed_inputs import Draw

Vector: TypeAlias = npt.NDArray[np.float64]
NAME = "timed_training"
STEPS = 3
FLOPS = 2e10
"""The reference computes a gradient of as many images as fit into so many FLOPs."""
MEMORY = 1e9
"""Bytes that it may take for that."""
BACKWARD = 3
"""FLOPs of a gradient over those of inference."""
FULL = {"fp32", "fp64"}
ALLOWED = {"loss": (1e-4, 5e-2), "gradient": (5e-2, 5e-1), "signs of the gradient": (1e-2, 1.5e-1), "weights": (0, 0)}
"""The largest errors, in float32 or float64 and in a lower precision: of a loss and of SGD's gradient relative to the
reference's (a change that is read from float32 weights has few digits); the share of signs that differ, weighted by
size; weights that stand still, or move and should not."""
ROUNDING = 0.0005
"""A change is read from float32 weights with this relative error at most."""


def images_of_a_step(model: ModelSpec, batch_size: int) -> int:
    """The batch size of the steps: that of the timed ones, or what the reference can afford."""
    affordable = min(FLOPS / (BACKWARD * max(model.flops, 1)), MEMORY / bytes_needed(model, 1))
    return max(1, min(batch_size, int(affordable)))


@dataclass(frozen=True)
class ClosingSteps:
    """The steps of one worker: what decides their inputs, their losses, and the weights around them."""

    seed: int
    size: int
    earlier: int
    """Steps that the optimizer has made before them, at least."""
    losses: tuple[float, ...]
    weights: tuple[Weights, ...]
    """Before the first step and after each."""

    @classmethod
    def read(cls, request: Close, closed: Closed, earlier: int) -> ClosingSteps:
        """From the worker's answer and the file that it wrote."""
        arrays = read_arrays(request.out)
        weights: list[Weights] = [{} for _ in range(request.steps + 1)]
        for name, array in arrays.items():
            number, _, weight = name.partition(" ")
            weights[int(number)][weight] = array
        return cls(request.seed, request.size, earlier, closed.losses, tuple(weights))


@dataclass(frozen=True)
class TimedTraining:
    """Judges the closing steps of a run's rows. ``images``, ``labels``: the sample that their inputs are drawn from."""

    model: ModelSpec
    training: Training
    images: Images
    labels: Labels

    def judge(self, precision: str, request: Close, closed: Closed, earlier: int) -> Result:
        """The worst of all errors, each as a share of the largest allowed. ``earlier``: how many steps the worker's
        optimizer has made before these, at least."""
        try:
            steps = ClosingSteps.read(request, closed, earlier)
        except (ValueError, IndexError) as error:
            return Result(NAME, float("inf"), 1, f"its steps cannot be read: {error}")
        shapes = [{name: value.shape for name, value in each.items()} for each in steps.weights]
        if len(steps.losses) != STEPS or any(each != dict(self.model.weight_shapes) for each in shapes):
            return Result(NAME, float("inf"), 1, "losses or weights are missing")
        errors = {"weights": float(sum(map(self._oddly_moved, steps.weights, steps.weights[1:])))}
        if not self.model.dropout_masks(1, 0):  # else a gradient is of masks that nobody knows
            errors |= self._errors(steps, 1 + secrets.randbelow(STEPS - 1))
        side = 0 if precision in FULL else 1
        shares = {name: _share(error, ALLOWED[name][side]) for name, error in errors.items()}
        worst = max(shares, key=lambda name: shares[name])
        note = f"{STEPS} steps after the timed ones, on {steps.size} images each; worst: {worst} {errors[worst]:.1e}"
        return Result(NAME, shares[worst], 1, note)

    @property
    def rate(self) -> float:
        """The learning rate of the steps: one that moves float32 weights by many of their digits."""
        return LONG_PEAKS[self.training.optimizer.name]

    @property
    def _trained(self) -> list[str]:
        return [name for name in self.model.trained if name not in self.training.frozen]

    def _oddly_moved(self, before: Weights, after: Weights) -> int:
        """How many trained weights stood still in a step, and frozen ones moved. (The bias before a batch normalization
        has no gradient: only rounding moves it.)"""
        still = {name for name in self.model.trained if np.array_equal(before[name], after[name])}
        may_stand = {name for name in still if self.model.normalizes and name.endswith(".bias")}
        return len(still - self.training.frozen - may_stand) + len(self.training.frozen - still)

    def _errors(self, steps: ClosingSteps, step: int) -> dict[str, float]:
        """Of this step (the second or a later one): its loss, and the gradient that its update was made of."""
        loss, want = self._loss_and_slopes(steps, step)
        options, rate = self.training.optimizer, self.rate
        before, now = self._changes(steps, step - 1), self._changes(steps, step)
        error = {"loss": abs(steps.losses[step] - loss) / max(abs(loss), 1e-3)}
        if options.name != "sgd":
            made = options.beta1 * before - now
            made[np.abs(made) < drift(options, steps.earlier + step) * np.abs(before)] = np.nan
            return error | {"signs of the gradient": _share_of_other_signs(made, want)}
        made = (options.momentum * before - now) / rate
        if options.nesterov and options.momentum:
            velocity = (-before / rate - self._loss_and_slopes(steps, step - 1)[1]) / options.momentum
            made = (-now / rate - options.momentum**2 * velocity) / (1 + options.momentum)
        return error | {"gradient": float(np.linalg.norm(made - want) / max(float(np.linalg.norm(want)), 1e-30))}

    def _loss_and_slopes(self, steps: ClosingSteps, step: int) -> tuple[float, Vector]:
        """The loss before a step, and the gradient with the weight decay that belongs to it."""
        draw, at = Draw.of(steps.seed, len(self.images), steps.size, STEPS), steps.weights[step]
        x, y = draw.batch(self.images, step), self.labels[draw.index[step]]
        loss, gradients = Network(self.model, at, self.training).gradients(x, y)
        options = self.training.optimizer
        decay = 0.0 if options.name == "adamw" else options.weight_decay
        return loss, np.concatenate([np.ravel(gradients[n] + decay * at[n].astype(np.float64)) for n in self._trained])

    def _changes(self, steps: ClosingSteps, step: int) -> Vector:
        """What a step changed, without decoupled weight decay."""
        options = self.training.optimizer
        decay = self.rate * options.weight_decay if options.name == "adamw" else 0.0
        before, after = steps.weights[step], steps.weights[step + 1]
        parts = [after[n].astype(np.float64) - (1 - decay) * before[n].astype(np.float64) for n in self._trained]
        return np.concatenate([np.ravel(part) for part in parts])


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


def _share(error: float, allowed: float) -> float:
    """Infinite where the error is no number: no comparison would see it."""
    if not np.isfinite(error):
        return float("inf")
    return error / allowed if allowed else (0.0 if error == 0 else float("inf"))


def _share_of_other_signs(made: Vector, want: Vector) -> float:
    """Weighted by the size of what is wanted; what is not known (NaN) counts as right."""
    size, other = np.abs(want), np.sign(made) * np.sign(want) < 0
    return float(size[other].sum() / max(float(size.sum()), 1e-30))

"""What the reference says in a certificate, and of what: the images, the weights, and the steps that are tried.

Runs in the worker (NumPy only).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Images, Labels, Optimizer, Training
from backends.model import BatchNorm, ModelSpec, Weights
from backends.optimizers import forms
from backends.reference import Network
from bench.workloads.recipe import Recipe

BATCH = 128
NORMALIZED_BATCH = 8
"""Images of a model with batch normalization: see ``clear_batch``."""
STEPS = 5
RAISED = 3.0
"""Of a normalized value's standard deviations: a thousandth of them is below zero, and still tests the ReLU."""
PEAKS = {"sgd": 1e-3, "adam": 1e-4, "adamw": 1e-4}
"""Learning rate of a certificate by optimizer: larger ones amplify rounding from step to step, and prove no more."""
LEAST_DECAY = 1.0
"""Weight decay of a certificate where the recipe has one: a usual one is lost in rounding at these rates and steps."""
MASK_SEED = 7
"""Of dropout's masks."""
SGD = Optimizer("sgd", momentum=0.9)
ADAM = Optimizer("adam")


def clear_batch(model: ModelSpec, weights: Weights, x: Images, masks: Weights) -> npt.NDArray[np.int64]:
    """Indices of the images that are farthest from a kink of ReLU or max pooling, in their order.

    Float32 may decide a kink otherwise than float64, and a single such decision moves the gradient of a correct
    framework by 1e-4; with images that decide clearly the tolerance can be a tenth of that. Where batch normalization
    makes an image's values depend on its batch, whole batches compete, smaller ones: in a batch of 128 images of a
    deep network some decision is always close.
    """
    network = Network(model, weights)
    size = min(NORMALIZED_BATCH if model.normalizes else 64, len(x))
    pieces = [np.arange(start, start + size) for start in range(0, len(x) - size + 1, size)]
    distances = [network.kink_distance(x[piece], rows(masks, piece)) for piece in pieces]
    if model.normalizes:
        return pieces[int(np.argmax([nearest.min() for nearest in distances]))]
    return np.sort(np.argsort(-np.concatenate(distances), kind="stable")[:BATCH])


def off_the_kinks(model: ModelSpec, weights: Weights) -> Weights:
    """The weights with every beta of batch normalization raised by ``RAISED``: what follows is seldom near zero.

    At a deep network's usual weights some of its ReLUs always decide by rounding, each of which moves the gradient of
    a correct framework by 1e-3, and steps of training amplify that. What is computed is the same whatever the weights.
    """
    betas = {f"{placed.name}.beta" for placed in model.walk() if isinstance(placed.layer, BatchNorm)}
    return {name: value + np.float32(RAISED) if name in betas else value for name, value in weights.items()}


def rows(masks: Weights, index: npt.NDArray[np.int64] | slice) -> Weights:
    """Dropout's masks of some of the images."""
    return {name: mask[index] for name, mask in masks.items()}


@dataclass(frozen=True)
class Trial:
    """What a recipe has a backend do in a certificate: ``STEPS`` steps of SGD and as many of Adam, at the rates of its
    schedule, drawn together into so few steps and with a peak of ``PEAKS``. Of the two, the recipe's own optimizer has
    its own settings, a weight decay of ``LEAST_DECAY`` at least."""

    recipe: Recipe
    frozen: frozenset[str] = frozenset()

    def rates(self, training: Training) -> list[float]:
        """Of every step of ``sgd`` or ``adam``."""
        peak = PEAKS[training.optimizer.name]
        return [peak * self.recipe.schedule.factor(step, STEPS) for step in range(STEPS)]

    @property
    def sgd(self) -> Training:
        """The recipe's SGD, or a usual one."""
        return self._training(SGD)

    @property
    def adam(self) -> Training:
        """The recipe's Adam or AdamW, or the usual Adam."""
        return self._training(ADAM)

    def _training(self, usual: Optimizer) -> Training:
        own = self.recipe.training
        same_kind = (own.optimizer.name == "sgd") == (usual.name == "sgd")
        optimizer = own.optimizer if same_kind else usual
        if optimizer.weight_decay:
            optimizer = replace(optimizer, weight_decay=max(optimizer.weight_decay, LEAST_DECAY))
        return Training(optimizer, own.label_smoothing, self.frozen)


@dataclass(frozen=True)
class Expected:
    """What the reference says: the batch, its logits in evaluation and its gradients in training mode, the losses of
    ``STEPS`` steps of either optimizer in both of its forms, and the running statistics after those of SGD."""

    x: Images
    y: Labels
    masks: Weights
    """Of dropout, for these images."""
    logits: npt.NDArray[np.float64]
    gradients: Weights
    losses: dict[str, list[float]]
    """By form (``backends.optimizers``)."""
    statistics: dict[str, Weights]
    """By form of momentum and which variance is kept, ``population`` (over N) or ``sample`` (over N - 1)."""

    @classmethod
    def of(cls, path: Path, model: ModelSpec, weights: Weights, x: Images, y: Labels, trial: Trial) -> Expected:
        """From ``path``, where the first certificate of a run leaves it for the others, or computed of the images and
        labels given (see ``clear_batch``)."""
        if path.exists():
            return cls._read(path)
        masks = model.dropout_masks(len(x), MASK_SEED)
        chosen = clear_batch(model, weights, x, masks)
        expected = cls._compute(model, weights, x[chosen], y[chosen], rows(masks, chosen), trial)
        expected._write(path)
        return expected

    @classmethod
    def _compute(
        cls, model: ModelSpec, weights: Weights, x: Images, y: Labels, masks: Weights, trial: Trial
    ) -> Expected:
        losses: dict[str, list[float]] = {}
        statistics: dict[str, Weights] = {}
        for training in (trial.sgd, trial.adam):
            for form in forms(training.optimizer):
                network, state = Network(model, weights, training), dict[str, Any]()
                losses[form] = [network.train_step(x, y, rate, state, form, masks) for rate in trial.rates(training)]
                if training.optimizer.name == "sgd":
                    statistics |= {f"{form} {kind}": found for kind, found in _statistics(network).items()}
        start = Network(model, weights, trial.sgd)
        gradients = start.gradients(x, y, masks)[1]
        return cls(x, y, masks, start.logits(x), gradients, losses, statistics)

    def _write(self, path: Path) -> None:
        arrays: dict[str, Any] = {"x": self.x, "y": self.y, "logits": self.logits}
        arrays |= {f"gradient {name}": value for name, value in self.gradients.items()}
        arrays |= {f"losses {name}": np.asarray(value) for name, value in self.losses.items()}
        arrays |= {f"mask {name}": value for name, value in self.masks.items()}
        for kind, found in self.statistics.items():
            arrays |= {f"statistics {kind}/{name}": value for name, value in found.items()}
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **arrays)
        partial.replace(path)  # a worker that is killed meanwhile leaves no half file

    @classmethod
    def _read(cls, path: Path) -> Expected:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)

        def part(of: str) -> Weights:
            return {name.removeprefix(of): value for name, value in arrays.items() if name.startswith(of)}

        losses = {name: value.tolist() for name, value in part("losses ").items()}
        statistics: dict[str, Weights] = {}
        for name, value in part("statistics ").items():
            kind, _, weight = name.partition("/")
            statistics.setdefault(kind, {})[weight] = value
        gradients, masks = part("gradient "), part("mask ")
        return cls(arrays["x"], arrays["y"], masks, arrays["logits"], gradients, losses, statistics)


def _statistics(network: Network) -> dict[str, Weights]:
    population = {n: v for n, v in network.weights.items() if n not in network.model.trained}
    return {"population": population, "sample": population | network.sample_variance}

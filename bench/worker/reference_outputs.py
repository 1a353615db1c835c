"""The expected values of a certificate: the images, weights and steps that are compared, and the reference's outputs.

Runs in the worker (NumPy only).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Images, Labels, Optimizer, Training
from backends.model import BatchNorm, Conv2D, Dense, Flatten, ModelSpec, Weights
from backends.optimizers import forms
from backends.reference import Network
from bench.array_files import read_arrays
from bench.workloads.recipe import Recipe

BATCH = 128
NORMALIZED_BATCH = 8
"""Batch size for a model with batch normalization: see ``select_images``."""
STEPS = 5
TEMPORARY = 1.5
"""Memory of the reference over what its backward pass keeps. The measured peak is 0.86 to 1.28 of the estimate
(article-keras, article-pytorch at 32x32 and 64x64, resnet20)."""
RAISED = 3.0
"""Standard deviations of a normalized value: one in a thousand is still below zero, which tests the ReLU."""
PEAKS = {"sgd": 1e-3, "adam": 1e-4, "adamw": 1e-4}
"""Peak learning rate of a certificate by optimizer. Larger ones amplify rounding from step to step and test no more."""
LEAST_DECAY = 1.0
"""Smallest weight decay of a certificate if the recipe has one. A usual one would be hidden by rounding."""
MOST_PARTS = 8
MASK_SEED = 7
"""The seed of dropout's masks."""
DRAWS, DRAWN_FLOPS = 64, 2e10
"""Draws of dropout's masks, and the FLOPs that all of their losses may take."""
LONG_MODEL = ModelSpec("long-trial", (6, 6, 2), (Conv2D(3, 3), Flatten(), Dense(8), Dense(10)))
"""The model of the long trial. It has no kink: in a network with ReLU, rounding decides some units, and after hundreds
of steps correct frameworks are as far apart as wrong ones."""
LONG_STEPS, LONG_BATCH, LONG_SEED = 200, 16, 11
LONG_PEAKS = {"sgd": 1e-2, "adam": 1e-3, "adamw": 1e-3}
"""Peak learning rates that move float32 weights by many of their digits, whatever the recipe's rate is."""
CHANNELS = (3.0, 3e-4)
"""Scales of the two channels of the long trial's images. Gradients of the first are large, so that clipping is seen;
those of the second are small, so that Adam's epsilon is."""
SGD = Optimizer("sgd", momentum=0.9)
ADAM = Optimizer("adam")


def select_images(
    model: ModelSpec, weights: Weights, x: Images, masks: Weights, parts: int = 1
) -> npt.NDArray[np.int64]:
    """Indices of the images that are farthest from a kink of ReLU or max pooling, in ascending order.

    Float32 and float64 may be on different sides of a kink, and one such case changes the gradient of a correct
    framework by 1e-4. With images far from all kinks the tolerance can be a tenth of that. With batch normalization an
    image's values depend on its batch, so whole small batches are selected: in a batch of 128 images a deep network is
    always close to some kink.
    """
    network = Network(model, weights, parts=parts)
    size = min(NORMALIZED_BATCH if model.normalizes else 64, len(x))
    batches = [np.arange(start, start + size) for start in range(0, len(x) - size + 1, size)]
    distances = [network.kink_distance(x[batch], select_masks(masks, batch)) for batch in batches]
    if model.normalizes:
        return batches[int(np.argmax([nearest.min() for nearest in distances]))]
    return np.sort(np.argsort(-np.concatenate(distances), kind="stable")[:BATCH])


def raise_betas(model: ModelSpec, weights: Weights) -> Weights:
    """The weights with every beta of batch normalization raised by ``RAISED``: inputs of ReLU are then rarely near
    zero.

    With usual weights, rounding always decides the sign of some ReLU inputs of a deep network. Each changes the
    gradient of a correct framework by 1e-3, and training steps amplify that. The computation is the same for all
    weights.
    """
    betas = {f"{placed.name}.beta" for placed in model.walk() if isinstance(placed.layer, BatchNorm)}
    return {name: value + np.float32(RAISED) if name in betas else value for name, value in weights.items()}


def images_of_draws(model: ModelSpec, images: int) -> int:
    """How many images the losses under drawn masks are of."""
    count = min(images, max(2, int(DRAWN_FLOPS / (DRAWS * max(model.flops, 1)))))
    return whole_parts(count)


def whole_parts(images: int) -> int:
    """A multiple of the largest number of processes that share a batch, where there are so many images."""
    return images - images % MOST_PARTS or images


def select_masks(masks: Weights, index: npt.NDArray[np.int64] | slice) -> Weights:
    """Dropout's masks of the images at ``index``."""
    return {name: mask[index] for name, mask in masks.items()}


@dataclass(frozen=True)
class Trial:
    """The training steps of a certificate: ``STEPS`` steps of SGD and as many of Adam. The rates follow the recipe's
    schedule, compressed to these steps and with a peak of ``PEAKS``. The recipe's own optimizer keeps its settings; a
    weight decay is raised to at least ``LEAST_DECAY``."""

    recipe: Recipe
    frozen: frozenset[str] = frozenset()

    def rates(self, training: Training) -> list[float]:
        """The learning rate of each step of ``sgd`` or ``adam``."""
        peak = PEAKS[training.optimizer.name]
        return [peak * self.recipe.schedule.factor(step, STEPS) for step in range(STEPS)]

    def long_rates(self) -> list[float]:
        """The learning rate of each step of the long trial, by the recipe's schedule."""
        peak = LONG_PEAKS[self.long.optimizer.name]
        return [peak * self.recipe.schedule.factor(step, LONG_STEPS) for step in range(LONG_STEPS)]

    @property
    def long(self) -> Training:
        """The recipe's own training, with nothing frozen."""
        return replace(self.recipe.training, frozen=frozenset())

    @property
    def sgd(self) -> Training:
        """The recipe's SGD, or ``SGD``."""
        return self._training(SGD)

    @property
    def adam(self) -> Training:
        """The recipe's Adam or AdamW, or ``ADAM``."""
        return self._training(ADAM)

    def _training(self, default: Optimizer) -> Training:
        own = self.recipe.training
        same_kind = (own.optimizer.name == "sgd") == (default.name == "sgd")
        optimizer = own.optimizer if same_kind else default
        if optimizer.weight_decay:
            optimizer = replace(optimizer, weight_decay=max(optimizer.weight_decay, LEAST_DECAY))
        return Training(optimizer, own.label_smoothing, self.frozen)


@dataclass(frozen=True)
class CertifiedBatch:
    """The images ``(N, H, W, C)`` that a certificate is of, their labels, and dropout's masks for them."""

    x: Images
    y: Labels
    masks: Weights

    def first(self, count: int) -> CertifiedBatch:
        """The first images."""
        return CertifiedBatch(self.x[:count], self.y[:count], select_masks(self.masks, slice(0, count)))

    def write(self, path: Path) -> None:
        """Write it to a file (npz)."""
        arrays: dict[str, Any] = {"x": self.x, "y": self.y} | {
            f"mask {name}": mask for name, mask in self.masks.items()
        }
        np.savez(path, **arrays)

    @classmethod
    def read(cls, path: Path) -> CertifiedBatch:
        """Read it from a file."""
        arrays = read_arrays(path)
        masks = {name.removeprefix("mask "): mask for name, mask in arrays.items() if name.startswith("mask ")}
        return cls(arrays["x"], arrays["y"], masks)


@dataclass(frozen=True)
class Expected:
    """The reference's outputs of a batch: its logits in evaluation mode, its gradients in training mode, the losses of
    ``STEPS`` steps of each optimizer in both forms, and the running statistics after the steps of SGD."""

    batch: CertifiedBatch
    logits: npt.NDArray[np.float64]
    gradients: Weights
    losses: dict[str, list[float]]
    """The losses of each step by form (``backends.optimizers``)."""
    statistics: dict[str, Weights]
    """By form of momentum and kind of variance: ``population`` (over N) or ``sample`` (over N - 1)."""
    dropout: tuple[float, ...] = ()
    """The losses of the first ``images_of_draws`` images under as many draws of dropout's masks; empty: no dropout."""
    long: dict[str, Weights] = field(default_factory=dict)
    """The weights at the end of the long trial, by form of the optimizer."""

    @classmethod
    def of(cls, model: ModelSpec, weights: Weights, x: Images, y: Labels, trial: Trial, parts: int = 1) -> Expected:
        """Compute the outputs on some of these images (see ``select_images``). ``parts``: as of ``Network``."""
        masks = model.dropout_masks(len(x), MASK_SEED)
        chosen = select_images(model, weights, x, masks, parts)
        batch = CertifiedBatch(x[chosen], y[chosen], select_masks(masks, chosen))
        return cls._compute(model, weights, batch, trial, parts)

    @classmethod
    def _compute(cls, model: ModelSpec, weights: Weights, batch: CertifiedBatch, trial: Trial, parts: int) -> Expected:
        x, y, masks = batch.x, batch.y, batch.masks
        losses: dict[str, list[float]] = {}
        statistics: dict[str, Weights] = {}
        for training in (trial.sgd, trial.adam):
            for form in forms(training.optimizer):
                network, state = Network(model, weights, training, parts), dict[str, Any]()
                losses[form] = [network.train_step(x, y, rate, state, form, masks) for rate in trial.rates(training)]
                if training.optimizer.name == "sgd":
                    statistics |= {f"{form} {kind}": values for kind, values in _statistics(network).items()}
        start = Network(model, weights, trial.sgd, parts)
        gradients = start.gradients(x, y, masks)[1]
        count = images_of_draws(model, len(x))
        draws = (model.dropout_masks(count, MASK_SEED + number) for number in range(1, DRAWS + 1) if masks)
        dropout = tuple(start.loss(x[:count], y[:count], drawn) for drawn in draws)
        long = {form: _long_trial(trial, form) for form in forms(trial.long.optimizer)}
        return cls(batch, start.logits(x), gradients, losses, statistics, dropout, long)

    def write(self, path: Path) -> None:
        """Write them to a file (npz)."""
        batch = self.batch
        arrays: dict[str, Any] = {"x": batch.x, "y": batch.y, "logits": self.logits, "dropout": np.array(self.dropout)}
        arrays |= {f"gradient {name}": value for name, value in self.gradients.items()}
        arrays |= {f"losses {name}": np.asarray(value) for name, value in self.losses.items()}
        arrays |= {f"mask {name}": value for name, value in batch.masks.items()}
        for form, values in self.long.items():
            arrays |= {f"long {form}/{name}": value for name, value in values.items()}
        for kind, values in self.statistics.items():
            arrays |= {f"statistics {kind}/{name}": value for name, value in values.items()}
        np.savez(path, **arrays)

    @classmethod
    def read(cls, path: Path) -> Expected:
        """Read them from a file."""
        arrays = read_arrays(path)

        def part(prefix: str) -> Weights:
            return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}

        losses = {name: value.tolist() for name, value in part("losses ").items()}
        statistics, long = (_nested(part(prefix)) for prefix in ("statistics ", "long "))
        gradients, masks = part("gradient "), part("mask ")
        dropout = tuple(arrays["dropout"].tolist())
        batch = CertifiedBatch(arrays["x"], arrays["y"], masks)
        return cls(batch, arrays["logits"], gradients, losses, statistics, dropout, long)


def long_batches() -> tuple[Images, npt.NDArray[np.int64]]:
    """Images ``(steps, N, H, W, C)`` and labels of the long trial: another batch for every step."""
    rng = np.random.default_rng(LONG_SEED)
    noise = rng.normal(size=(LONG_STEPS, LONG_BATCH, *LONG_MODEL.input_shape))
    values = noise.reshape(LONG_STEPS, LONG_BATCH, -1)
    teacher = rng.normal(size=(values.shape[-1], LONG_MODEL.classes))
    labels = (values @ teacher + 4 * rng.normal(size=(LONG_STEPS, LONG_BATCH, LONG_MODEL.classes))).argmax(axis=-1)
    return (noise * CHANNELS).astype(np.float32), labels


def _long_trial(trial: Trial, form: str) -> Weights:
    network, state = Network(LONG_MODEL, LONG_MODEL.initial_weights(LONG_SEED), trial.long), dict[str, Any]()
    for x, y, rate in zip(*long_batches(), trial.long_rates(), strict=True):
        network.train_step(x, y, rate, state, form)
    return network.weights


def _nested(flat: Weights) -> dict[str, Weights]:
    """``KIND/NAME`` to values, by kind and name."""
    nested: dict[str, Weights] = {}
    for name, value in flat.items():
        kind, _, weight = name.partition("/")
        nested.setdefault(kind, {})[weight] = value
    return nested


def _statistics(network: Network) -> dict[str, Weights]:
    population = {n: v for n, v in network.weights.items() if n not in network.model.trained}
    return {"population": population, "sample": population | network.sample_variance}


def bytes_needed(model: ModelSpec, images: int = BATCH) -> int:
    """Estimated bytes of the reference's forward and backward pass: outputs and, of convolutions, the columns of
    all windows, in float64. ``images``: so many can be chosen from."""
    values = 0
    for placed in model.walk():
        values += math.prod(placed.output_shape)
        if isinstance(placed.layer, Conv2D):
            columns = placed.layer.kernel**2 * placed.input_shape[-1]
            values += math.prod(placed.output_shape[:-1]) * columns
    batch = min(images, NORMALIZED_BATCH if model.normalizes else BATCH)
    return int(TEMPORARY * 8 * batch * values)

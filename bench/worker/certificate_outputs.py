"""What a backend computes for its certificate. The worker only computes and writes it; the parent, which alone knows
what it must be, judges it (``bench.runner.judges.certificate``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from backends.base import Backend, Training
from backends.model import ModelSpec, Weights
from bench.array_files import read_arrays
from bench.worker.reference_outputs import (
    DRAWS,
    LONG_BATCH,
    LONG_MODEL,
    LONG_SEED,
    CertifiedBatch,
    Trial,
    images_of_draws,
    long_batches,
)

Losses: TypeAlias = npt.NDArray[np.float64]
OTHER_WEIGHTS = 1.5
"""Factor of the weights under which the inputs are placed."""
DENORMAL = np.float32(1e-39)
"""A denormal number; the sum of 18 of them, which a kernel of the long trial's model makes, is a normal one."""
EXACT_IMAGES = 8
"""Images of the gradients that finite differences are compared with."""
NO_LOSSES: Losses = np.zeros(0)


@dataclass(frozen=True)
class CertificateOutputs:
    """The outputs of a backend, by the checks that need them. An empty one was not asked for."""

    counts: Mapping[str, int]
    """The framework's own count of ``parameters`` and ``flops``, as far as it has one."""
    logits: npt.NDArray[Any]
    """Of the batch, in evaluation mode, with inputs that were placed under other weights."""
    gradients: Weights
    """By the names of the weights, in training mode under the batch's masks."""
    exact_gradients: Weights
    """Of the first ``EXACT_IMAGES`` images, with float64 weights; only of a backend in float64."""
    sgd_losses: Losses
    statistics: Weights
    """All weights after the steps of SGD; only of a model with batch normalization."""
    adam_losses: Losses
    dropout: Losses = field(default_factory=lambda: NO_LOSSES)
    """Losses at a learning rate of 0 under masks of the framework's own."""
    long: Weights = field(default_factory=dict)
    """The weights at the end of the long trial."""
    denormals: npt.NDArray[Any] = field(default_factory=lambda: NO_LOSSES)
    """Logits of images of denormal numbers: zeros if they are flushed (``denormal_weights``)."""

    def write(self, path: Path) -> None:
        """Write them to a file (npz)."""
        arrays: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, Mapping):
                arrays |= {f"{name} {weight}": array for weight, array in value.items()}
            else:
                arrays[name] = value
        np.savez(path, **arrays)

    @classmethod
    def read(cls, path: Path) -> CertificateOutputs:
        """Read what a worker wrote.

        Raises:
            ValueError: it is not such a file.
        """
        arrays = read_arrays(path)
        if any(array.dtype.kind not in "fiu" for array in arrays.values()):
            raise ValueError(f"{path.name} has an array that is not of numbers")

        def part(name: str) -> Weights:
            return {key.partition(" ")[2]: array for key, array in arrays.items() if key.startswith(f"{name} ")}

        try:
            parts: dict[str, Any] = {"logits": arrays["logits"], "denormals": arrays["denormals"]}
            parts |= {name: np.ravel(arrays[name]) for name in ("sgd_losses", "adam_losses", "dropout")}
            parts |= {"counts": {name: int(count) for name, count in part("counts").items()}}
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path.name} is not complete: {error}") from error
        parts |= {name: part(name) for name in ("gradients", "exact_gradients", "statistics", "long")}
        return cls(**parts)


def with_whole_losses(outputs: Sequence[CertificateOutputs]) -> list[CertificateOutputs]:
    """Of processes that train together: each one's outputs, with the losses of whole batches. A process computes those
    of its own part; parts are equal, so theirs is the mean.

    Raises:
        ValueError: they have other numbers of losses.
    """
    names = ("sgd_losses", "adam_losses", "dropout")
    means = {name: np.mean(np.stack([getattr(each, name) for each in outputs]), axis=0) for name in names}
    return [replace(each, **means) for each in outputs]


@dataclass(frozen=True)
class Candidate:
    """A backend that is to be certified on one batch of real images."""

    backend: Backend
    precision: str
    model: ModelSpec
    weights: Weights
    batch: CertifiedBatch
    trial: Trial
    phase: Callable[[str], AbstractContextManager[Any]] = nullcontext
    """Measures the time of a part."""

    def compute(self) -> CertificateOutputs:
        """All outputs."""
        with self.phase("certify"):
            outputs = self._compute()
        with self.phase("certify_dropout"):
            dropout = self._dropout()
        with self.phase("certify_long"):
            return replace(outputs, dropout=dropout, long=self._long(), denormals=self._denormals())

    def _compute(self) -> CertificateOutputs:
        """Those of the checks on the batch."""
        others = {name: value * np.float32(OTHER_WEIGHTS) for name, value in self.weights.items()}
        self.backend.build(self.model, others, None)
        x, _ = self.backend.to_device(self.batch.x)  # what is computed while inputs are placed is of other weights
        self.backend.build(self.model, self.weights, None)
        counts, logits = self.backend.counts(), self.backend.to_numpy(self.backend.forward(x))
        self.backend.build(self.model, self.weights, self.trial.sgd)
        gradients = self.backend.gradients(*self._placed(), *self._masks)
        exact = self._exact_gradients() if self.precision == "fp64" else {}
        sgd = self._losses(self.trial.sgd)
        statistics = self.backend.weights() if self.model.normalizes else {}
        return CertificateOutputs(counts, logits, gradients, exact, sgd, statistics, self._losses(self.trial.adam))

    @property
    def _masks(self) -> tuple[Weights, ...]:
        """The extra argument of a training step: dropout's masks, or nothing if the model has no dropout."""
        return (self.batch.masks,) if self.batch.masks else ()

    def _placed(self) -> tuple[Any, Any]:
        return self.backend.to_device(self.batch.x, self.batch.y)

    def _exact_gradients(self) -> Weights:
        exact: Weights = {name: value.astype(np.float64) for name, value in self.weights.items()}
        few = self.batch.first(EXACT_IMAGES)
        self.backend.build(self.model, exact, None)
        return self.backend.gradients(*self.backend.to_device(few.x, few.y), *((few.masks,) if few.masks else ()))

    def _losses(self, training: Training) -> Losses:
        self.backend.build(self.model, self.weights, training)
        x, y = self._placed()
        losses = (self.backend.train_step(x, y, rate, *self._masks) for rate in self.trial.rates(training))
        return self._as_numbers(losses)

    def _dropout(self) -> Losses:
        if not self.batch.masks:
            return NO_LOSSES
        few = self.batch.first(images_of_draws(self.model, len(self.batch.x)))
        self.backend.build(self.model, self.weights, self.trial.sgd)
        x, y = self.backend.to_device(few.x, few.y)
        return self._as_numbers(self.backend.train_step(x, y, 0.0) for _ in range(DRAWS))

    def _long(self) -> Weights:
        start = LONG_MODEL.initial_weights(LONG_SEED)
        self.backend.build(LONG_MODEL, start, self.trial.long)
        for x, y, rate in zip(*long_batches(), self.trial.long_rates(), strict=True):
            self.backend.train_step(*self.backend.to_device(x, y), rate)
        return self.backend.weights()

    def _denormals(self) -> npt.NDArray[Any]:
        self.backend.build(LONG_MODEL, denormal_weights(), None)
        images = np.full((LONG_BATCH, *LONG_MODEL.input_shape), DENORMAL, np.float32)
        logits: npt.NDArray[Any] = self.backend.to_numpy(self.backend.forward(self.backend.to_device(images)[0]))
        return logits

    def _as_numbers(self, losses: Any) -> Losses:
        return np.asarray([float(self.backend.to_numpy(loss)) for loss in losses])


def denormal_weights() -> Weights:
    """Weights of the long trial's model that sum a kernel's denormal inputs and make numbers around 1 of the sums."""
    first, *others = (placed for placed in LONG_MODEL.placed() if placed.weight_shapes)
    weights: Weights = {}
    for placed in (first, *others):
        for name, shape in placed.weight_shapes.items():
            scale = 0.0 if name.endswith(".bias") else 1.0 if placed is first else 1e18
            weights[name] = np.full(shape, scale, np.float32)
    return weights

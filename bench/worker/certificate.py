"""The parity certificate: a backend is compared with the float64 reference on real images before anything is timed.

Runs in the worker (NumPy only). ``bench.worker.reference_outputs`` has the expected values,
``bench.worker.tolerances`` the largest allowed differences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Backend, Images, Labels, Training
from backends.description import Description
from backends.model import ModelSpec, Weights
from backends.optimizers import forms
from backends.reference import Network
from bench.worker.protocol import CheckResult, Job
from bench.worker.reference_outputs import (
    LONG_MODEL,
    LONG_SEED,
    LONG_STEPS,
    STEPS,
    Expected,
    Trial,
    images_of_draws,
    long_batches,
    select_masks,
)
from bench.worker.tolerances import adapter_tolerances, add_origin, tolerance

OF_THE_CHANGE = f"of the change over {STEPS} steps"
"""The scale of ``losses_error``."""
OTHER_WEIGHTS = 1.5
"""Factor of the weights under which the inputs are placed."""
LONG = {"fp32": 1.5e-5, "fp64": 1e-9}
"""By precision, the largest error of the long trial. Correct frameworks: at most 4e-6. AMSGrad 9e-5, an epsilon of 1e-8
for 1e-7 2e-4, moments in bfloat16 2e-2. In a lower precision rounding hides what it is for."""
DROPOUT = 8.0
"""Standard errors. Of correct frameworks at most 0.8 were seen."""
ROUNDING = 1e-5
"""Share of a loss that float32 may be off."""
LOWER_PRECISION = 0.02
"""Share of the mean loss by which rounding to fewer than 24 bits may move it."""
CLEAR_FACTOR = 3.0
"""A backend follows one of two published forms if its error against the other is at least this many times larger."""


@dataclass(frozen=True)
class Result:
    """One check. It passes if ``value`` is not above ``tolerance`` (NaN never passes)."""

    name: str
    value: float
    tolerance: float
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the value is within the tolerance."""
        return bool(self.value <= self.tolerance)

    def as_check(self) -> CheckResult:
        """The message for the parent. A value that is not finite becomes the largest float, because JSON has no NaN."""
        finite = float(self.value if np.isfinite(self.value) else np.finfo(np.float64).max)
        return CheckResult(
            name=self.name,
            value=finite,
            tolerance=float(self.tolerance),
            passed=self.passed,
            note=self.note,
            details=self.details,
        )


def relative_l2(got: npt.NDArray[Any], want: npt.NDArray[Any]) -> float:
    """||got - want|| / ||want|| (L2 over all elements, float64); infinite if the shapes differ."""
    if got.shape != want.shape:
        return float("inf")
    difference = np.linalg.norm(np.asarray(got, np.float64) - want)
    return float(difference / max(float(np.linalg.norm(want)), np.finfo(np.float64).tiny))


def relative_l2_of_all(pairs: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float:
    """The same over all pairs together, such as the tensors of a layer: before batch normalization, the gradient of a
    bias is only rounding."""
    if any(got.shape != want.shape for got, want in pairs):
        return float("inf")
    got, want = (np.concatenate([np.ravel(pair[side]) for pair in pairs]) for side in (0, 1))
    return relative_l2(got, want)


@dataclass(frozen=True)
class Certifier:
    """Compares a backend that trains with the reference, on one real batch."""

    backend: Backend
    precision: str
    device: str
    model: ModelSpec
    weights: Weights
    expected: Expected
    trial: Trial

    def certify(self) -> list[Result]:
        """Run all checks, the counts first."""
        others = {name: value * np.float32(OTHER_WEIGHTS) for name, value in self.weights.items()}
        self.backend.build(self.model, others, None)
        x, _ = self.backend.to_device(self.expected.x)  # what is computed while inputs are placed is of other weights
        self.backend.build(self.model, self.weights, None)
        results = self._counts()
        logits = self.backend.to_numpy(self.backend.forward(x))
        results.append(self._result("logits", relative_l2(logits, self.expected.logits)))
        self.backend.build(self.model, self.weights, self.trial.sgd)
        results.append(self._gradients())
        if self.precision == "fp64":
            results.append(self._finite_differences())
        results += [*self._sgd(), self._adam(), *self._dropout()]
        return [*results, *(self._long() if all(result.passed for result in results) else [])]

    def _result(self, check: str, value: float, note: str = "") -> Result:
        stated = adapter_tolerances(self.backend, self.precision)
        allowed = tolerance(self.precision, self.device, check, self.model.normalizes, stated)
        return Result(check, value, allowed, add_origin(note, stated, check))

    def _counts(self) -> list[Result]:
        counts = self.backend.counts()
        expected = {"parameters": self.model.parameters, "flops": self.model.flops}
        return [
            Result(name, abs(count - expected[name]), 0, f"{count:,}, the model has {expected[name]:,}")
            for name, count in counts.items()
        ]

    def _gradients(self) -> Result:
        got, want = self.backend.gradients(*self._batch(), *self._masks), self.expected.gradients
        if got.keys() != want.keys():
            return self._result("gradients", float("inf"), f"has {sorted(got)}, not {sorted(want)}")
        layers: dict[str, list[str]] = {}
        for name in want:
            layers.setdefault(name.rpartition(".")[0], []).append(name)
        errors = {layer: relative_l2_of_all([(got[n], want[n]) for n in names]) for layer, names in layers.items()}
        worst = max(errors, key=lambda name: errors[name])
        return self._result("gradients", errors[worst], f"worst of {len(errors)} layers: {worst}")

    def _finite_differences(self) -> Result:
        x, y = self.expected.x[:8], self.expected.y[:8]
        masks = select_masks(self.expected.masks, slice(0, 8))
        value = finite_differences(self.backend, self.model, self.weights, x, y, masks)
        return self._result("finite_differences", value, f"{len(y)} images, one random direction per tensor")

    @property
    def _masks(self) -> tuple[Weights, ...]:
        """The extra argument of a training step: dropout's masks, or nothing if the model has no dropout."""
        return (self.expected.masks,) if self.expected.masks else ()

    def _batch(self) -> tuple[Any, Any]:
        return self.backend.to_device(self.expected.x, self.expected.y)

    def _losses(self, training: Training) -> list[float]:
        self.backend.build(self.model, self.weights, training)
        x, y = self._batch()
        losses = (self.backend.train_step(x, y, rate, *self._masks) for rate in self.trial.rates(training))
        return [float(self.backend.to_numpy(loss)) for loss in losses]

    def _sgd(self) -> list[Result]:
        """Compare the losses of SGD with both forms of momentum, which differ only if the rate changes, and the running
        statistics after those steps with both variances that frameworks use."""
        optimizer = self.trial.sgd.optimizer
        errors = self._losses_errors(self.trial.sgd)
        form = min(errors, key=lambda name: errors[name])
        note, details = f"{OF_THE_CHANGE}, momentum {optimizer.momentum:g}", dict[str, Any]()
        if optimizer.momentum and len(set(self.trial.rates(self.trial.sgd))) > 1:
            sentence, details = _identify_form("momentum_form", errors, OF_THE_CHANGE)
            note += f"; {sentence}"
        losses = replace(self._result("sgd_losses", errors[form], note), details=details)
        return [losses, *self._running_statistics(form)]

    def _running_statistics(self, form: str) -> list[Result]:
        if not self.model.normalizes:
            return []
        got = self.backend.weights()
        errors = {
            kind: max(relative_l2(got[name], value) for name, value in want.items())
            for kind in ("population", "sample")
            if (want := self.expected.statistics[f"{form} {kind}"])
        }
        sentence, details = _identify_form("variance", errors, f"(relative) after {STEPS} steps")
        note = f"worst tensor after {STEPS} steps; variance {sentence}"
        return [replace(self._result("running_statistics", min(errors.values()), note), details=details)]

    def _adam(self) -> Result:
        """Compare the losses of Adam with both forms of epsilon."""
        errors = self._losses_errors(self.trial.adam)
        sentence, details = _identify_form("adam_form", errors, OF_THE_CHANGE)
        note = f"{OF_THE_CHANGE}; epsilon {sentence}"
        return replace(self._result("adam_losses", min(errors.values()), note), details=details)

    def _dropout(self) -> list[Result]:
        """Compare the losses under the framework's own masks, at a learning rate of 0, with those under as many drawn
        ones: their mean, their spread, and whether masks repeat."""
        want = np.asarray(self.expected.dropout)
        if not len(want):
            return []
        count = images_of_draws(self.model, len(self.expected.x))
        self.backend.build(self.model, self.weights, self.trial.sgd)
        x, y = self.backend.to_device(self.expected.x[:count], self.expected.y[:count])
        steps = (self.backend.train_step(x, y, 0.0) for _ in want)
        got = np.asarray([float(self.backend.to_numpy(loss)) for loss in steps])
        value, note = dropout_error(got, want, 0.0 if self.precision in ("fp32", "fp64") else LOWER_PRECISION)
        return [Result("dropout", value, DROPOUT, f"{note}; {len(got)} losses of {count} images")]

    def _long(self) -> list[Result]:
        """Compare what the recipe's optimizer makes of a small smooth model in many steps, each on another batch: what
        five steps on one batch hardly see, such as another decay of the second moment, epsilon, clipping, a bias
        correction that is late."""
        allowed = LONG.get(self.precision)
        if allowed is None:
            return []
        start = LONG_MODEL.initial_weights(LONG_SEED)
        self.backend.build(LONG_MODEL, start, self.trial.long)
        for x, y, rate in zip(*long_batches(), self.trial.long_rates(), strict=True):
            self.backend.train_step(*self.backend.to_device(x, y), rate)
        got = {name: value.astype(np.float64) for name, value in self.backend.weights().items()}
        errors = {
            form: relative_l2_of_all([(got[name] - start[name], want[name] - start[name]) for name in want])
            for form, want in self.expected.long.items()
        }
        form = min(errors, key=lambda name: errors[name])
        note = f"weights after {LONG_STEPS} steps of {self.trial.long.optimizer.name}, of their change; {form} form"
        return [Result("long_training", errors[form], allowed * (1 if self.device == "cpu" else 10), note)]

    def _losses_errors(self, training: Training) -> dict[str, float]:
        """The error of the backend's losses against each published form of the optimizer."""
        got = self._losses(training)
        return {form: losses_error(got, self.expected.losses[form]) for form in forms(training.optimizer)}


def _identify_form(detail: str, errors: dict[str, float], scale: str) -> tuple[str, dict[str, Any]]:
    """Which of two published forms a backend follows, as text and as details. The details are empty if rounding hides
    the difference. ``scale``: what the errors are a share of, as text."""
    form, other = sorted(errors, key=lambda name: errors[name])
    if not CLEAR_FACTOR * errors[form] < errors[other] < np.inf:
        return f"in the {form} or the {other} form, which rounding hides ({errors[other]:.1e})", {}
    details = {detail: form, "off_other_form": errors[other], "of": scale}
    return f"in the {form} form, off the {other} form by {errors[other]:.1e}", details


def dropout_error(got: npt.NDArray[np.float64], want: npt.NDArray[np.float64], bias: float) -> tuple[float, str]:
    """How many standard errors the mean and the logarithm of the variance of losses are off, the larger of both;
    infinite if masks repeat. ``bias``: share of the mean that rounding may move it by."""
    if len(np.unique(got)) < len(np.unique(want)) / 2:
        return float("inf"), f"masks repeat: {len(np.unique(got))} different losses"
    means = abs(got.mean() - want.mean()) - bias * abs(want.mean())
    rounding = (ROUNDING * want.mean()) ** 2  # of a rate of 0, all losses are equal
    of_got, of_want = (losses.var(ddof=1) + rounding for losses in (got, want))
    error = math.sqrt(of_got / len(got) + of_want / len(want))
    spread = abs(math.log(of_got / of_want)) / math.sqrt(2 / (len(got) - 1) + 2 / (len(want) - 1))
    off = {"mean": max(0.0, means) / error, "variance": spread}
    worst = max(off, key=lambda name: off[name])
    return off[worst], f"{worst} of the loss off by {off[worst]:.1f} standard errors"


def losses_error(got: Sequence[float], want: Sequence[float]) -> float:
    """||got - want|| / ||want - want[0]||: the error of the losses as a share of their change over the steps. (As a
    share of the losses themselves, steps of half the length would pass in bfloat16.)"""
    change = np.linalg.norm(np.asarray(want) - want[0])
    return float(np.linalg.norm(np.asarray(got) - want) / max(float(change), np.finfo(np.float64).tiny))


def finite_differences(
    backend: Backend, model: ModelSpec, weights: Weights, x: Images, y: Labels, masks: Weights
) -> float:
    """Worst relative difference, over the weight tensors, between the gradient along a random direction and the central
    difference of the loss (step 1e-6, float64). The error is O(step^2), and more if the step crosses a kink of
    ReLU or max."""
    rng = np.random.default_rng(0)
    exact: Weights = {name: value.astype(np.float64) for name, value in weights.items()}
    backend.build(model, exact, None)
    gradients = backend.gradients(*backend.to_device(x, y), *([masks] if masks else []))
    worst, step = 0.0, 1e-6
    # The gradient of a bias before batch normalization is only rounding, so it is compared with the norm of all.
    minimum = 1e-3 * float(np.sqrt(sum(np.linalg.norm(gradient) ** 2 for gradient in gradients.values())))
    for name, gradient in gradients.items():
        direction = rng.standard_normal(gradient.shape)
        direction /= np.linalg.norm(direction)
        losses = [
            Network(model, exact | {name: exact[name] + sign * step * direction}).gradients(x, y, masks)[0]
            for sign in (1, -1)
        ]
        slope = (losses[0] - losses[1]) / (2 * step)
        along = float((gradient * direction).sum())
        worst = max(worst, abs(slope - along) / max(float(np.linalg.norm(gradient)), minimum))
    return worst


def certify_runtime(
    backend: Backend | Description, job: Job, got: npt.NDArray[Any], want: npt.NDArray[Any], labels: Labels
) -> list[Result]:
    """Compare a runtime's logits on the test split (``got``) with those of the framework that exported the file: the
    logits of the first 256 images, and the accuracy over the whole split. The parent does so, which has the labels."""
    difference = accuracy(got, labels) - accuracy(want, labels)
    stated = adapter_tolerances(backend, job.precision)
    values = {
        "logits_of_source": (relative_l2(got[:256], want[:256]), f"{len(want[:256])} images"),
        "accuracy_of_source": (abs(difference), f"{100 * difference:+.2f} points over {len(labels)} test images"),
    }
    return [
        Result(name, value, tolerance(job.precision, job.device, name, stated=stated), add_origin(note, stated, name))
        for name, (value, note) in values.items()
    ]


def accuracy(logits: npt.NDArray[Any], labels: Labels) -> float:
    """Top-1 accuracy: the share of images whose largest logit is that of the label."""
    return float((logits.argmax(axis=1) == labels).mean())

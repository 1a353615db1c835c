"""The parity certificate: what a backend computed on real images, before anything is timed, beside the reference.

Workers compute (``bench.worker.certificate_outputs``); what it must be (``bench.worker.reference_outputs``) is in the
parent only. ``bench.runner.judges.tolerances`` has the largest allowed differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Labels, Training
from backends.description import Description
from backends.model import ModelSpec, Weights
from backends.optimizers import forms
from backends.reference import Network
from bench.machine import denormals
from bench.runner.judges.result import Result, relative_l2, relative_l2_of_all
from bench.runner.judges.tolerances import adapter_tolerances, add_origin, tolerance
from bench.worker.certificate_outputs import EXACT_IMAGES, CertificateOutputs, Losses
from bench.worker.protocol import Job
from bench.worker.reference_outputs import (
    LONG_MODEL,
    LONG_SEED,
    LONG_STEPS,
    STEPS,
    CertifiedBatch,
    Expected,
    Trial,
    images_of_draws,
)

COMPUTED = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Precision to the type that a framework computes in (``Backend.settings``); int8 has several."""
OF_THE_CHANGE = f"of the change over {STEPS} steps"
"""The scale of ``losses_error``."""
LONG = {"fp32": 1.5e-5, "fp64": 1e-9}
"""By precision, the largest error of the long trial. Correct frameworks: at most 4e-6. AMSGrad 9e-5, an epsilon of 1e-8
for 1e-7 2e-4, moments in bfloat16 2e-2. In a lower precision rounding hides what it is for."""
DROPOUT = 8.0
"""Standard errors. Of correct frameworks at most 0.8 were seen."""
ROUNDING = 1e-5
"""Share of a loss that float32 may be off."""
LOWER_PRECISION = 0.02
"""Share of the mean loss by which rounding to fewer than 24 bits may move it."""
NOTHING: npt.NDArray[np.float32] = np.zeros(0, np.float32)
"""Of a tensor that is missing."""
CLEAR_FACTOR = 3.0
"""A backend follows one of two published forms if its error against the other is at least this many times larger."""


@dataclass(frozen=True)
class Judge:
    """Compares what a backend computed for its certificate with the reference's outputs."""

    adapter: Description
    precision: str
    device: str
    model: ModelSpec
    weights: Weights
    expected: Expected
    trial: Trial

    def judge(self, got: CertificateOutputs) -> list[Result]:
        """All checks. The long trial is of a backend that passes the others: of one that does not it tells no more."""
        logits = self._result("logits", relative_l2(got.logits, self.expected.logits))
        results = [*self._counts(got.counts), logits, self._gradients(got.gradients)]
        if self.precision == "fp64":
            results.append(self._finite_differences(got.exact_gradients))
        results += [*self._sgd(got), self._adam(got.adam_losses), *self._dropout(got.dropout)]
        return [*results, *(self._long(got.long) if all(result.passed for result in results) else [])]

    def _result(self, check: str, value: float, note: str = "") -> Result:
        stated = adapter_tolerances(self.adapter, self.precision)
        allowed = tolerance(self.precision, self.device, check, self.model.normalizes, stated)
        return Result(check, value, allowed, add_origin(note, stated, check))

    def _counts(self, counts: Mapping[str, int]) -> list[Result]:
        expected = {"parameters": self.model.parameters, "flops": self.model.flops}
        return [
            Result(name, abs(count - expected[name]), 0, f"{count:,}, the model has {expected[name]:,}")
            for name, count in counts.items()
            if name in expected
        ]

    def _gradients(self, got: Weights) -> Result:
        want = self.expected.gradients
        if got.keys() != want.keys():
            return self._result("gradients", float("inf"), f"has {sorted(got)}, not {sorted(want)}")
        layers: dict[str, list[str]] = {}
        for name in want:
            layers.setdefault(name.rpartition(".")[0], []).append(name)
        errors = {layer: relative_l2_of_all([(got[n], want[n]) for n in names]) for layer, names in layers.items()}
        worst = max(errors, key=lambda name: errors[name])
        return self._result("gradients", errors[worst], f"worst of {len(errors)} layers: {worst}")

    def _finite_differences(self, got: Weights) -> Result:
        batch = self.expected.batch.first(EXACT_IMAGES)
        value = finite_differences(self.model, self.weights, got, batch)
        return self._result("finite_differences", value, f"{len(batch.y)} images, one random direction per tensor")

    def _sgd(self, got: CertificateOutputs) -> list[Result]:
        """The losses of SGD beside both forms of momentum, which differ only if the rate changes, and the running
        statistics after those steps beside both variances that frameworks use."""
        optimizer = self.trial.sgd.optimizer
        errors = self._losses_errors(got.sgd_losses, self.trial.sgd)
        form = min(errors, key=lambda name: errors[name])
        note, details = f"{OF_THE_CHANGE}, momentum {optimizer.momentum:g}", dict[str, Any]()
        if optimizer.momentum and len(set(self.trial.rates(self.trial.sgd))) > 1:
            sentence, details = _identify_form("momentum_form", errors, OF_THE_CHANGE)
            note += f"; {sentence}"
        losses = replace(self._result("sgd_losses", errors[form], note), details=details)
        return [losses, *self._running_statistics(form, got.statistics)]

    def _running_statistics(self, form: str, got: Weights) -> list[Result]:
        if not self.model.normalizes:
            return []
        errors = {
            kind: max(relative_l2(got.get(name, NOTHING), value) for name, value in want.items())
            for kind in ("population", "sample")
            if (want := self.expected.statistics[f"{form} {kind}"])
        }
        sentence, details = _identify_form("variance", errors, f"(relative) after {STEPS} steps")
        note = f"worst tensor after {STEPS} steps; variance {sentence}"
        return [replace(self._result("running_statistics", min(errors.values()), note), details=details)]

    def _adam(self, got: Losses) -> Result:
        """The losses of Adam beside both forms of epsilon."""
        errors = self._losses_errors(got, self.trial.adam)
        sentence, details = _identify_form("adam_form", errors, OF_THE_CHANGE)
        note = f"{OF_THE_CHANGE}; epsilon {sentence}"
        return replace(self._result("adam_losses", min(errors.values()), note), details=details)

    def _dropout(self, got: Losses) -> list[Result]:
        """The losses under the framework's own masks, at a learning rate of 0, beside those under as many drawn ones:
        their mean, their spread, and whether masks repeat."""
        want = np.asarray(self.expected.dropout)
        if not len(want):
            return []
        if got.shape != want.shape:
            return [Result("dropout", float("inf"), DROPOUT, f"{len(got)} losses, not {len(want)}")]
        count = images_of_draws(self.model, len(self.expected.batch.x))
        value, note = dropout_error(got, want, 0.0 if self.precision in ("fp32", "fp64") else LOWER_PRECISION)
        return [Result("dropout", value, DROPOUT, f"{note}; {len(got)} losses of {count} images")]

    def _long(self, got: Weights) -> list[Result]:
        """What the recipe's optimizer makes of a small smooth model in many steps, each on another batch: what five
        steps on one batch hardly see, such as another decay of the second moment, epsilon, clipping, a bias correction
        that is late."""
        allowed = LONG.get(self.precision)
        if allowed is None:
            return []
        start = LONG_MODEL.initial_weights(LONG_SEED)
        same = {name: value.shape for name, value in got.items()} == dict(LONG_MODEL.weight_shapes)
        errors = {
            form: relative_l2_of_all(
                [(got[name].astype(np.float64) - start[name], want[name] - start[name]) for name in want]
            )
            if same
            else float("inf")
            for form, want in self.expected.long.items()
        }
        form = min(errors, key=lambda name: errors[name])
        note = f"weights after {LONG_STEPS} steps of {self.trial.long.optimizer.name}, of their change; {form} form"
        return [Result("long_training", errors[form], allowed * (1 if self.device == "cpu" else 10), note)]

    def _losses_errors(self, got: Losses, training: Training) -> dict[str, float]:
        """The error of the backend's losses against each published form of the optimizer."""
        return {form: losses_error(got, self.expected.losses[form]) for form in forms(training.optimizer)}


def worst_of(processes: Sequence[list[Result]]) -> list[Result]:
    """Of every check, the worst of the processes that train together: each is judged alike."""
    if len(processes) == 1:
        return processes[0]
    by_name: dict[str, list[Result]] = {}
    for results in processes:
        for result in results:
            by_name.setdefault(result.name, []).append(result)
    worst = (max(found, key=lambda each: (not each.passed, each.value)) for found in by_name.values())
    return [replace(each, note=f"{each.note}; worst of {len(processes)} processes".lstrip("; ")) for each in worst]


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


def losses_error(got: Sequence[float] | Losses, want: Sequence[float]) -> float:
    """||got - want|| / ||want - want[0]||: the error of the losses as a share of their change over the steps; infinite
    if there are fewer or more. (As a share of the losses themselves, steps of half the length would pass in
    bfloat16.)"""
    if len(got) != len(want):
        return float("inf")
    change = np.linalg.norm(np.asarray(want) - want[0])
    return float(np.linalg.norm(np.asarray(got) - want) / max(float(change), np.finfo(np.float64).tiny))


def finite_differences(model: ModelSpec, weights: Weights, gradients: Weights, batch: CertifiedBatch) -> float:
    """Worst relative difference, over the weight tensors, between the gradient along a random direction and the central
    difference of the loss (step 1e-6, float64). The error is O(step^2), and more if the step crosses a kink of
    ReLU or max. Infinite if a gradient is missing."""
    rng = np.random.default_rng(0)
    exact: Weights = {name: value.astype(np.float64) for name, value in weights.items()}
    if {name: value.shape for name, value in gradients.items()} != {name: exact[name].shape for name in model.trained}:
        return float("inf")
    worst, step = 0.0, 1e-6
    # The gradient of a bias before batch normalization is only rounding, so it is compared with the norm of all.
    minimum = 1e-3 * float(np.sqrt(sum(np.linalg.norm(gradient) ** 2 for gradient in gradients.values())))
    for name, gradient in gradients.items():
        direction = rng.standard_normal(gradient.shape)
        direction /= np.linalg.norm(direction)
        losses = [
            Network(model, exact | {name: exact[name] + sign * step * direction}).gradients(
                batch.x, batch.y, batch.masks
            )[0]
            for sign in (1, -1)
        ]
        slope = (losses[0] - losses[1]) / (2 * step)
        along = float((gradient * direction).sum())
        worst = max(worst, abs(slope - along) / max(float(np.linalg.norm(gradient)), minimum))
    return worst


def certify_runtime(
    adapter: Description, job: Job, got: npt.NDArray[Any], want: npt.NDArray[Any], labels: Labels
) -> list[Result]:
    """Compare a runtime's logits on the test split (``got``) with those of the framework that exported the file: the
    logits of the first 256 images, and the accuracy over the whole split. The parent does so, which has the labels."""
    difference = accuracy(got, labels) - accuracy(want, labels)
    stated = adapter_tolerances(adapter, job.precision)
    values = {
        "logits_of_source": (relative_l2(got[:256], want[:256]), f"{len(want[:256])} images"),
        "accuracy_of_source": (abs(difference), f"{100 * difference:+.2f} points over {len(labels)} test images"),
    }
    return [
        Result(name, value, tolerance(job.precision, job.device, name, stated=stated), add_origin(note, stated, name))
        for name, (value, note) in values.items()
    ]


def stated_precision(job: Job, settings: Mapping[str, Any]) -> list[Result]:
    """Whether a framework computes in the row's precision, by its own setting (``computes_in``, read back), which the
    note names. Nothing where it does not say: the errors of the other checks decide alone."""
    computed, wanted = settings.get("computes_in"), COMPUTED.get(job.precision)
    if computed is None or wanted is None:
        return []
    note = f"the framework computes in {computed}, by its setting {settings.get('computes_in_by', 'of precision')}"
    return [Result("stated_precision", 0.0 if computed == wanted else 1.0, 0.0, note)]


def stated_denormals(got: CertificateOutputs, settings: Mapping[str, Any]) -> list[Result]:
    """Whether a backend flushes denormal numbers, or keeps them, as it says (``denormals``): by what it made of some.
    Nothing where it does not say."""
    stated = settings.get("denormals")
    if stated is None or not got.denormals.size:
        return []
    seen = denormals.KEPT if np.abs(got.denormals).max() > 0 else denormals.FLUSHED
    note = f"{seen}: proven by a model that makes numbers around 1 of them; the worker says {stated}"
    return [Result("stated_denormals", 0.0 if seen == stated else 1.0, 0.0, note)]


def accuracy(logits: npt.NDArray[Any], labels: Labels) -> float:
    """Top-1 accuracy: the share of images whose largest logit is that of the label."""
    return float((logits.argmax(axis=1) == labels).mean())

"""The parity certificate: a backend held against the float64 reference before anything is timed, on real images.

Runs in the worker (NumPy only). ``bench.worker.reference_outputs`` has what the reference says,
``bench.worker.tolerances`` how far off it a backend may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Backend, Images, Labels, Training
from backends.model import ModelSpec, Weights
from backends.optimizers import forms
from backends.reference import Network
from bench.worker.protocol import CheckResult, Job
from bench.worker.reference_outputs import STEPS, Expected, Trial, rows
from bench.worker.tolerances import stated_by, tolerance, with_origin

OF_THE_CHANGE = f"of what {STEPS} steps change"
"""The scale of ``losses_apart``."""
TOLD_APART = 3.0
"""So many times farther off one published form than off the other a backend must be to be said to follow that."""


@dataclass(frozen=True)
class Result:
    """One check: passed when ``value`` is not above ``tolerance`` (NaN never passes)."""

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
        """For the parent. A value that is not finite is sent as the largest float: JSON has no NaN."""
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
    """||got - want|| / ||want|| (L2 over all elements, float64); infinite where the shapes differ."""
    if got.shape != want.shape:
        return float("inf")
    difference = np.linalg.norm(np.asarray(got, np.float64) - want)
    return float(difference / max(float(np.linalg.norm(want)), np.finfo(np.float64).tiny))


def _relative_l2_of_all(pairs: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float:
    """The same over the tensors of a layer together: before batch normalization a bias has no gradient but rounding."""
    if any(got.shape != want.shape for got, want in pairs):
        return float("inf")
    got, want = (np.concatenate([np.ravel(pair[side]) for pair in pairs]) for side in (0, 1))
    return relative_l2(got, want)


@dataclass(frozen=True)
class Certifier:
    """A trained backend against the reference, on one real batch."""

    backend: Backend
    precision: str
    device: str
    model: ModelSpec
    weights: Weights
    expected: Expected
    trial: Trial

    def certify(self) -> list[Result]:
        """All checks, counts first."""
        self.backend.build(self.model, self.weights, None)
        x, _ = self.backend.to_device(self.expected.x)
        results = self._counts()
        logits = self.backend.to_numpy(self.backend.forward(x))
        results.append(self._result("logits", relative_l2(logits, self.expected.logits)))
        self.backend.build(self.model, self.weights, self.trial.sgd)
        results.append(self._gradients())
        if self.precision == "fp64":
            results.append(self._finite_differences())
        return [*results, *self._sgd(), self._adam()]

    def _result(self, check: str, value: float, note: str = "") -> Result:
        stated = stated_by(self.backend, self.precision)
        allowed = tolerance(self.precision, self.device, check, self.model.normalizes, stated)
        return Result(check, value, allowed, with_origin(note, stated, check))

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
        errors = {layer: _relative_l2_of_all([(got[n], want[n]) for n in names]) for layer, names in layers.items()}
        worst = max(errors, key=lambda name: errors[name])
        return self._result("gradients", errors[worst], f"worst of {len(errors)} layers: {worst}")

    def _finite_differences(self) -> Result:
        x, y = self.expected.x[:8], self.expected.y[:8]
        masks = rows(self.expected.masks, slice(0, 8))
        value = finite_differences(self.backend, self.model, self.weights, x, y, masks)
        return self._result("finite_differences", value, f"{len(y)} images, one random direction per tensor")

    @property
    def _masks(self) -> tuple[Weights, ...]:
        """What follows the usual arguments: nothing, or dropout's masks where the model has it."""
        return (self.expected.masks,) if self.expected.masks else ()

    def _batch(self) -> tuple[Any, Any]:
        return self.backend.to_device(self.expected.x, self.expected.y)

    def _losses(self, training: Training) -> list[float]:
        self.backend.build(self.model, self.weights, training)
        x, y = self._batch()
        losses = (self.backend.train_step(x, y, rate, *self._masks) for rate in self.trial.rates(training))
        return [float(self.backend.to_numpy(loss)) for loss in losses]

    def _sgd(self) -> list[Result]:
        """Against both forms of momentum, which differ only where the rate changes; then the running statistics that
        those steps leave, against both variances that frameworks keep."""
        optimizer = self.trial.sgd.optimizer
        apart = self._apart(self.trial.sgd)
        form = min(apart, key=lambda name: apart[name])
        note, details = f"{OF_THE_CHANGE}, momentum {optimizer.momentum:g}", dict[str, Any]()
        if optimizer.momentum and len(set(self.trial.rates(self.trial.sgd))) > 1:
            told, details = _follows("momentum_form", apart, OF_THE_CHANGE)
            note += f"; {told}"
        losses = replace(self._result("sgd_losses", apart[form], note), details=details)
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
        told, details = _follows("variance", errors, f"(relative) after {STEPS} steps")
        note = f"worst tensor after {STEPS} steps; variance {told}"
        return [replace(self._result("running_statistics", min(errors.values()), note), details=details)]

    def _adam(self) -> Result:
        """Against both forms of epsilon."""
        apart = self._apart(self.trial.adam)
        told, details = _follows("adam_form", apart, OF_THE_CHANGE)
        note = f"{OF_THE_CHANGE}; epsilon {told}"
        return replace(self._result("adam_losses", min(apart.values()), note), details=details)

    def _apart(self, training: Training) -> dict[str, float]:
        """How far the backend's losses are off either published form of the optimizer."""
        got = self._losses(training)
        return {form: losses_apart(got, self.expected.losses[form]) for form in forms(training.optimizer)}


def _follows(detail: str, apart: dict[str, float], of: str) -> tuple[str, dict[str, Any]]:
    """Which of two published forms a backend follows, in words and as details; none where rounding hides it. ``of``:
    what the numbers are a share of, for people."""
    form, other = sorted(apart, key=lambda name: apart[name])
    if not TOLD_APART * apart[form] < apart[other] < np.inf:
        return f"in the {form} or the {other} form, which rounding hides ({apart[other]:.1e})", {}
    details = {detail: form, "off_other_form": apart[other], "of": of}
    return f"in the {form} form, off the {other} form by {apart[other]:.1e}", details


def losses_apart(got: Sequence[float], want: Sequence[float]) -> float:
    """||got - want|| / ||want - want[0]||: the error of the losses as a share of what the steps changed. (As a share of
    the losses, steps of half the length would pass in bfloat16.)"""
    changed = np.linalg.norm(np.asarray(want) - want[0])
    return float(np.linalg.norm(np.asarray(got) - want) / max(float(changed), np.finfo(np.float64).tiny))


def finite_differences(
    backend: Backend, model: ModelSpec, weights: Weights, x: Images, y: Labels, masks: Weights
) -> float:
    """Worst relative difference, over the weight tensors, of the gradient along a random direction from the central
    difference of the loss (step 1e-6, float64; error O(step^2), plus kinks of ReLU and max that a step may cross)."""
    rng = np.random.default_rng(0)
    exact: Weights = {name: value.astype(np.float64) for name, value in weights.items()}
    backend.build(model, exact, None)
    gradients = backend.gradients(*backend.to_device(x, y), *([masks] if masks else []))
    worst, step = 0.0, 1e-6
    # Before batch normalization a bias has no gradient but rounding: it is held against what the others have.
    least = 1e-3 * float(np.sqrt(sum(np.linalg.norm(gradient) ** 2 for gradient in gradients.values())))
    for name, gradient in gradients.items():
        direction = rng.standard_normal(gradient.shape)
        direction /= np.linalg.norm(direction)
        losses = [
            Network(model, exact | {name: exact[name] + sign * step * direction}).gradients(x, y, masks)[0]
            for sign in (1, -1)
        ]
        slope = (losses[0] - losses[1]) / (2 * step)
        along = float((gradient * direction).sum())
        worst = max(worst, abs(slope - along) / max(float(np.linalg.norm(gradient)), least))
    return worst


def certify_runtime(
    backend: Backend, job: Job, got: npt.NDArray[Any], want: npt.NDArray[Any], labels: Labels
) -> list[Result]:
    """A runtime's logits on the test split against those of the framework that exported the file: the first 256
    images' logits, and the accuracy over the whole split."""
    difference = accuracy(got, labels) - accuracy(want, labels)
    stated = stated_by(backend, job.precision)
    values = {
        "logits_of_source": (relative_l2(got[:256], want[:256]), f"{len(want[:256])} images"),
        "accuracy_of_source": (abs(difference), f"{100 * difference:+.2f} points over {len(labels)} test images"),
    }
    return [
        Result(name, value, tolerance(job.precision, job.device, name, stated=stated), with_origin(note, stated, name))
        for name, (value, note) in values.items()
    ]


def certify_file(backend: Backend, job: Job, path: str, x: Any) -> Result:
    """A file of the user's: a runtime's first output against that of ``onnx.reference``, the specification in NumPy."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(path)
    named = x if isinstance(x, dict) else {evaluator.input_names[0]: x}
    want = np.asarray(evaluator.run(None, named)[0])
    note = f"first output of {len(next(iter(named.values())))} random inputs, against onnx.reference"
    value = relative_l2(np.asarray(backend.infer(x), np.float64), want.astype(np.float64))
    stated = stated_by(backend, job.precision)
    allowed = tolerance(job.precision, job.device, "logits_of_source", stated=stated)
    return Result("output_of_reference", value, allowed, with_origin(note, stated, "logits_of_source"))


def accuracy(logits: npt.NDArray[Any], labels: Labels) -> float:
    """Top-1: the share of images whose largest logit is the label's."""
    return float((logits.argmax(axis=1) == labels).mean())

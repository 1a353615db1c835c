"""The parity certificate: a backend held against the float64 reference before anything is timed, on real images.

Runs in the worker (NumPy only). ``TOLERANCES`` is the one table; ``benchmarks/parity_margins.py`` measures the
margins in it. Every value is relative: ||got - want|| / ||want|| over a tensor, |got - want| / |want| for a loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Backend, Images, Labels, Optimizer
from backends.model import ModelSpec, Weights
from backends.reference import ADAM_FORMS, Network

BATCH = 128
STEPS = 5
SGD = Optimizer("sgd", momentum=0.9)
ADAM = Optimizer("adam")


@dataclass(frozen=True)
class Tolerance:
    """``worst``: largest value measured on the CPU over both models (each with its recipe), both data sets, 5 seeds,
    1 and 2 threads, all backends; ``cpu`` is about 10 times that. ``cuda`` is provisional, up to 10 times ``cpu``: not
    measured, no GPU was at hand; TF32 is off there, so that the same arithmetic is expected in another order."""

    worst: float
    cpu: float
    cuda: float


TOLERANCES: dict[str, dict[str, Tolerance]] = {
    "fp32": {
        "logits": Tolerance(6.7e-7, 7e-6, 7e-5),
        "gradients": Tolerance(3.6e-6, 4e-5, 4e-4),
        "sgd_losses": Tolerance(2.1e-7, 2e-6, 2e-5),
        "adam_losses": Tolerance(7.3e-7, 7e-6, 7e-5),
        "adam_worst_loss": Tolerance(2.8e-4, 3e-3, 3e-3),
        "logits_of_source": Tolerance(7.9e-7, 8e-6, 8e-5),
    },
    "fp64": {
        "logits": Tolerance(4.6e-16, 5e-15, 5e-14),
        "gradients": Tolerance(2.0e-15, 2e-14, 2e-13),
        "sgd_losses": Tolerance(1.9e-16, 2e-15, 2e-14),
        "adam_losses": Tolerance(4.1e-16, 4e-15, 4e-14),
        "adam_worst_loss": Tolerance(6.4e-16, 6e-15, 6e-14),
        "finite_differences": Tolerance(3.5e-9, 4e-8, 4e-8),
    },
}
ACCURACY_OF_SOURCE = 0.001
"""One image in 1,000."""


@dataclass(frozen=True)
class Result:
    """One check: passed when ``value`` is not above ``tolerance`` (NaN never passes)."""

    name: str
    value: float
    tolerance: float
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. A value that is not finite is sent as the largest float: JSON has no NaN."""
        finite = self.value if np.isfinite(self.value) else np.finfo(np.float64).max
        return {**asdict(self), "value": float(finite), "passed": bool(self.value <= self.tolerance)}


def relative_l2(got: npt.NDArray[Any], want: npt.NDArray[Any]) -> float:
    """||got - want|| / ||want|| (L2 over all elements, float64); infinite where the shapes differ."""
    if got.shape != want.shape:
        return float("inf")
    difference = np.linalg.norm(np.asarray(got, np.float64) - want)
    return float(difference / max(float(np.linalg.norm(want)), np.finfo(np.float64).tiny))


def tolerance(precision: str, device: str, check: str) -> float:
    """The table's entry for a row."""
    entry = TOLERANCES[precision][check]
    return entry.cpu if device == "cpu" else entry.cuda


def clear_batch(model: ModelSpec, weights: Weights, x: Images, y: Labels) -> tuple[Images, Labels]:
    """The ``BATCH`` images that are farthest from a kink of ReLU or max pooling, in their order.

    Float32 may decide a kink otherwise than float64, and a single such decision moves the gradient of a correct
    framework by 1e-4; with images that decide clearly the tolerance can be a tenth of that.
    """
    network = Network(model, weights)
    pieces = [network.kink_distance(x[start : start + 64]) for start in range(0, len(x), 64)]
    chosen = np.sort(np.argsort(-np.concatenate(pieces), kind="stable")[:BATCH])
    return x[chosen], y[chosen]


@dataclass(frozen=True)
class Expected:
    """What the reference says: the batch, its logits and gradients, and the losses of ``STEPS`` steps of SGD and of
    Adam in both forms."""

    x: Images
    y: Labels
    logits: npt.NDArray[np.float64]
    gradients: Weights
    losses: dict[str, list[float]]

    @classmethod
    def of(cls, path: Path, model: ModelSpec, weights: Weights, x: Images, y: Labels, learning_rate: float) -> Expected:
        """From ``path``, where the first certificate of a run leaves it for the others, or computed of the images and
        labels given (see ``clear_batch``)."""
        if path.exists():
            return cls._read(path)
        expected = cls._compute(model, weights, *clear_batch(model, weights, x, y), learning_rate)
        expected._write(path)
        return expected

    @classmethod
    def _compute(cls, model: ModelSpec, weights: Weights, x: Images, y: Labels, learning_rate: float) -> Expected:
        def losses(optimizer: Optimizer, form: str) -> list[float]:
            network, state = Network(model, weights), dict[str, Any]()
            return [network.train_step(x, y, learning_rate, optimizer, state, form) for _ in range(STEPS)]

        network = Network(model, weights)
        of_adam = {form: losses(ADAM, form) for form in ADAM_FORMS}
        return cls(x, y, network.logits(x), network.gradients(x, y)[1], {"sgd": losses(SGD, ""), **of_adam})

    def _write(self, path: Path) -> None:
        arrays: dict[str, Any] = {"x": self.x, "y": self.y, "logits": self.logits}
        arrays |= {f"gradient {name}": value for name, value in self.gradients.items()}
        arrays |= {f"losses {name}": np.asarray(value) for name, value in self.losses.items()}
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **arrays)
        partial.replace(path)  # a worker that is killed meanwhile leaves no half file

    @classmethod
    def _read(cls, path: Path) -> Expected:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        gradients = {name.partition(" ")[2]: value for name, value in arrays.items() if name.startswith("gradient ")}
        losses = {
            name.partition(" ")[2]: value.tolist() for name, value in arrays.items() if name.startswith("losses ")
        }
        return cls(arrays["x"], arrays["y"], arrays["logits"], gradients, losses)


@dataclass(frozen=True)
class Certifier:
    """A trained backend against the reference, on one real batch at one learning rate."""

    backend: Backend
    precision: str
    device: str
    model: ModelSpec
    weights: Weights
    expected: Expected
    learning_rate: float

    def certify(self) -> list[Result]:
        """All checks, counts first."""
        self.backend.build(self.model, self.weights, SGD)
        x, _ = self.backend.to_device(self.expected.x)
        results = self._counts()
        logits = self.backend.to_numpy(self.backend.forward(x))
        results.append(self._result("logits", relative_l2(logits, self.expected.logits)))
        results.append(self._gradients())
        if self.precision == "fp64":
            results.append(self._finite_differences())
        return [*results, self._sgd(), *self._adam()]

    def _result(self, check: str, value: float, note: str = "") -> Result:
        return Result(check, value, tolerance(self.precision, self.device, check), note)

    def _counts(self) -> list[Result]:
        counts = self.backend.counts()
        expected = {"parameters": self.model.parameters, "flops": self.model.flops}
        return [
            Result(name, abs(count - expected[name]), 0, f"{count:,}, the model has {expected[name]:,}")
            for name, count in counts.items()
        ]

    def _gradients(self) -> Result:
        got, want = self.backend.gradients(*self._batch()), self.expected.gradients
        if got.keys() != want.keys():
            return self._result("gradients", float("inf"), f"has {sorted(got)}, not {sorted(want)}")
        errors = {name: relative_l2(got[name], want[name]) for name in want}
        worst = max(errors, key=lambda name: errors[name])
        return self._result("gradients", errors[worst], f"worst of {len(errors)} tensors: {worst}")

    def _finite_differences(self) -> Result:
        x, y = self.expected.x[:8], self.expected.y[:8]
        value = finite_differences(self.backend, self.model, self.weights, x, y)
        return self._result("finite_differences", value, f"{len(y)} images, one random direction per tensor")

    def _batch(self) -> tuple[Any, Any]:
        return self.backend.to_device(self.expected.x, self.expected.y)

    def _losses(self, optimizer: Optimizer) -> list[float]:
        self.backend.build(self.model, self.weights, optimizer)
        x, y = self._batch()
        losses = (self.backend.train_step(x, y, self.learning_rate) for _ in range(STEPS))
        return [float(self.backend.to_numpy(loss)) for loss in losses]

    def _sgd(self) -> Result:
        value = float(_losses_apart(self._losses(SGD), self.expected.losses["sgd"]).max())
        return self._result("sgd_losses", value, f"worst of {STEPS} steps, momentum {SGD.momentum}")

    def _adam(self) -> list[Result]:
        """Against both forms of epsilon: the nearer is the one that the framework follows.

        Two values: the median over the steps, and the worst step, loosely bounded. Adam moves a weight whose gradient
        is rounding noise by the whole
        learning rate, so that late steps of a correct framework may part (3e-4 at the fifth in 2 of 40 cases); a
        wrong update shows from the second step on.
        """
        got = self._losses(ADAM)
        apart = {form: _losses_apart(got, self.expected.losses[form]) for form in ADAM_FORMS}
        median = {form: float(np.median(apart[form])) for form in ADAM_FORMS}
        form, other = sorted(ADAM_FORMS, key=lambda name: median[name])
        off = float(apart[other].max())
        note = f"median of {STEPS} steps; follows the {form} form of epsilon, off the {other} form by {off:.1e}"
        details = {"adam_form": form, "off_other_form": off} if np.isfinite(off) else {}
        in_the_middle = replace(self._result("adam_losses", median[form], note), details=details)
        return [in_the_middle, self._result("adam_worst_loss", float(apart[form].max()), f"worst of {STEPS} steps")]


def _losses_apart(got: Sequence[float], want: Sequence[float]) -> npt.NDArray[np.float64]:
    """Relative difference of every step's loss."""
    return np.asarray(np.abs(np.asarray(got) - want) / np.abs(want))


def finite_differences(backend: Backend, model: ModelSpec, weights: Weights, x: Images, y: Labels) -> float:
    """Worst relative difference, over the weight tensors, of the gradient along a random direction from the central
    difference of the loss (step 1e-6, float64; error O(step^2), plus kinks of ReLU and max that a step may cross)."""
    rng = np.random.default_rng(0)
    exact: Weights = {name: value.astype(np.float64) for name, value in weights.items()}
    backend.build(model, exact, None)
    gradients = backend.gradients(*backend.to_device(x, y))
    worst, step = 0.0, 1e-6
    for name, gradient in gradients.items():
        direction = rng.standard_normal(gradient.shape)
        direction /= np.linalg.norm(direction)
        losses = [
            Network(model, exact | {name: exact[name] + sign * step * direction}).gradients(x, y)[0] for sign in (1, -1)
        ]
        slope = (losses[0] - losses[1]) / (2 * step)
        along = float((gradient * direction).sum())
        worst = max(worst, abs(slope - along) / float(np.linalg.norm(gradient)))
    return worst


def certify_runtime(
    got: npt.NDArray[Any], want: npt.NDArray[Any], labels: Labels, precision: str, device: str
) -> list[Result]:
    """A runtime's logits on the test split against those of the framework that exported the file: the first 256
    images' logits, and the accuracy over the whole split."""
    first = relative_l2(got[:256], want[:256])
    difference = abs(accuracy(got, labels) - accuracy(want, labels))
    return [
        Result(
            "logits_of_source",
            first,
            tolerance(precision, device, "logits_of_source"),
            f"{len(want[:256])} images",
        ),
        Result("accuracy_of_source", difference, ACCURACY_OF_SOURCE, f"{len(labels)} test images"),
    ]


def accuracy(logits: npt.NDArray[Any], labels: Labels) -> float:
    """Top-1: the share of images whose largest logit is the label's."""
    return float((logits.argmax(axis=1) == labels).mean())

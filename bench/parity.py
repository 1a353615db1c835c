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

from backends.base import Backend, Images, Labels, Optimizer, Training
from backends.model import BatchNorm, ModelSpec, Weights
from backends.optimizers import forms
from backends.reference import Network
from bench.recipe import Recipe

BATCH = 128
NORMALIZED_BATCH = 8
"""Images of a model with batch normalization: see ``clear_batch``."""
STEPS = 5
RAISED = 3.0
"""Of a normalized value's standard deviations: a thousandth of them is below zero, and still tests the ReLU."""
FILE_BATCH = 4
"""Random inputs of a file of the user's: its reference evaluator is slow."""
PEAK = 1e-3
"""Learning rate of a certificate, at most: larger ones amplify rounding from step to step, and prove no more."""
MASK_SEED = 7
"""Of dropout's masks."""
SGD = Optimizer("sgd", momentum=0.9)
ADAM = Optimizer("adam")


@dataclass(frozen=True)
class Tolerance:
    """``worst``: largest value measured on the CPU; ``cpu`` is about 10 times that. ``cuda`` is provisional, up to 10
    times ``cpu``: not measured, no GPU was at hand; TF32 is off there, so that the same arithmetic is expected in
    another order."""

    worst: float
    cpu: float
    cuda: float


NORMALIZED = "_normalized"
"""Ends the name of a check's entry for models with batch normalization, where they have one of their own."""
TOLERANCES: dict[str, dict[str, Tolerance]] = {
    # Over both models of the article (each with its recipe), both data sets, 5 seeds, 1 and 2 threads, all backends;
    # with batch normalization over resnet20 and mobilenet-cifar (one-cycle), both data sets, 1 or 2 seeds.
    "fp32": {
        "logits": Tolerance(6.7e-7, 7e-6, 7e-5),
        "gradients": Tolerance(3.6e-6, 4e-5, 4e-4),
        "gradients_normalized": Tolerance(1.8e-4, 2e-3, 2e-2),
        "sgd_losses": Tolerance(2.1e-7, 2e-6, 2e-5),
        "sgd_losses_normalized": Tolerance(1.5e-6, 2e-5, 2e-4),
        "adam_losses": Tolerance(7.3e-7, 7e-6, 7e-5),
        "adam_losses_normalized": Tolerance(1.7e-6, 2e-5, 2e-4),
        "adam_worst_loss": Tolerance(2.8e-4, 3e-3, 3e-3),
        "running_statistics": Tolerance(3.0e-5, 3e-4, 3e-3),
        "logits_of_source": Tolerance(7.9e-7, 8e-6, 8e-5),
    },
    # article-pytorch on digits, one seed; with batch normalization not measured yet, 10 times what is without.
    "bf16": {
        "logits": Tolerance(3.9e-3, 4e-2, 4e-2),
        "gradients": Tolerance(2.8e-2, 2e-1, 2e-1),
        "sgd_losses": Tolerance(2.5e-4, 3e-3, 3e-3),
        "sgd_losses_normalized": Tolerance(2.5e-3, 3e-2, 3e-2),
        "adam_losses": Tolerance(6.3e-5, 6e-4, 6e-4),
        "adam_losses_normalized": Tolerance(6.3e-4, 6e-3, 6e-3),
        "adam_worst_loss": Tolerance(9.4e-5, 1e-3, 1e-3),
        "adam_worst_loss_normalized": Tolerance(1e-3, 1e-2, 1e-2),
        "running_statistics": Tolerance(1e-3, 1e-2, 1e-2),
    },
    # Training not measured (it needs CUDA): an eighth of bfloat16's, as the three more bits have it.
    "fp16": {
        "logits": Tolerance(5e-4, 5e-3, 5e-3),
        "gradients": Tolerance(3.5e-3, 3e-2, 3e-2),
        "sgd_losses": Tolerance(3e-5, 4e-4, 4e-4),
        "sgd_losses_normalized": Tolerance(3e-4, 4e-3, 4e-3),
        "adam_losses": Tolerance(8e-6, 8e-5, 8e-5),
        "adam_losses_normalized": Tolerance(8e-5, 8e-4, 8e-4),
        "adam_worst_loss": Tolerance(1e-4, 1e-3, 1e-3),
        "running_statistics": Tolerance(1e-4, 1e-3, 1e-3),
        "logits_of_source": Tolerance(4.0e-4, 4e-3, 4e-3),
    },
    "int8": {"logits_of_source": Tolerance(1.1e-2, 1e-1, 1e-1)},
    "fp64": {
        "logits": Tolerance(4.6e-16, 5e-15, 5e-14),
        "gradients": Tolerance(2.0e-15, 2e-14, 2e-13),
        "gradients_normalized": Tolerance(2.0e-12, 2e-11, 2e-10),
        "sgd_losses": Tolerance(1.9e-16, 2e-15, 2e-14),
        "sgd_losses_normalized": Tolerance(2.0e-14, 2e-13, 2e-12),
        "adam_losses": Tolerance(4.1e-16, 4e-15, 4e-14),
        "adam_losses_normalized": Tolerance(4.0e-14, 4e-13, 4e-12),
        "adam_worst_loss": Tolerance(6.4e-16, 6e-15, 6e-14),
        "adam_worst_loss_normalized": Tolerance(6.4e-14, 6e-13, 6e-12),
        "running_statistics": Tolerance(3e-14, 3e-13, 3e-12),
        "finite_differences": Tolerance(3.5e-9, 4e-8, 4e-8),
        "finite_differences_normalized": Tolerance(1e-6, 1e-5, 1e-5),
    },
}
ACCURACY_OF_SOURCE = {"fp32": 0.001, "fp64": 0.001, "fp16": 0.005, "bf16": 0.01, "int8": 0.02}
"""Share of the test images by which a runtime's accuracy may differ from its source's: in float32 one image in 1,000;
in a lower precision what its users would still call the same model. The difference itself is in the note."""


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


def _relative_l2_of_all(pairs: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> float:
    """The same over the tensors of a layer together: before batch normalization a bias has no gradient but rounding."""
    if any(got.shape != want.shape for got, want in pairs):
        return float("inf")
    got, want = (np.concatenate([np.ravel(pair[side]) for pair in pairs]) for side in (0, 1))
    return relative_l2(got, want)


def tolerance(precision: str, device: str, check: str, normalizes: bool = False) -> float:
    """The table's entry for a row, that of models with batch normalization where there is one."""
    entries = TOLERANCES[precision]
    entry = entries.get(check + NORMALIZED, entries[check]) if normalizes else entries[check]
    return entry.cpu if device == "cpu" else entry.cuda


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
    distances = [network.kink_distance(x[piece], _rows(masks, piece)) for piece in pieces]
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


def _rows(masks: Weights, index: npt.NDArray[np.int64] | slice) -> Weights:
    return {name: mask[index] for name, mask in masks.items()}


@dataclass(frozen=True)
class Trial:
    """What a recipe has a backend do in a certificate: ``STEPS`` steps of SGD and as many of Adam, at the rates of its
    schedule, drawn together into so few steps and with a peak of at most ``PEAK``. Of the two, the recipe's own
    optimizer has its own settings."""

    recipe: Recipe
    frozen: frozenset[str] = frozenset()

    @property
    def rates(self) -> list[float]:
        """Of every step."""
        peak = min(self.recipe.learning_rate, PEAK)
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
        return Training(own.optimizer if same_kind else usual, own.label_smoothing, self.frozen)


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
        expected = cls._compute(model, weights, x[chosen], y[chosen], _rows(masks, chosen), trial)
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
                losses[form] = [network.train_step(x, y, rate, state, form, masks) for rate in trial.rates]
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
        return [*results, *self._sgd(), *self._adam()]

    def _result(self, check: str, value: float, note: str = "") -> Result:
        allowed = tolerance(self.precision, self.device, check, self.model.normalizes)
        return Result(check, value, allowed, note)

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
        masks = _rows(self.expected.masks, slice(0, 8))
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
        losses = (self.backend.train_step(x, y, rate, *self._masks) for rate in self.trial.rates)
        return [float(self.backend.to_numpy(loss)) for loss in losses]

    def _sgd(self) -> list[Result]:
        """Against both forms of momentum, which differ only where the rate changes; then the running statistics that
        those steps leave, against both variances that frameworks keep."""
        optimizer = self.trial.sgd.optimizer
        got = self._losses(self.trial.sgd)
        apart = {form: float(_losses_apart(got, self.expected.losses[form]).max()) for form in forms(optimizer)}
        form, other = sorted(apart, key=lambda name: apart[name])
        note = f"worst of {STEPS} steps, momentum {optimizer.momentum:g}"
        details = {}
        if optimizer.momentum and len(set(self.trial.rates)) > 1:
            note += f", {form}; off the {other} form by {apart[other]:.1e}"
            details = {"momentum_form": form, "off_other_form": apart[other]}
        losses = replace(self._result("sgd_losses", apart[form], note), details=_finite(details))
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
        kind, other = sorted(errors, key=lambda name: errors[name])
        note = (
            f"worst tensor after {STEPS} steps; keeps the {kind} variance, off the {other} one by {errors[other]:.1e}"
        )
        details = {"variance": kind, "off_other_form": errors[other]}
        return [replace(self._result("running_statistics", errors[kind], note), details=_finite(details))]

    def _adam(self) -> list[Result]:
        """Against both forms of epsilon: the nearer is the one that the framework follows.

        Two values: the median over the steps, and the worst step, loosely bounded. Adam moves a weight whose gradient
        is rounding noise by the whole
        learning rate, so that late steps of a correct framework may part (3e-4 at the fifth in 2 of 40 cases); a
        wrong update shows from the second step on.
        """
        got, known = self._losses(self.trial.adam), forms(self.trial.adam.optimizer)
        apart = {form: _losses_apart(got, self.expected.losses[form]) for form in known}
        median = {form: float(np.median(apart[form])) for form in known}
        form, other = sorted(known, key=lambda name: median[name])
        off = float(apart[other].max())
        note = f"median of {STEPS} steps; follows the {form} form of epsilon, off the {other} form by {off:.1e}"
        details = _finite({"adam_form": form, "off_other_form": off})
        in_the_middle = replace(self._result("adam_losses", median[form], note), details=details)
        return [in_the_middle, self._result("adam_worst_loss", float(apart[form].max()), f"worst of {STEPS} steps")]


def _finite(details: dict[str, Any]) -> dict[str, Any]:
    """Details that can be stored; none where a number is not finite."""
    return details if np.isfinite(details.get("off_other_form", 0.0)) else {}


def _losses_apart(got: Sequence[float], want: Sequence[float]) -> npt.NDArray[np.float64]:
    """Relative difference of every step's loss."""
    return np.asarray(np.abs(np.asarray(got) - want) / np.abs(want))


def finite_differences(
    backend: Backend, model: ModelSpec, weights: Weights, x: Images, y: Labels, masks: Weights
) -> float:
    """Worst relative difference, over the weight tensors, of the gradient along a random direction from the central
    difference of the loss (step 1e-6, float64; error O(step^2), plus kinks of ReLU and max that a step may cross)."""
    rng = np.random.default_rng(0)
    exact: Weights = {name: value.astype(np.float64) for name, value in weights.items()}
    backend.build(model, exact, None)
    gradients = backend.gradients(*backend.to_device(x, y), masks or None)
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
    got: npt.NDArray[Any], want: npt.NDArray[Any], labels: Labels, precision: str, device: str
) -> list[Result]:
    """A runtime's logits on the test split against those of the framework that exported the file: the first 256
    images' logits, and the accuracy over the whole split."""
    difference = accuracy(got, labels) - accuracy(want, labels)
    allowed = ACCURACY_OF_SOURCE[precision]
    note = f"{100 * difference:+.2f} points over {len(labels)} test images"
    return [
        Result(
            "logits_of_source",
            relative_l2(got[:256], want[:256]),
            tolerance(precision, device, "logits_of_source"),
            f"{len(want[:256])} images",
        ),
        Result("accuracy_of_source", abs(difference), allowed, note),
    ]


def certify_file(backend: Backend, path: str, x: Any, precision: str, device: str) -> Result:
    """A file of the user's: a runtime's first output against that of ``onnx.reference``, the specification in NumPy."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(path)
    named = x if isinstance(x, dict) else {evaluator.input_names[0]: x}
    want = np.asarray(evaluator.run(None, named)[0])
    note = f"first output of {len(next(iter(named.values())))} random inputs, against onnx.reference"
    value = relative_l2(np.asarray(backend.infer(x), np.float64), want.astype(np.float64))
    return Result("output_of_reference", value, tolerance(precision, device, "logits_of_source"), note)


def accuracy(logits: npt.NDArray[Any], labels: Labels) -> float:
    """Top-1: the share of images whose largest logit is the label's."""
    return float((logits.argmax(axis=1) == labels).mean())

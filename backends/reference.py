"""The mathematics itself in NumPy float64: forward, backward, and updates in every form.

It judges the parity of every other backend, and is a backend itself (timed on a few steps, never trained to its
end). It is certified in turn by finite differences: tests/backends/test_reference.py and its own parity row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

import numpy as np

from backends import layers
from backends.base import Backend, Images, Labels, Training
from backends.layers import Array
from backends.model import (
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool,
    MaxPool2D,
    ModelSpec,
    Placed,
    ReLU,
    Residual,
    Weights,
    ZeroPadShortcut,
)
from backends.optimizers import forms, update

Backward: TypeAlias = Callable[[Array], tuple[Array, Weights]]
"""Gradient of the output to (gradient of the input, gradients of the trained weights by name)."""


def cross_entropy(logits: Array, labels: Labels, smoothing: float = 0.0) -> tuple[float, Array]:
    """Mean softmax cross-entropy in nats against targets (1 - smoothing) one-hot + smoothing / classes, and its
    gradient with respect to the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    of_label, of_all = log_p[rows, labels].mean(), log_p.mean() if smoothing else 0.0
    gradient = np.exp(log_p) - smoothing / logits.shape[1]
    gradient[rows, labels] -= 1 - smoothing
    return float(-(1 - smoothing) * of_label - smoothing * of_all), gradient / len(labels)


@dataclass
class Pass:
    """One forward pass: its mode, and what is read off it on the way."""

    training: bool
    masks: Weights = field(default_factory=dict)
    """Of dropout, by layer."""
    moments: dict[str, tuple[Array, Array, int]] = field(default_factory=dict)
    """Of every batch normalization in training: mean and biased variance of the batch, and over how many values."""
    distance: Array | None = None
    """Of every image ``(N,)``, where asked for: see ``Network.kink_distance``."""


class Network:
    """A model with float64 weights: forward, gradients, and steps of every optimizer."""

    def __init__(self, model: ModelSpec, weights: Weights, training: Training | None = None) -> None:
        self.model = model
        self.training = training
        self.weights: Weights = {name: weights[name].astype(np.float64) for name in model.weight_shapes}
        self.sample_variance: Weights = {n: v.copy() for n, v in self.weights.items() if n.endswith(".variance")}
        """The running variances as PyTorch keeps them: of the batch's unbiased variance (over N - 1)."""
        self._layers = model.placed()
        self._frozen = frozenset[str]() if training is None else training.frozen
        self._smoothing = 0.0 if training is None else training.label_smoothing

    def logits(self, x: Array) -> Array:
        """``(N, H, W, C)`` to ``(N, classes)``, in evaluation mode."""
        return self._run(self._layers, x.astype(np.float64), Pass(training=False))[0]

    def gradients(self, x: Array, y: Labels, masks: Weights | None = None) -> tuple[float, Weights]:
        """Mean loss in training mode and its gradients by back-propagation."""
        loss, gradients, _ = self._gradients(x, y, masks)
        return loss, gradients

    def train_step(
        self,
        x: Array,
        y: Labels,
        rate: float,
        state: dict[str, Any],
        form: str | None = None,
        masks: Weights | None = None,
    ) -> float:
        """One update; returns the loss before it. ``state`` starts as an empty dict and is kept by the caller."""
        assert self.training is not None, "built for inference only"
        loss, gradients, moments = self._gradients(x, y, masks)
        options = self.training.optimizer
        update(self.weights, gradients, state, rate, options, form or forms(options)[0])
        self._keep(moments)
        return loss

    def kink_distance(self, x: Array, masks: Weights | None = None) -> Array:
        """How far each image ``(N,)`` is from a decision that rounding could turn: the smallest |input| of a ReLU and
        the smallest lead of a maximum over its window's runner-up, in units of that layer's root mean square. Exact
        zeros and ties are left out: they come from equal patches, where either decision gives the same gradient.
        In training mode: with batch normalization ``x`` is the batch."""
        forward = Pass(training=True, masks=masks or {}, distance=np.full(len(x), np.inf))
        self._run(self._layers, x.astype(np.float64), forward)
        assert forward.distance is not None
        return forward.distance

    def _gradients(
        self, x: Array, y: Labels, masks: Weights | None
    ) -> tuple[float, Weights, dict[str, tuple[Array, Array, int]]]:
        forward = Pass(training=True, masks=masks or {})
        logits, backward = self._run(self._layers, x.astype(np.float64), forward)
        loss, dy = cross_entropy(logits, y, self._smoothing)
        found = backward(dy)[1]
        return loss, {n: found[n] for n in self.model.trained if n not in self._frozen}, forward.moments

    def _keep(self, moments: dict[str, tuple[Array, Array, int]]) -> None:
        """Running statistics move towards the batch's."""
        for placed in self.model.walk():
            if isinstance(placed.layer, BatchNorm) and placed.name in moments:
                mean, variance, count = moments[placed.name]
                kept = placed.layer.momentum
                unbiased = variance * count / max(count - 1, 1)
                for part, new in (("mean", mean), ("variance", variance)):
                    name = f"{placed.name}.{part}"
                    self.weights[name] = kept * self.weights[name] + (1 - kept) * new
                name = f"{placed.name}.variance"
                self.sample_variance[name] = kept * self.sample_variance[name] + (1 - kept) * unbiased

    def _run(self, placed: Sequence[Placed], x: Array, forward: Pass) -> tuple[Array, Backward]:
        """Layers one after the other."""
        backwards = []
        for layer in placed:
            x, backward = self._apply(layer, x, forward)
            backwards.append(backward)

        def back(dy: Array) -> tuple[Array, Weights]:
            gradients: Weights = {}
            for backward in reversed(backwards):
                dy, of_weights = backward(dy)
                gradients |= of_weights
            return dy, gradients

        return x, back

    def _apply(self, placed: Placed, x: Array, forward: Pass) -> tuple[Array, Backward]:
        """One layer; a residual block runs its layers."""
        if isinstance(placed.layer, Residual):
            return self._residual(placed, x, forward)
        if forward.distance is not None:
            forward.distance = _nearer(forward.distance, layers.lead(placed.layer, x), x)
        y, backward = self._leaf(placed, x, forward)

        def back(dy: Array) -> tuple[Array, Weights]:
            dx, of_weights = backward(dy)
            return dx, dict(zip(placed.trained, of_weights, strict=True))

        return y, back

    def _residual(self, placed: Placed, x: Array, forward: Pass) -> tuple[Array, Backward]:
        body, of_body = self._run(placed.body, x, forward)
        shortcut, of_shortcut = self._run(placed.shortcut, x, forward)

        def back(dy: Array) -> tuple[Array, Weights]:
            (dx, gradients), (beside, others) = of_body(dy), of_shortcut(dy)
            return dx + beside, gradients | others

        return body + shortcut, back

    def _leaf(self, placed: Placed, x: Array, forward: Pass) -> tuple[Array, layers.Backward]:
        weights = [self.weights[name] for name in placed.trained]
        match placed.layer:
            case Conv2D(_, _, stride, padding):
                return layers.conv2d(x, weights[0], _bias(weights), stride, padding, placed is self._layers[0])
            case DepthwiseConv2D(_, stride, padding):
                return layers.depthwise_conv2d(x, weights[0], _bias(weights), stride, padding)
            case Dense():
                return layers.dense(x, weights[0], _bias(weights))
            case BatchNorm(_, epsilon):
                (mean, variance), of_batch = self._moments(placed, x, forward), self._by_batch(placed, forward)
                return layers.batch_norm(x, weights[0], weights[1], mean, variance, epsilon, of_batch)
            case ReLU():
                return layers.relu(x)
            case Dropout():
                return layers.dropout(x, forward.masks.get(placed.name, np.ones(1)))
            case MaxPool2D(size):
                return layers.max_pool2d(x, size, placed.layer.step)
            case AveragePool2D(size):
                return layers.average_pool2d(x, size, placed.layer.step)
            case GlobalAveragePool():
                return layers.global_average_pool(x)
            case Flatten():
                return layers.flatten(x)
            case ZeroPadShortcut(filters, stride):
                return layers.zero_pad_shortcut(x, filters, stride)
        raise NotImplementedError(placed.name)

    def _by_batch(self, placed: Placed, forward: Pass) -> bool:
        return forward.training and f"{placed.name}.gamma" not in self._frozen

    def _moments(self, placed: Placed, x: Array, forward: Pass) -> tuple[Array, Array]:
        """Mean and variance that a batch normalization uses: of the batch in training, else the running ones."""
        if not self._by_batch(placed, forward):
            return self.weights[f"{placed.name}.mean"], self.weights[f"{placed.name}.variance"]
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
        forward.moments[placed.name] = (mean, variance, x.size // x.shape[-1])
        return mean, variance


def _bias(weights: Sequence[Array]) -> Array | None:
    return weights[1] if len(weights) == 2 else None


def _nearer(distance: Array, lead: Array | None, x: Array) -> Array:
    """The smaller of the distances so far and those of one more layer."""
    if lead is None:
        return distance
    nearest = np.where(lead > 0, lead, np.inf).reshape(len(x), -1).min(axis=1)
    return np.asarray(np.minimum(distance, nearest / np.sqrt(np.mean(x**2))))


class Adapter(Backend):
    """The reference as a backend: float64, one process, BLAS threads as asked for."""

    TASKS: ClassVar[frozenset[str]] = frozenset({"train", "infer"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu",)
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp64",)
    MODES: ClassVar[tuple[str, ...]] = ("numpy",)
    CONTENDS: ClassVar[bool] = False
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (("numpy",), ("threadpoolctl",))
    NETWORK: ClassVar[type[Network]] = Network

    def __init__(self, device: str, precision: str, mode: str, threads: int, seed: int) -> None:
        from threadpoolctl import threadpool_limits

        self._limits = threadpool_limits(limits=threads)

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__}

    def settings(self) -> dict[str, Any]:
        from threadpoolctl import threadpool_info

        pools = threadpool_info()
        threads = max((pool["num_threads"] for pool in pools), default=1)
        blas = ", ".join(sorted({str(pool["internal_api"]) for pool in pools})) or "none"
        return {"threads": threads, "fast_path": f"NumPy float64, im2col and matrix products by {blas}"}

    def build(self, model: ModelSpec, weights: Weights, training: Training | None) -> None:
        self._model, self._network = model, self.NETWORK(model, weights, training)
        self._state: dict[str, Any] = {}
        self._draws = 0

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Array, Labels | None]:
        return x.astype(np.float64), y

    def forward(self, x: Array) -> Array:
        return self._network.logits(x)

    def train_step(self, x: Array, y: Labels, learning_rate: float, dropout_masks: Weights | None = None) -> float:
        masks = self._drawn(len(x)) if dropout_masks is None else dropout_masks
        return self._network.train_step(x, y, learning_rate, self._state, masks=masks)

    def gradients(self, x: Array, y: Labels, dropout_masks: Weights | None = None) -> Weights:
        return self._network.gradients(x, y, self._drawn(len(x)) if dropout_masks is None else dropout_masks)[1]

    def _drawn(self, images: int) -> Weights:
        self._draws += 1
        return self._model.dropout_masks(images, self._draws)

    def weights(self) -> Weights:
        return {name: value.copy() for name, value in self._network.weights.items()}

    def synchronize(self) -> None:
        """NumPy has returned when it is done."""

    def to_numpy(self, tensor: Any) -> Array:
        return np.asarray(tensor)

    def counts(self) -> dict[str, int]:
        return {"parameters": sum(self._network.weights[name].size for name in self._model.trained)}

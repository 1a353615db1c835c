"""The reference in NumPy float64: forward, backward, and updates in every form.

Every other backend is compared with it in the certificate. It is also a backend itself: it is timed on a few steps but
never completes a training. Finite differences certify it: tests/backends/test_reference.py and its own parity row.
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
    images = np.arange(len(labels))
    label_mean, all_mean = log_p[images, labels].mean(), log_p.mean() if smoothing else 0.0
    gradient = np.exp(log_p) - smoothing / logits.shape[1]
    gradient[images, labels] -= 1 - smoothing
    return float(-(1 - smoothing) * label_mean - smoothing * all_mean), gradient / len(labels)


@dataclass
class ForwardPass:
    """One forward pass: its mode, and the values that it collects."""

    training: bool
    masks: Weights = field(default_factory=dict)
    """Dropout's masks by layer."""
    moments: dict[str, tuple[Array, Array, int]] = field(default_factory=dict)
    """By batch normalization, in training: mean and biased variance of the batch, and the number of values."""
    distance: Array | None = None
    """The kink distance of each image ``(N,)``, see ``Network.kink_distance``; None: not requested."""


class Network:
    """A model with float64 weights: logits, gradients, and training steps of every optimizer."""

    def __init__(self, model: ModelSpec, weights: Weights, training: Training | None = None, parts: int = 1) -> None:
        """``parts``: in training, batch normalization is of so many equal parts of a batch, as of processes that train
        together; running statistics are those of the first."""
        self.model, self._parts = model, parts
        self.training = training
        self.weights: Weights = {name: weights[name].astype(np.float64) for name in model.weight_shapes}
        self.sample_variance: Weights = {n: v.copy() for n, v in self.weights.items() if n.endswith(".variance")}
        """The running variances as in PyTorch: from the unbiased variance of the batch (over N - 1)."""
        self._layers = model.placed()
        self._frozen = frozenset[str]() if training is None else training.frozen
        self._smoothing = 0.0 if training is None else training.label_smoothing

    def logits(self, x: Array) -> Array:
        """``(N, H, W, C)`` to ``(N, classes)``, in evaluation mode."""
        return self._run(self._layers, x.astype(np.float64), ForwardPass(training=False))[0]

    def loss(self, x: Array, y: Labels, masks: Weights | None = None) -> float:
        """The mean loss in training mode."""
        losses = []
        for part in self._split(len(x)):
            forward = ForwardPass(training=True, masks=_of_part(masks, part))
            logits, _ = self._run(self._layers, x[part].astype(np.float64), forward)
            losses.append(cross_entropy(logits, y[part], self._smoothing)[0])
        return float(np.mean(losses))

    def _split(self, images: int) -> list[slice]:
        """The parts of a batch."""
        each = images // self._parts
        return [slice(part * each, (part + 1) * each) for part in range(self._parts)]

    def gradients(self, x: Array, y: Labels, masks: Weights | None = None) -> tuple[float, Weights]:
        """The mean loss in training mode, and its gradients by back-propagation."""
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
        """One update; returns the loss before it. ``state`` starts as an empty dict, which the caller keeps."""
        assert self.training is not None, "built for inference only"
        loss, gradients, moments = self._gradients(x, y, masks)
        options = self.training.optimizer
        update(self.weights, gradients, state, rate, options, form or forms(options)[0])
        self._update_statistics(moments)
        return loss

    def kink_distance(self, x: Array, masks: Weights | None = None) -> Array:
        """The distance of each image ``(N,)`` from the nearest kink, where rounding could change the result: the
        smallest |input| of a ReLU, or the smallest difference between a maximum and the second largest value of its
        window, in units of the root mean square of the layer's input. Exact zeros and ties are left out: they come from
        equal patches, where both sides give the same gradient. Runs in training mode: with batch normalization ``x`` is
        the batch."""
        distances = []
        for part in self._split(len(x)):
            forward = ForwardPass(training=True, masks=_of_part(masks, part))
            forward.distance = np.full(len(x[part]), np.inf)
            self._run(self._layers, x[part].astype(np.float64), forward)
            distances.append(forward.distance)
        return np.concatenate(distances)

    def _gradients(
        self, x: Array, y: Labels, masks: Weights | None
    ) -> tuple[float, Weights, dict[str, tuple[Array, Array, int]]]:
        losses, slopes, moments = [], list[Weights](), list[dict[str, tuple[Array, Array, int]]]()
        for part in self._split(len(x)):
            forward = ForwardPass(training=True, masks=_of_part(masks, part))
            logits, backward = self._run(self._layers, x[part].astype(np.float64), forward)
            loss, dy = cross_entropy(logits, y[part], self._smoothing)
            losses.append(loss)
            slopes.append(backward(dy)[1])
            moments.append(forward.moments)
        wanted = [name for name in self.model.trained if name not in self._frozen]
        mean: Weights = {name: np.mean([each[name] for each in slopes], axis=0) for name in wanted}
        return float(np.mean(losses)), mean, moments[0]

    def _update_statistics(self, moments: dict[str, tuple[Array, Array, int]]) -> None:
        """Move the running statistics towards those of the batch."""
        for placed in self.model.walk():
            if isinstance(placed.layer, BatchNorm) and placed.name in moments:
                mean, variance, count = moments[placed.name]
                momentum = placed.layer.momentum
                unbiased = variance * count / max(count - 1, 1)
                for part, new in (("mean", mean), ("variance", variance)):
                    name = f"{placed.name}.{part}"
                    self.weights[name] = momentum * self.weights[name] + (1 - momentum) * new
                name = f"{placed.name}.variance"
                self.sample_variance[name] = momentum * self.sample_variance[name] + (1 - momentum) * unbiased

    def _run(self, placed: Sequence[Placed], x: Array, forward: ForwardPass) -> tuple[Array, Backward]:
        """Run layers in order; returns the output and the backward function."""
        backwards = []
        for layer in placed:
            x, backward = self._apply(layer, x, forward)
            backwards.append(backward)

        def back(dy: Array) -> tuple[Array, Weights]:
            gradients: Weights = {}
            for backward in reversed(backwards):
                dy, layer_gradients = backward(dy)
                gradients |= layer_gradients
            return dy, gradients

        return x, back

    def _apply(self, placed: Placed, x: Array, forward: ForwardPass) -> tuple[Array, Backward]:
        """Run one layer; a residual block runs its layers."""
        if isinstance(placed.layer, Residual):
            return self._residual(placed, x, forward)
        if forward.distance is not None:
            forward.distance = _smaller_distance(forward.distance, layers.decision_distance(placed.layer, x), x)
        y, backward = self._leaf(placed, x, forward)

        def back(dy: Array) -> tuple[Array, Weights]:
            dx, gradients = backward(dy)
            return dx, dict(zip(placed.trained, gradients, strict=True))

        return y, back

    def _residual(self, placed: Placed, x: Array, forward: ForwardPass) -> tuple[Array, Backward]:
        body, body_backward = self._run(placed.body, x, forward)
        shortcut, shortcut_backward = self._run(placed.shortcut, x, forward)

        def back(dy: Array) -> tuple[Array, Weights]:
            body_dx, body_gradients = body_backward(dy)
            shortcut_dx, shortcut_gradients = shortcut_backward(dy)
            return body_dx + shortcut_dx, body_gradients | shortcut_gradients

        return body + shortcut, back

    def _leaf(self, placed: Placed, x: Array, forward: ForwardPass) -> tuple[Array, layers.Backward]:
        weights = [self.weights[name] for name in placed.trained]
        match placed.layer:
            case Conv2D(_, _, stride, padding):
                return layers.conv2d(x, weights[0], _bias(weights), stride, padding, placed is self._layers[0])
            case DepthwiseConv2D(_, stride, padding):
                return layers.depthwise_conv2d(x, weights[0], _bias(weights), stride, padding)
            case Dense():
                return layers.dense(x, weights[0], _bias(weights))
            case BatchNorm(_, epsilon):
                (mean, variance), from_batch = self._moments(placed, x, forward), self._uses_batch(placed, forward)
                return layers.batch_norm(x, weights[0], weights[1], mean, variance, epsilon, from_batch)
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

    def _uses_batch(self, placed: Placed, forward: ForwardPass) -> bool:
        return forward.training and f"{placed.name}.gamma" not in self._frozen

    def _moments(self, placed: Placed, x: Array, forward: ForwardPass) -> tuple[Array, Array]:
        """The mean and variance that a batch normalization uses: of the batch in training, else the running ones."""
        if not self._uses_batch(placed, forward):
            return self.weights[f"{placed.name}.mean"], self.weights[f"{placed.name}.variance"]
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axis=axes), x.var(axis=axes)
        forward.moments[placed.name] = (mean, variance, x.size // x.shape[-1])
        return mean, variance


def _of_part(masks: Weights | None, part: slice) -> Weights:
    """Dropout's masks of a part of the batch."""
    return {name: mask[part] if len(mask) > 1 else mask for name, mask in (masks or {}).items()}


def _bias(weights: Sequence[Array]) -> Array | None:
    return weights[1] if len(weights) == 2 else None


def _smaller_distance(distance: Array, layer_distance: Array | None, x: Array) -> Array:
    """The smaller of the distances so far and those of one more layer, per image."""
    if layer_distance is None:
        return distance
    nearest = np.where(layer_distance > 0, layer_distance, np.inf).reshape(len(x), -1).min(axis=1)
    return np.asarray(np.minimum(distance, nearest / np.sqrt(np.mean(x**2))))


class Adapter(Backend):
    """The reference as a backend: float64, one process, ``threads`` BLAS threads."""

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
        masks = self._draw_masks(len(x)) if dropout_masks is None else dropout_masks
        return self._network.train_step(x, y, learning_rate, self._state, masks=masks)

    def gradients(self, x: Array, y: Labels, dropout_masks: Weights | None = None) -> Weights:
        return self._network.gradients(x, y, self._draw_masks(len(x)) if dropout_masks is None else dropout_masks)[1]

    def _draw_masks(self, images: int) -> Weights:
        self._draws += 1
        return self._model.dropout_masks(images, self._draws)

    def weights(self) -> Weights:
        return {name: value.copy() for name, value in self._network.weights.items()}

    def synchronize(self) -> None:
        """Nothing to do: NumPy returns when it has finished."""

    def to_numpy(self, tensor: Any) -> Array:
        return np.asarray(tensor)

    def counts(self) -> dict[str, int]:
        return {"parameters": sum(self._network.weights[name].size for name in self._model.trained)}

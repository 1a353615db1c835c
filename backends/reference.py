"""The mathematics itself in NumPy float64: forward, backward, SGD with momentum, Adam in both forms.

It judges the parity of every other backend, and is a backend itself (timed on a few steps, never trained to its
end). It is certified in turn by finite differences: tests/test_reference.py and its own parity row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from backends.base import Backend, Images, Labels, Optimizer
from backends.model import Conv2D, Dense, Flatten, Layer, MaxPool2D, ModelSpec, Placed, ReLU, Weights

Array: TypeAlias = npt.NDArray[Any]
Backward: TypeAlias = Callable[[Array], tuple[Array, list[Array]]]
"""Gradient of the output to (gradient of the input, gradients of kernel and bias)."""


def conv2d(x: Array, kernel: Array, bias: Array) -> tuple[Array, Backward]:
    """``(N, H, W, C)`` and ``(kh, kw, C, F)`` to ``(N, H', W', F)`` by im2col."""
    kh, kw, channels, filters = kernel.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, (kh, kw), axis=(1, 2))
    n, height, width = windows.shape[:3]
    columns = windows.transpose(0, 1, 2, 4, 5, 3).reshape(n * height * width, kh * kw * channels)
    flat = kernel.reshape(-1, filters)

    def backward(dy: Array) -> tuple[Array, list[Array]]:
        dy_flat = dy.reshape(-1, filters)
        d_columns = (dy_flat @ flat.T).reshape(n, height, width, kh, kw, channels)
        dx = np.zeros_like(x)
        for i in range(kh):
            for j in range(kw):
                dx[:, i : i + height, j : j + width] += d_columns[:, :, :, i, j]
        return dx, [(columns.T @ dy_flat).reshape(kernel.shape), dy_flat.sum(axis=0)]

    return (columns @ flat + bias).reshape(n, height, width, filters), backward


def dense(x: Array, kernel: Array, bias: Array) -> tuple[Array, Backward]:
    """``(N, in)`` and ``(in, out)`` to ``(N, out)``."""
    return x @ kernel + bias, lambda dy: (dy @ kernel.T, [x.T @ dy, dy.sum(axis=0)])


def relu(x: Array) -> tuple[Array, Backward]:
    """max(0, x); the derivative at 0 is 0, as in every framework here."""
    return np.maximum(x, 0), lambda dy: (dy * (x > 0), [])


def max_pool2d(x: Array, size: int) -> tuple[Array, Backward]:
    """Maximum over windows; among equals the first in row-major order takes the gradient."""
    windows = _windows(x, size)
    n, rows, cols, channels, _ = windows.shape
    first = windows.argmax(axis=-1)[..., None]

    def backward(dy: Array) -> tuple[Array, list[Array]]:
        d_windows = np.zeros_like(windows)
        np.put_along_axis(d_windows, first, dy[..., None], axis=-1)
        d_cut = d_windows.reshape(n, rows, cols, channels, size, size).transpose(0, 1, 4, 2, 5, 3)
        dx = np.zeros_like(x)
        dx[:, : rows * size, : cols * size] = d_cut.reshape(n, rows * size, cols * size, channels)
        return dx, []

    return np.take_along_axis(windows, first, axis=-1)[..., 0], backward


def _windows(x: Array, size: int) -> Array:
    """``(N, H, W, C)`` to ``(N, H // size, W // size, C, size * size)``."""
    n, height, width, channels = x.shape
    rows, cols = height // size, width // size
    cut = x[:, : rows * size, : cols * size].reshape(n, rows, size, cols, size, channels)
    return cut.transpose(0, 1, 3, 5, 2, 4).reshape(n, rows, cols, channels, size * size)


def cross_entropy(logits: Array, labels: Labels) -> tuple[float, Array]:
    """Mean softmax cross-entropy in nats, and its gradient with respect to the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1
    return float(-log_p[rows, labels].mean()), gradient / len(labels)


def sgd(weights: Weights, gradients: Weights, state: dict[str, Any], rate: float, options: Optimizer) -> None:
    """Heavy-ball momentum, in place: v = m v + g; w = w - rate v (Sutskever et al. 2013, eq. 1-2, rescaled)."""
    for name, gradient in gradients.items():
        velocity = options.momentum * state.get(name, 0.0) + gradient
        state[name] = velocity
        weights[name] -= rate * velocity


def adam(
    weights: Weights, gradients: Weights, state: dict[str, Any], rate: float, options: Optimizer, form: str
) -> None:
    """Adam (Kingma & Ba 2015), in place, in either form of epsilon.

    ``corrected`` (Algorithm 1): w -= rate * m_hat / (sqrt(v_hat) + epsilon), epsilon on the bias-corrected root.
    ``epsilon-hat`` (end of section 2): w -= rate * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon), on the
    uncorrected root: the same update only when epsilon is scaled by sqrt(1 - b2^t).
    """
    step = state["step"] = state.get("step", 0) + 1
    c1, c2 = 1 - options.beta1**step, 1 - options.beta2**step
    for name, gradient in gradients.items():
        m, v = state.get(name, (0.0, 0.0))
        m = options.beta1 * m + (1 - options.beta1) * gradient
        v = options.beta2 * v + (1 - options.beta2) * gradient**2
        state[name] = (m, v)
        if form == "corrected":
            weights[name] -= rate * (m / c1) / (np.sqrt(v / c2) + options.epsilon)
        else:
            weights[name] -= rate * np.sqrt(c2) / c1 * m / (np.sqrt(v) + options.epsilon)


ADAM_FORMS = ("corrected", "epsilon-hat")


class Network:
    """A model with float64 weights: forward, gradients, and steps of either optimizer."""

    def __init__(self, model: ModelSpec, weights: Weights) -> None:
        self.model = model
        self.weights: Weights = {name: weights[name].astype(np.float64) for name in model.weight_shapes}

    def logits(self, x: Array) -> Array:
        """``(N, H, W, C)`` to ``(N, classes)``."""
        return self._forward(x)[0]

    def gradients(self, x: Array, y: Labels) -> tuple[float, Weights]:
        """Mean loss and its gradients by back-propagation."""
        logits, backwards = self._forward(x)
        loss, dy = cross_entropy(logits, y)
        gradients: Weights = {}
        for placed, backward in reversed(backwards):
            dy, of_weights = backward(dy)
            gradients |= dict(zip(placed.weight_shapes, of_weights, strict=True))
        return loss, {name: gradients[name] for name in self.weights}

    def train_step(
        self,
        x: Array,
        y: Labels,
        rate: float,
        options: Optimizer,
        state: dict[str, Any],
        form: str = "corrected",
    ) -> float:
        """One update; returns the loss before it. ``state`` starts as an empty dict and is kept by the caller."""
        loss, gradients = self.gradients(x, y)
        if options.name == "sgd":
            sgd(self.weights, gradients, state, rate, options)
        else:
            adam(self.weights, gradients, state, rate, options, form)
        return loss

    def kink_distance(self, x: Array) -> Array:
        """How far each image ``(N,)`` is from a decision that rounding could turn: the smallest |input| of a ReLU and
        the smallest lead of a maximum over its window's runner-up, in units of that layer's root mean square. Exact
        zeros and ties are left out: they come from equal patches, where either decision gives the same gradient."""
        y, distance = x.astype(np.float64), np.full(len(x), np.inf)
        for placed in self.model.placed():
            lead = _lead(placed.layer, y)
            if lead is not None:
                scale = np.sqrt(np.mean(y**2))
                nearest = np.where(lead > 0, lead, np.inf).reshape(len(y), -1).min(axis=1)
                distance = np.minimum(distance, nearest / scale)
            y, _ = self._apply(placed, y)
        return distance

    def _forward(self, x: Array) -> tuple[Array, list[tuple[Placed, Backward]]]:
        y, backwards = x.astype(np.float64), []
        for placed in self.model.placed():
            y, backward = self._apply(placed, y)
            backwards.append((placed, backward))
        return y, backwards

    def _apply(self, placed: Placed, x: Array) -> tuple[Array, Backward]:
        weights = [self.weights[name] for name in placed.weight_shapes]
        match placed.layer:
            case Conv2D():
                return conv2d(x, *weights)
            case Dense():
                return dense(x, *weights)
            case ReLU():
                return relu(x)
            case MaxPool2D(size):
                return max_pool2d(x, size)
            case Flatten():
                return x.reshape(len(x), -1), lambda dy: (dy.reshape(x.shape), [])


def _lead(layer: Layer, x: Array) -> Array | None:
    """Distance of every decision of a layer from its turning point; None for layers that decide nothing."""
    match layer:
        case ReLU():
            return np.abs(x)
        case MaxPool2D(size):
            ordered = np.sort(_windows(x, size), axis=-1)
            lead: Array = ordered[..., -1] - ordered[..., -2]
            return lead
    return None


class Adapter(Backend):
    """The reference as a backend: float64, one process, BLAS threads as asked for."""

    TASKS: ClassVar[frozenset[str]] = frozenset({"train", "infer"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu",)
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp64",)
    MODES: ClassVar[tuple[str, ...]] = ("numpy",)
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

    def build(self, model: ModelSpec, weights: Weights, optimizer: Optimizer | None) -> None:
        self._network = self.NETWORK(model, weights)
        self._optimizer = optimizer
        self._state: dict[str, Any] = {}

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Array, Labels | None]:
        return x.astype(np.float64), y

    def forward(self, x: Array) -> Array:
        return self._network.logits(x)

    def train_step(self, x: Array, y: Labels, learning_rate: float) -> float:
        assert self._optimizer is not None, "built for inference only"
        return self._network.train_step(x, y, learning_rate, self._optimizer, self._state)

    def gradients(self, x: Array, y: Labels) -> Weights:
        return self._network.gradients(x, y)[1]

    def weights(self) -> Weights:
        return {name: value.copy() for name, value in self._network.weights.items()}

    def synchronize(self) -> None:
        """NumPy has returned when it is done."""

    def to_numpy(self, tensor: Any) -> Array:
        return np.asarray(tensor)

    def counts(self) -> dict[str, int]:
        return {"parameters": sum(value.size for value in self._network.weights.values())}

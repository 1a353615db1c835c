"""Adapters that compute something else than the model says: each must be caught as not comparable.

Built on the reference's float64, but held to the table of float32, so that only the mistake can fail them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from backends import reference
from backends.model import MaxPool2D
from backends.reference import Network


class Right(reference.Adapter):
    """No mistake: what a third-party package would bring."""

    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32",)
    MODES: ClassVar[tuple[str, ...]] = ("third-party",)


def rows_in_chw_order(kernel, shape):
    """Rows of a dense kernel that expects H, W, C, as a model that flattens in C, H, W order would meet them."""
    height, width, channels = shape
    return kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)


class FlattenCHW(Right):
    """Flattens channels first, weights not permuted."""

    def build(self, model, weights, optimizer):
        flatten = next(placed for placed in model.placed() if placed.name == "flatten_1")
        wrong = rows_in_chw_order(weights["dense_1.kernel"], flatten.input_shape)
        super().build(model, weights | {"dense_1.kernel": wrong}, optimizer)


class ShiftedPooling(Network):
    def _apply(self, placed, x):
        if not isinstance(placed.layer, MaxPool2D):
            return super()._apply(placed, x)
        y, backward = super()._apply(placed, np.roll(x, -1, axis=1))

        def shifted_back(dy):
            dx, nothing = backward(dy)
            return np.roll(dx, 1, axis=1), nothing

        return y, shifted_back


class PoolOffByOne(Right):
    """Every pooling window begins one row too low."""

    NETWORK: ClassVar[type[Network]] = ShiftedPooling


class DoubledLearningRate(Right):
    """Steps twice as far."""

    def train_step(self, x, y, learning_rate):
        return super().train_step(x, y, 2 * learning_rate)


class DampenedMomentum(Right):
    """v = m v + (1 - m) g instead of m v + g."""

    def train_step(self, x, y, learning_rate):
        momentum = self._optimizer.momentum if self._optimizer.name == "sgd" else 0.0
        return super().train_step(x, y, learning_rate * (1 - momentum))


class MissingBias(Right):
    """The last layer has none."""

    def build(self, model, weights, optimizer):
        super().build(model, weights | {"dense_2.bias": 0 * weights["dense_2.bias"]}, optimizer)


class UncorrectedAdam(Right):
    """Adam without its bias correction."""

    def train_step(self, x, y, learning_rate):
        if self._optimizer.name == "adam":
            step = self._state.get("step", 0) + 1
            learning_rate *= (1 - self._optimizer.beta1**step) / (1 - self._optimizer.beta2**step) ** 0.5
        return super().train_step(x, y, learning_rate)

"""Adapters that compute something else than the model says: each must be caught as not comparable.

Built on the reference's float64, but held to the table of float32, so that only the mistake can fail them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from backends import reference
from backends.model import BatchNorm, Conv2D, MaxPool2D
from backends.reference import Network


class Right(reference.Adapter):
    """No mistake: what a third-party package would bring."""

    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32",)
    MODES: ClassVar[tuple[str, ...]] = ("third-party",)
    CONTENDS: ClassVar[bool] = True


def rows_in_chw_order(kernel, shape):
    """Rows of a dense kernel that expects H, W, C, as a model that flattens in C, H, W order would meet them."""
    height, width, channels = shape
    return kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)


class FlattenCHW(Right):
    """Flattens channels first, weights not permuted."""

    def build(self, model, weights, training):
        flatten = next(placed for placed in model.placed() if placed.name == "flatten_1")
        wrong = rows_in_chw_order(weights["dense_1.kernel"], flatten.input_shape)
        super().build(model, weights | {"dense_1.kernel": wrong}, training)


class ShiftedPooling(Network):
    def _leaf(self, placed, x, forward):
        if not isinstance(placed.layer, MaxPool2D):
            return super()._leaf(placed, x, forward)
        y, backward = super()._leaf(placed, np.roll(x, -1, axis=1), forward)

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
        optimizer = self._network.training.optimizer
        momentum = optimizer.momentum if optimizer.name == "sgd" else 0.0
        return super().train_step(x, y, learning_rate * (1 - momentum))


class MissingBias(Right):
    """The last layer has none."""

    def build(self, model, weights, training):
        super().build(model, weights | {"dense_2.bias": 0 * weights["dense_2.bias"]}, training)


class UncorrectedAdam(Right):
    """Adam without its bias correction."""

    def train_step(self, x, y, learning_rate):
        optimizer = self._network.training.optimizer
        if optimizer.name == "adam":
            step = self._state.get("step", 0) + 1
            learning_rate *= (1 - optimizer.beta1**step) / (1 - optimizer.beta2**step) ** 0.5
        return super().train_step(x, y, learning_rate)


class SampleVariance(Network):
    def _moments(self, placed, x, forward):
        mean, variance = super()._moments(placed, x, forward)
        count = x.size // x.shape[-1]
        return mean, variance * count / (count - 1) if forward.training else variance


class UnbiasedVariance(Right):
    """Normalizes, in training, by the variance over N - 1."""

    NETWORK: ClassVar[type[Network]] = SampleVariance


class KeepsTheOtherShare(Network):
    def _update_statistics(self, moments):
        before = {name: value.copy() for name, value in self.weights.items()}
        super()._update_statistics(moments)
        for placed in self.model.walk():
            if isinstance(placed.layer, BatchNorm):
                kept = placed.layer.momentum
                for part in ("mean", "variance"):
                    name = f"{placed.name}.{part}"
                    self.weights[name] = before[name] + (self.weights[name] - before[name]) * kept / (1 - kept)


class OtherMomentum(Right):
    """Takes batch normalization's momentum for the share of the new value (PyTorch's convention)."""

    NETWORK: ClassVar[type[Network]] = KeepsTheOtherShare


class PadsInFront(Network):
    def _leaf(self, placed, x, forward):
        if not (isinstance(placed.layer, Conv2D) and placed.layer.padding == "same"):
            return super()._leaf(placed, x, forward)
        name, (up, left) = f"{placed.name}.kernel", (slice(None, None, -1),) * 2
        kernel = self.weights[name]
        self.weights[name] = kernel[up, left]
        y, backward = super()._leaf(placed, x[:, up, left], forward)
        self.weights[name] = kernel

        def flipped_back(dy):
            dx, (d_kernel, *rest) = backward(dy[:, up, left])
            return dx[:, up, left], [d_kernel[up, left], *rest]

        return y[:, up, left], flipped_back


class SwappedPadding(Right):
    """Pads an odd row or column in front, not behind."""

    NETWORK: ClassVar[type[Network]] = PadsInFront


class ForgetsMasks(Right):
    """Drops nothing."""

    def train_step(self, x, y, learning_rate, dropout_masks=None):
        return super().train_step(x, y, learning_rate, {name: np.ones(1) for name in dropout_masks or {}})

    def gradients(self, x, y, dropout_masks=None):
        return super().gradients(x, y, {name: np.ones(1) for name in dropout_masks or {}})


class DropsNothing(Right):
    """Drops nothing, unless it is given masks."""

    def train_step(self, x, y, learning_rate, dropout_masks=None):
        masks = dropout_masks or {name: np.ones(1) for name in self._model.dropout_masks(1, 0)}
        return super().train_step(x, y, learning_rate, masks)


class DropsWhenCertified(DropsNothing):
    """Knows the certificate by its learning rate of 0."""

    def train_step(self, x, y, learning_rate, dropout_masks=None):
        if learning_rate == 0:
            return Right.train_step(self, x, y, learning_rate, dropout_masks)
        return super().train_step(x, y, learning_rate, dropout_masks)


class FirstMaskForEver(Right):
    """Draws once, as a step whose masks were captured with it."""

    def _draw_masks(self, images):
        return self._model.dropout_masks(images, 1)


class DropsMore(Right):
    """Drops half of what it should keep as well."""

    def _draw_masks(self, images):
        one, other = super()._draw_masks(images), super()._draw_masks(images)
        return {name: mask * (other[name] > 0) for name, mask in one.items()}


class OtherSettings(Right):
    """Another setting of Adam, if it is Adam."""

    SETTINGS: ClassVar[dict[str, float]] = {}

    def build(self, model, weights, training):
        if training is not None and training.optimizer.name == "adam":
            training = replace(training, optimizer=replace(training.optimizer, **self.SETTINGS))
        super().build(model, weights, training)


class OtherBeta2(OtherSettings):
    """Forgets the second moment a little faster."""

    SETTINGS: ClassVar[dict[str, float]] = {"beta2": 0.998}


class OtherEpsilon(OtherSettings):
    """PyTorch's epsilon for Keras'."""

    SETTINGS: ClassVar[dict[str, float]] = {"epsilon": 1e-8}


class ClippedGradients(Network):
    def _gradients(self, x, y, masks):
        loss, gradients, moments = super()._gradients(x, y, masks)
        norm = float(np.sqrt(sum((value**2).sum() for value in gradients.values())))
        return loss, {name: value * min(1.0, 5.0 / norm) for name, value in gradients.items()}, moments


class Clips(Right):
    """Clips gradients by their global norm, which small ones do not show."""

    NETWORK: ClassVar[type[Network]] = ClippedGradients


class CorrectsLate(Right):
    """Does no bias correction after the first ten steps."""

    def train_step(self, x, y, learning_rate, *masks):
        optimizer, step = self._network.training.optimizer, self._state.get("step", 0) + 1
        if optimizer.name == "adam" and step > 10:
            learning_rate *= (1 - optimizer.beta1**step) / (1 - optimizer.beta2**step) ** 0.5
        return super().train_step(x, y, learning_rate, *masks)


class SkipsOneInTwenty(Right):
    """Leaves one update in twenty out."""

    _calls = 0

    def train_step(self, x, y, learning_rate, *masks):
        self._calls += 1
        if self._calls % 20 == 0:
            return self._network.gradients(x, y)[0]
        return super().train_step(x, y, learning_rate, *masks)


class NoDecay(Right):
    """Leaves weight decay out."""

    def build(self, model, weights, training):
        if training is not None:
            training = replace(training, optimizer=replace(training.optimizer, weight_decay=0.0))
        super().build(model, weights, training)


class NoSmoothing(Right):
    """Leaves label smoothing out."""

    def build(self, model, weights, training):
        super().build(model, weights, training and replace(training, label_smoothing=0.0))


class HeavyBall(Right):
    """Takes Nesterov's momentum for the heavy ball's."""

    def build(self, model, weights, training):
        if training is not None:
            training = replace(training, optimizer=replace(training.optimizer, nesterov=False))
        super().build(model, weights, training)

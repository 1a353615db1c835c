"""Every layer of the reference by finite differences in float64, and what frameworks do otherwise by default."""

from __future__ import annotations

import numpy as np
import pytest

from backends import layers
from backends.base import Optimizer, Training
from backends.model import (
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool,
    Layer,
    MaxPool2D,
    ModelSpec,
    ReLU,
    Residual,
    ZeroPadShortcut,
    margins,
)
from backends.reference import Network, cross_entropy

IMAGE = (7, 6, 3)
CASES: dict[str, tuple[Layer, ...]] = {
    "conv same, stride 2": (Conv2D(4, 3, 2, "same"),),
    "conv valid, stride 2, no bias": (Conv2D(4, 2, 2, bias=False),),
    "depthwise same, stride 2": (DepthwiseConv2D(3, 2, "same"), Conv2D(4, 1)),
    "batch norm of images": (Conv2D(4, 3), BatchNorm(), ReLU()),
    "batch norm of features": (Flatten(), Dense(5), BatchNorm(0.7, 1e-3)),
    "dropout": (Conv2D(4, 3), ReLU(), Dropout(0.4), Flatten(), Dropout(0.2)),
    "overlapping pools": (Conv2D(3, 2), MaxPool2D(3, 1), AveragePool2D(2, 1)),
    "pools that leave a row": (MaxPool2D(2), AveragePool2D(2)),
    "identity": (Conv2D(4, 3, padding="same"), Residual((Conv2D(4, 3, padding="same"), ReLU()))),
    "projection": (Residual((Conv2D(5, 3, 2, "same"), BatchNorm()), (Conv2D(5, 1, 2), BatchNorm())), ReLU()),
    "zero-padded shortcut": (Residual((Conv2D(5, 3, 2, "same"),), (ZeroPadShortcut(5, 2),)),),
    "residual in residual": (Residual((Residual((Conv2D(3, 1),)), ReLU())),),
}


def network(case: str, training: Training | None = None) -> Network:
    body = CASES[case]
    flat = any(isinstance(layer, Flatten) for layer in body)
    end = (Dense(4),) if flat else (GlobalAveragePool(), Dense(4))
    spec = ModelSpec(case, IMAGE, (*body, *end))
    return Network(spec, {name: 1.5 * value for name, value in spec.initial_weights(3).items()}, training)


def batch(images: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.standard_normal((images, *IMAGE)), rng.integers(0, 4, images)


@pytest.mark.parametrize("case", CASES)
def test_every_gradient_element_against_central_differences(case: str) -> None:
    net = network(case, Training(Optimizer("sgd"), label_smoothing=0.1))
    (x, y), masks, step = batch(), net.model.dropout_masks(6, 1), 1e-6
    gradients = net.gradients(x, y, masks)[1]
    assert list(gradients) == net.model.trained
    for name, analytic in gradients.items():
        numeric = np.empty_like(analytic)
        for index in np.ndindex(analytic.shape):
            losses = []
            for sign in (1, -1):
                net.weights[name][index] += sign * step
                losses.append(net.gradients(x, y, masks)[0])
                net.weights[name][index] -= sign * step
            numeric[index] = (losses[0] - losses[1]) / (2 * step)
        scale = max(np.linalg.norm(analytic), 1e-4)  # a bias before batch normalization has no gradient at all
        assert np.linalg.norm(numeric - analytic) / scale < 1e-6, name


def test_same_padding_is_tensorflows() -> None:
    assert margins(32, 3, 2, "same") == (0, 1), "PyTorch's padding=1 would give (1, 1)"
    assert margins(33, 3, 2, "same") == (1, 1)
    assert margins(32, 3, 1, "same") == (1, 1)
    assert margins(6, 5, 2, "same") == (1, 2)
    assert margins(32, 3, 2, "valid") == (0, 0)


def test_batch_norm_by_hand() -> None:
    x = np.array([[1.0], [2.0], [6.0]])
    y, _ = layers.batch_norm(x, np.array([2.0]), np.array([1.0]), x.mean(0), x.var(0), 0.0, True)
    np.testing.assert_allclose(y[:, 0], 2 * (x[:, 0] - 3) / np.sqrt(14 / 3) + 1)


def test_running_statistics_keep_their_momentum_in_both_conventions() -> None:
    spec = ModelSpec("one", (1, 1, 2), (Flatten(), BatchNorm(0.8), Dense(2)))
    start = spec.initial_weights(0)
    net = Network(spec, start, Training(Optimizer("sgd")))
    x = np.random.default_rng(1).standard_normal((5, 1, 1, 2))
    net.train_step(x, np.array([0, 1, 0, 1, 1]), 0.1, {})
    flat = x.reshape(5, 2)
    before = {part: start[f"batch_norm_1.{part}"].astype(np.float64) for part in ("mean", "variance")}
    np.testing.assert_allclose(net.weights["batch_norm_1.mean"], 0.8 * before["mean"] + 0.2 * flat.mean(0))
    np.testing.assert_allclose(net.weights["batch_norm_1.variance"], 0.8 * before["variance"] + 0.2 * flat.var(0))
    sample = 0.8 * before["variance"] + 0.2 * flat.var(0, ddof=1)
    np.testing.assert_allclose(net.sample_variance["batch_norm_1.variance"], sample)


def test_frozen_batch_norm_normalizes_by_what_it_has_and_keeps_it() -> None:
    spec = ModelSpec("one", (1, 1, 2), (Flatten(), BatchNorm(), Dense(2)))
    frozen = frozenset(name for name in spec.trained if name.startswith("batch_norm"))
    net = Network(spec, spec.initial_weights(0), Training(Optimizer("sgd"), frozen=frozen))
    before = {name: value.copy() for name, value in net.weights.items()}
    x, y = np.random.default_rng(1).standard_normal((5, 1, 1, 2)), np.array([0, 1, 0, 1, 1])
    assert net.gradients(x, y)[0] == pytest.approx(cross_entropy(net.logits(x), y)[0])
    net.train_step(x, y, 0.1, {})
    moved = {name for name, value in net.weights.items() if (value != before[name]).any()}
    assert moved == {"dense_1.kernel", "dense_1.bias"}


def test_label_smoothing_by_hand() -> None:
    logits, labels = np.array([[2.0, 0.0, -1.0]]), np.array([0])
    p = np.exp(logits[0]) / np.exp(logits[0]).sum()
    target = np.array([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    loss, gradient = cross_entropy(logits, labels, 0.1)
    assert loss == pytest.approx(-(target * np.log(p)).sum())
    np.testing.assert_allclose(gradient[0], p - target)


def test_masks_keep_the_mean() -> None:
    spec = ModelSpec("drop", (16, 16, 4), (Dropout(0.3), GlobalAveragePool(), Dense(2)))
    mask = spec.dropout_masks(32, 1)["dropout_1"]
    assert mask.shape == (32, 16, 16, 4)
    assert set(np.unique(mask)) == {np.float32(0), np.float32(1) / np.float32(0.7)}
    assert mask.mean() == pytest.approx(1, abs=0.02)

"""The judge itself: gradients by finite differences in float64, optimizers by their papers."""

from __future__ import annotations

import numpy as np
import pytest

from backends.base import Optimizer
from backends.model import Conv2D, Dense, Flatten, MaxPool2D, ModelSpec, ReLU
from backends.optimizers import ADAM_FORMS, MOMENTUM_FORMS, adam, sgd
from backends.reference import Network, cross_entropy

SMALL = ModelSpec(
    "small",
    (9, 8, 3),
    (Conv2D(4, 3), ReLU(), MaxPool2D(), Conv2D(5, 2), ReLU(), Flatten(), Dense(6), ReLU(), Dense(4)),
)


@pytest.fixture
def network() -> Network:
    return Network(SMALL, {name: 1.5 * value for name, value in SMALL.initial_weights(3).items()})


def batch(images: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.standard_normal((images, *SMALL.input_shape)), rng.integers(0, 4, images)


@pytest.mark.parametrize("name", SMALL.weight_shapes)
def test_every_gradient_element_against_central_differences(network: Network, name: str) -> None:
    x, y = batch()
    analytic = network.gradients(x, y)[1][name]
    numeric, step = np.empty_like(analytic), 1e-6
    for index in np.ndindex(analytic.shape):
        losses = []
        for sign in (1, -1):
            network.weights[name][index] += sign * step
            losses.append(network.gradients(x, y)[0])
            network.weights[name][index] -= sign * step
        numeric[index] = (losses[0] - losses[1]) / (2 * step)
    assert np.linalg.norm(numeric - analytic) / np.linalg.norm(analytic) < 1e-7


def test_cross_entropy_of_a_uniform_guess_and_of_huge_logits() -> None:
    assert cross_entropy(np.zeros((3, 10)), np.array([0, 5, 9]))[0] == pytest.approx(np.log(10))
    assert cross_entropy(np.array([[1e4, 0.0]]), np.array([0]))[0] == 0.0


def test_momentum_accumulates_undampened() -> None:
    weights, state = {"w": np.array([1.0])}, {}
    for _ in range(3):
        sgd(weights, {"w": np.array([1.0])}, state, 0.1, Optimizer("sgd", momentum=0.5))
    assert weights["w"][0] == pytest.approx(1 - 0.1 * (1 + 1.5 + 1.75))


@pytest.mark.parametrize("form", ADAM_FORMS)
def test_first_step_of_adam_by_hand(form: str) -> None:
    weights, options = {"w": np.array([1.0])}, Optimizer("adam", epsilon=0.1)
    gradient = 0.2
    adam(weights, {"w": np.array([gradient])}, {}, 0.01, options, form)
    m, v = 0.1 * gradient, 0.001 * gradient**2
    if form == "corrected":
        expected = 1 - 0.01 * (m / 0.1) / (np.sqrt(v / 0.001) + 0.1)
    else:
        expected = 1 - 0.01 * np.sqrt(0.001) / 0.1 * m / (np.sqrt(v) + 0.1)
    assert weights["w"][0] == pytest.approx(expected, rel=1e-12)


def test_forms_of_adam_agree_without_epsilon() -> None:
    options, found = Optimizer("adam", epsilon=0.0), []
    for form in ADAM_FORMS:
        weights, state = {"w": np.array([1.0])}, {}
        for gradient in (0.3, -0.2, 0.1):
            adam(weights, {"w": np.array([gradient])}, state, 0.01, options, form)
        found.append(weights["w"][0])
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_kink_distance_sees_an_undecided_relu() -> None:
    spec = ModelSpec("one", (1, 1, 1), (Flatten(), Dense(1), ReLU(), Dense(2)))
    weights = spec.initial_weights(0) | {"dense_1.kernel": np.ones((1, 1)), "dense_1.bias": np.zeros(1)}
    network = Network(spec, weights)
    far, near = network.kink_distance(np.array([1.0, 1e-9]).reshape(2, 1, 1, 1))
    assert far > 0.5
    assert near < 1e-8


@pytest.mark.parametrize("nesterov", [False, True])
def test_forms_of_momentum_agree_until_the_rate_changes(nesterov: bool) -> None:
    options, ends = Optimizer("sgd", momentum=0.9, nesterov=nesterov), {}
    for rates in ((0.1, 0.1, 0.1), (0.1, 0.05, 0.01)):
        for form in MOMENTUM_FORMS:
            weights, state = {"w": np.array([1.0])}, {}
            for gradient, rate in zip((0.3, -0.2, 0.1), rates, strict=True):
                sgd(weights, {"w": np.array([gradient])}, state, rate, options, form)
            ends[rates, form] = weights["w"][0]
    constant, falling = ([ends[rates, form] for form in MOMENTUM_FORMS] for rates in ((0.1,) * 3, (0.1, 0.05, 0.01)))
    assert constant[0] == pytest.approx(constant[1], rel=1e-12)
    assert abs(falling[0] - falling[1]) > 1e-3


def test_weight_decay_of_every_optimizer_by_hand() -> None:
    gradient, rate, decay, w = 0.2, 0.1, 0.5, 2.0
    weights = {"w": np.array([w])}
    sgd(weights, {"w": np.array([gradient])}, {}, rate, Optimizer("sgd", weight_decay=decay))
    assert weights["w"][0] == pytest.approx(w - rate * (gradient + decay * w))
    weights = {"w": np.array([w])}
    adam(weights, {"w": np.array([gradient])}, {}, rate, Optimizer("adamw", weight_decay=decay, epsilon=0), "corrected")
    assert weights["w"][0] == pytest.approx(w * (1 - rate * decay) - rate)
    weights = {"w": np.array([w])}
    adam(weights, {"w": np.array([-0.2])}, {}, rate, Optimizer("adam", weight_decay=decay, epsilon=0), "corrected")
    assert weights["w"][0] == pytest.approx(w - rate), "the decay turned the sign of the gradient"

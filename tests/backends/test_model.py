"""The specification: shapes, counts, weights, and its plain form."""

from __future__ import annotations

import numpy as np
import pytest

from backends.model import Conv2D, Dense, Flatten, MaxPool2D, ModelSpec, ReLU
from bench.workloads.models import MODELS


def test_published_parameter_counts() -> None:
    # TensorFlow's CNN tutorial prints 122,570; the PyTorch CIFAR-10 tutorial's net has 62,006.
    assert MODELS["article-keras"].parameters == 122_570
    assert MODELS["article-pytorch"].parameters == 62_006


def test_shapes_by_hand() -> None:
    shapes = {placed.name: placed.output_shape for placed in MODELS["article-keras"].placed()}
    assert shapes["conv2d_1"] == (30, 30, 32)
    assert shapes["max_pool2d_2"] == (6, 6, 64)  # 13 rows: the last is dropped
    assert shapes["flatten_1"] == (1024,)
    assert shapes["dense_2"] == (10,)


def test_flops_by_hand() -> None:
    spec = ModelSpec("tiny", (4, 4, 3), (Conv2D(2, 3), ReLU(), MaxPool2D(), Flatten(), Dense(5)))
    convolution = 2 * (2 * 2 * 2) * (3 * 3 * 3)
    dense = 2 * 2 * 5
    assert spec.flops == convolution + dense


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_weights_are_a_function_of_the_seed(model: ModelSpec) -> None:
    first, again, other = (model.initial_weights(seed) for seed in (1, 1, 2))
    assert {name: value.shape for name, value in first.items()} == model.weight_shapes
    for name, value in first.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, again[name])
        assert (value != other[name]).any()
        assert np.abs(value).min() > 0, "a zero would hide a weight that is left out"


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_plain_form_round_trip(model: ModelSpec) -> None:
    assert ModelSpec.from_dict(model.to_dict()) == model


@pytest.mark.parametrize(
    ("layers", "message"),
    [((Dense(10),), "flatten before it"), ((Conv2D(4, 40),), "conv2d_1 makes"), ((MaxPool2D(64),), "max_pool2d_1")],
)
def test_layers_that_do_not_fit(layers: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelSpec("bad", (32, 32, 3), layers)  # type: ignore[arg-type]

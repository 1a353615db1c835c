"""Built-in workloads have no denormal numbers: how a framework treats them then makes no difference to a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.workloads.models import MODELS
from bench.workloads.preprocessing import normalize
from bench.workloads.workload import RECIPES


def denormals(values: npt.NDArray[Any]) -> int:
    """How many are smaller than the smallest normal number of float32, and not zero."""
    sizes = np.abs(values.astype(np.float64))
    return int(((sizes > 0) & (sizes < np.finfo(np.float32).tiny)).sum())


def test_they_are_counted() -> None:
    assert denormals(np.array([0.0, 1.0, -1e-39, 1e-44, 1.2e-38], np.float32)) == 2


@pytest.mark.parametrize("name", RECIPES)
def test_no_pixel_of_any_data_set_becomes_one(name: str) -> None:
    """All 256 values that a pixel can have, as the recipe normalizes them."""
    pixels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    images = normalize(pixels, RECIPES[name].mean, RECIPES[name].std)
    assert len(np.unique(images)) >= 256
    assert denormals(images) == 0


@pytest.mark.parametrize("name", MODELS)
def test_no_initial_weight_is_one(name: str) -> None:
    weights = MODELS[name].initial_weights(0)
    assert sum(weight.size for weight in weights.values()) >= MODELS[name].parameters
    assert {key: denormals(weight) for key, weight in weights.items() if denormals(weight)} == {}

"""A flatten after global average pooling: the input is flat already."""

from __future__ import annotations

import numpy as np

import backends
from backends.model import Conv2D, Dense, Flatten, GlobalAveragePool, ModelSpec


def test_flatten_of_a_flat_input_changes_nothing(process: None) -> None:
    model = ModelSpec("flat", (8, 8, 1), (Conv2D(4, 3), GlobalAveragePool(), Flatten(), Dense(10)))
    weights = model.initial_weights(0)
    x = np.random.default_rng(0).random((4, 8, 8, 1)).astype(np.float32)
    logits = []
    for name in ("reference", "pytorch"):
        adapter = backends.load(name)
        backend = adapter("cpu", adapter.PRECISIONS[0], adapter.MODES[0], 1, 0)
        backend.build(model, weights, None)
        logits.append(backend.infer(x))
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-5, atol=1e-6)

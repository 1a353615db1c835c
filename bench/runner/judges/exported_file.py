"""The ONNX file that a row exported, held against its weights: the exporter is named, not the runtime that reads it.

``onnx.reference`` computes it, in a process that loads no backend, on images with noise that no worker has seen; the
float64 reference computes what the weights give.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import numpy as np

from backends.base import Images
from backends.model import ModelSpec, Weights
from backends.reference import Network
from bench.runner.judges.file_certificate import run_reference
from bench.runner.judges.result import relative_l2
from bench.values import Missing
from bench.worker.array_files import read_arrays
from bench.worker.reference_judge import IMAGES_KEY

NAME = "exported_file"
"""Of the check."""
IMAGES = 2
"""Few, because the evaluator's pooling is plain Python."""
NOISE = 0.5
"""Standard deviation, of normalized values."""


def error_of(path: Path, model: ModelSpec, weights: Weights, images: Images) -> float | Missing:
    """The relative error of the file's logits. ``images``: normalized (N, H, W, C), from which some are drawn."""
    rng = np.random.default_rng(secrets.randbits(64))
    chosen = images[rng.integers(len(images), size=IMAGES)]
    noisy = (chosen + NOISE * rng.standard_normal(chosen.shape)).astype(np.float32)
    inputs, out = path.with_name("judged-images.npz"), path.with_name("judged-logits.npz")
    arrays: dict[str, Any] = {IMAGES_KEY: noisy}
    np.savez(inputs, **arrays)
    try:
        if why_not := run_reference(path, inputs, out):
            return Missing(why_not)
        (got,) = read_arrays(out).values()
    except ValueError as unreadable:
        return Missing(f"its outputs cannot be read: {unreadable}")
    finally:
        inputs.unlink(missing_ok=True)
        out.unlink(missing_ok=True)
    want = Network(model, weights).logits(noisy)
    return relative_l2(got, want) if got.shape == want.shape else float("inf")

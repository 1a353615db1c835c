"""The ONNX file that a row exported, held against its weights: the exporter is named, not the runtime that reads it.

``onnx.reference`` computes it, in a process that loads no backend, on images with noise that no worker has seen; the
float64 reference computes what the weights give.
"""

from __future__ import annotations

import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backends.base import Images
from backends.model import ModelSpec, Weights
from backends.reference import Network
from bench.runner.judges.file_certificate import run_reference
from bench.runner.judges.result import Result, relative_l2
from bench.values import Missing
from bench.worker import file_outputs
from bench.worker.reference_judge import COUNTED, IMAGES_KEY

NAME, COUNT_NAME = "exported_file", "exported_flops"
"""Of the checks."""
IMAGES = 2
"""Few, because the evaluator's pooling is plain Python."""
NOISE = 0.5
"""Standard deviation, of normalized values."""


@dataclass(frozen=True)
class FileFacts:
    """What a file computes."""

    error: float
    """Of its logits, relative."""
    flops: int | None
    """Operations of one image, counted from its nodes; None: a shape is not known."""


def facts_of(path: Path, model: ModelSpec, weights: Weights, images: Images) -> FileFacts | Missing:
    """Run the file in a process of its own. ``images``: normalized (N, H, W, C), from which some are drawn."""
    rng = np.random.default_rng(secrets.randbits(64))
    chosen = images[rng.integers(len(images), size=IMAGES)]
    noisy = (chosen + NOISE * rng.standard_normal(chosen.shape)).astype(np.float32)
    arrays: dict[str, Any] = {IMAGES_KEY: noisy}
    with tempfile.TemporaryDirectory() as folder:
        inputs, out = Path(folder) / "images.npz", Path(folder) / "logits.npz"
        np.savez(inputs, **arrays)
        try:
            if why_not := run_reference(path, inputs, out):
                return Missing(why_not)
            calls = file_outputs.read(out)
            ((got,),) = calls["reference"].values()
            counted = calls.get(COUNTED, {}).get("flops")
        except (ValueError, KeyError) as unreadable:
            return Missing(f"its outputs cannot be read: {unreadable}")
    want = Network(model, weights).logits(noisy)
    error = relative_l2(got, want) if got.shape == want.shape else float("inf")
    return FileFacts(error, None if counted is None else int(counted[0]))


def count_check(flops: int, model: ModelSpec) -> Result:
    """A file that computes less than the model is a table of answers, or another model."""
    return Result(COUNT_NAME, abs(flops - model.flops), 0, f"{flops:,} in its nodes, the model has {model.flops:,}")

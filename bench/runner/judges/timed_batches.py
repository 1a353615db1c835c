"""Batches that an input pipeline made while it was timed, held against what the image files hold: every pixel and label
of some images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bench.runner.image_files import PictureFiles
from bench.runner.judges.result import Result, relative_l2_of_all
from bench.values import Missing
from bench.worker.input_draws import InputDraw
from bench.workloads.recipe import Recipe

if TYPE_CHECKING:
    from bench.runner.interleaving import Kept, MeasuredRound

NAME = "timed_batches"
TOLERANCE = 1e-5
"""Relative L2 of the images: decoding PNG is exact, the rest are three operations in float32."""
ROWS, NUMBERS = 8, 2**16
"""Images of a batch that are asked for: so many, and fewer of large ones (all of them of about so many numbers)."""
WRONG_LABEL = 1.0
"""The error of a batch with another label."""


def rows_asked(batch_size: int, numbers: int) -> int:
    """How many images of a batch are asked for; ``numbers``: of one image."""
    return max(1, min(ROWS, batch_size, NUMBERS // max(1, numbers)))


def error(kept: Kept, files: PictureFiles, size: int, recipe: Recipe) -> float:
    """Of the batches of one slice; infinite if none was kept. The files must be as they were in it: it is asked right
    after the slice."""
    outputs, rows = kept.outputs, np.asarray(kept.asked.rows)
    shape = files.pixels.shape[1:]
    draw = InputDraw.of(kept.seed, len(files.labels), shape, size, outputs.count, recipe.augmentation)
    pairs = []
    for batch, values in zip(outputs.batches, outputs.values, strict=True):
        want, labels = draw.batch(files.pixels, files.labels, batch, rows, recipe)
        got = np.asarray(values)
        if not np.array_equal(got[:, 0], labels):
            return WRONG_LABEL
        pairs.append((got[:, 1:], want.reshape(len(rows), -1).astype(np.float64)))
    return relative_l2_of_all(pairs) if pairs else math.inf


def judge(measured: MeasuredRound) -> Result | Missing:
    """The error of a round's batches, of the worst slice."""
    errors, images = dict[str, float](), 0
    for readings in measured.metrics:
        place = f"{readings.metric.name}, batch {readings.metric.batch_size}"
        for one in readings.slices:
            if one.batch_error is not None and one.kept is not None:
                errors[place] = max(errors.get(place, 0.0), one.batch_error)
                images += len(one.kept.asked.rows) * len(one.kept.outputs.values)
    if not errors:
        return Missing("no batches were kept")
    worst = max(errors, key=lambda place: errors[place])
    return Result(NAME, errors[worst], TOLERANCE, f"{images} images of timed batches; worst in {worst}")

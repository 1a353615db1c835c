"""Batches of an input pipeline against the files: what passes, and what does not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.runner.image_files import FOLDER, PictureFiles
from bench.runner.judges import timed_batches
from bench.worker.input_draws import InputDraw
from bench.worker.input_steps import image_files
from bench.worker.protocol import KeptOutputs, ReadKept
from bench.workloads.recipe import Augmentation, Recipe

RECIPE = Recipe("r", "sgd", 0.1, 4, 1, mean=0.5, std=0.25, augmentation=Augmentation(crop_padding=1, flip=True))
SIZE, COUNT, SEED = 4, 3, 7


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def files(request: pytest.FixtureRequest) -> PictureFiles:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 5, request.param)).astype(np.uint8)
    return PictureFiles(pixels, np.arange(8))


def kept(files: PictureFiles, rows: tuple[int, ...] = (0, 2)) -> Any:
    """What a right pipeline gives in its last batch."""
    draw = InputDraw.of(SEED, 8, (6, 5, 1), SIZE, COUNT, RECIPE.augmentation)
    x, y = draw.batch(files.pixels, files.labels, COUNT - 1, np.asarray(rows), RECIPE)
    values = np.concatenate([y[:, None], x.reshape(len(rows), -1)], axis=1)
    outputs = KeptOutputs(steps=(COUNT - 1,), batches=(COUNT - 1,), count=COUNT, values=(tuple(map(tuple, values)),))
    return SimpleNamespace(seed=SEED, asked=ReadKept(rows=rows), outputs=outputs)


def test_right_batches_have_next_to_no_error(files: PictureFiles) -> None:
    assert timed_batches.error(kept(files), files, SIZE, RECIPE) < 1e-7


def test_another_pixel_or_label_is_an_error(files: PictureFiles) -> None:
    before = kept(files)
    files.pixels[:] += 1
    assert timed_batches.error(before, files, SIZE, RECIPE) > timed_batches.TOLERANCE
    files.pixels[:] -= 1
    files.labels[:] = files.labels[::-1].copy()
    assert timed_batches.error(before, files, SIZE, RECIPE) == timed_batches.WRONG_LABEL


def test_batches_that_were_not_kept_are_no_right_ones(files: PictureFiles) -> None:
    lost = kept(files)
    lost.outputs = replace(lost.outputs, values=(), batches=(), steps=())
    assert timed_batches.error(lost, files, SIZE, RECIPE) == math.inf


def test_files_hold_the_pixels_and_some_change(files: PictureFiles, tmp_path: Path) -> None:
    files.write(tmp_path)
    first = files.pixels.copy()
    described = image_files(tmp_path / FOLDER, files.pixels.shape[1:], RECIPE)  # type: ignore[arg-type]
    assert len(described.paths) == 8
    changed = files.renew(tmp_path)
    assert len(changed) == 1
    for number, path in enumerate(described.paths):
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.array(image).reshape(files.pixels[number].shape), files.pixels[number])
        same = np.array_equal(files.pixels[number], first[number])
        assert same is (Path(path) not in changed)
    assert sorted(path.suffix for path in (tmp_path / FOLDER).iterdir()) == [".npy", *[".png"] * 8]


def test_the_worst_slice_decides(files: PictureFiles) -> None:
    def reading(error: float | None) -> Any:
        return SimpleNamespace(batch_error=error, kept=kept(files))

    metric = SimpleNamespace(name="input_throughput", batch_size=4)
    measured: Any = SimpleNamespace(
        metrics=[SimpleNamespace(metric=metric, slices=[reading(1e-8), reading(0.3), reading(None)])]
    )
    result: Any = timed_batches.judge(measured)
    assert (result.value, result.passed) == (0.3, False)
    assert result.note == "4 images of timed batches; worst in input_throughput, batch 4"

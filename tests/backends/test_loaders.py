"""The loaders of the frameworks make the batches that are asked for, pixel for pixel, and no others ahead of time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.base import InputPipeline
from bench.runner.image_files import FOLDER, PictureFiles
from bench.worker.input_draws import InputDraw
from bench.worker.input_steps import image_files
from bench.workloads.recipe import Augmentation, Recipe

AUGMENTATION = Augmentation(crop_padding=2, flip=True, cutout=3)
RECIPE = Recipe("r", "sgd", 0.1, 4, 1, mean=0.4, std=0.3, augmentation=AUGMENTATION)
FILES, SIZE, BATCHES = 12, 5, 6


def opened(loader: str, files: Any, workers: int) -> InputPipeline:
    if loader == "torch":
        from backends.torch_loader import TorchLoader

        return TorchLoader(files, workers, lambda x, y: (x, y), channels_first=True, pinned=False)
    if loader == "tf":
        import tensorflow as tf

        from backends.tf_data import TfData

        return TfData(tf, files, SIZE, workers, lambda x, y: (x, y))
    from backends.grain_loader import GrainLoader

    return GrainLoader(files, SIZE, workers, lambda x, y: (x, y))


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def pictures(request: pytest.FixtureRequest) -> PictureFiles:
    pixels = np.random.default_rng(0).integers(0, 256, (FILES, 9, 7, request.param)).astype(np.uint8)
    return PictureFiles(pixels, np.arange(FILES) % 5)


@pytest.mark.filterwarnings("ignore:.*fork")  # of other tests' frameworks, which have threads
@pytest.mark.parametrize("loader", ["torch", "tf", "grain"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_that_were_asked_for(
    process: None, pictures: PictureFiles, tmp_path: Path, loader: str, workers: int
) -> None:
    pictures.write(tmp_path)
    shape = pictures.pixels.shape[1:]
    pipeline = opened(loader, image_files(tmp_path / FOLDER, shape, RECIPE), workers)
    assert (pipeline.ahead == 0) is (workers == 0)
    count = BATCHES + pipeline.ahead
    draw = InputDraw.of(3, FILES, shape, SIZE, count, AUGMENTATION)
    entries = draw.entries.reshape(count, SIZE, -1)
    try:
        for number in range(pipeline.ahead):
            pipeline.ask(entries[number])
        for number in range(BATCHES):
            pipeline.ask(entries[number + pipeline.ahead])
            x, y = pipeline.to_host(*pipeline.next())
            want, labels = draw.batch(pictures.pixels, pictures.labels, number, np.arange(SIZE), RECIPE)
            np.testing.assert_allclose(x, want, rtol=0, atol=1e-6)
            np.testing.assert_array_equal(y, labels)
    finally:
        pipeline.close()

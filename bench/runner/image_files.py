"""The image files that input pipelines read. Some change before every slice, so that what was decoded once is of no
use: a pixel is right only if its file was read and decoded now."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from backends.base import Labels
from bench.worker.input_steps import LABELS, image_name
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.preprocessing import Pixels

FOLDER = "images"
MOST_FILES, MOST_BYTES = 2048, 64 * 2**20
"""Files, and bytes of their pixels, at most."""
CHANGED = 8
"""One file in so many changes before a slice: in seven slices of eight, one or more of the sixteen images that are
judged are of such a file."""
COMPRESSION = 1
"""Of zlib: what is timed is decoding, which it hardly changes."""


@dataclass
class PictureFiles:
    """``pixels`` ``(N, H, W, C)``: what the files hold now; ``labels``: of these images."""

    pixels: Pixels
    labels: Labels

    @classmethod
    def of(cls, dataset: Dataset, held_out: int, seed: int) -> PictureFiles:
        """Random images of the training split, without those that are held out."""
        trained = len(dataset.train_y) - held_out
        count = max(1, min(trained, MOST_FILES, MOST_BYTES // max(1, dataset.train_x[0].nbytes)))
        chosen = np.random.default_rng(seed).permutation(trained)[:count]
        return cls(np.array(dataset.train_x[chosen]), dataset.train_y[chosen])

    def write(self, scratch: Path) -> None:
        """Write all files, with their labels."""
        folder = scratch / FOLDER
        folder.mkdir(exist_ok=True)
        np.save(folder / LABELS, self.labels)
        for number in range(len(self.pixels)):
            self._write(number, folder / image_name(number))

    def renew(self, scratch: Path) -> list[Path]:
        """Change some files, and say which: a random number is added to all their pixels, modulo 256. They stay about
        as large: PNG's filters take differences."""
        count = max(1, len(self.pixels) // CHANGED)
        changed = []
        for number in secrets.SystemRandom().sample(range(len(self.pixels)), count):
            self.pixels[number] += np.uint8(1 + secrets.randbelow(255))
            path = scratch / FOLDER / image_name(number)
            fresh = path.with_suffix(".new")
            self._write(number, fresh)
            fresh.replace(path)
            changed.append(path)
        return changed

    def _write(self, number: int, path: Path) -> None:
        pixels = self.pixels[number]
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        image.save(path, format="PNG", compress_level=COMPRESSION)

"""Which images a slice of an input pipeline is of, and how each is changed, drawn from a seed that the worker learns
just before. The judge draws the same, and knows what every pixel of a batch must be. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from backends.base import Images, Labels
from backends.model import Shape
from bench.workloads.preprocessing import Changes, Pixels, normalize
from bench.workloads.recipe import Augmentation, Recipe


@dataclass(frozen=True)
class InputDraw:
    """``file``: of every image, ``(count x size,)``, batch after batch; ``changes``: of the same images."""

    size: int
    file: npt.NDArray[np.int64]
    changes: Changes

    @classmethod
    def of(cls, seed: int, files: int, shape: Shape, size: int, count: int, options: Augmentation) -> InputDraw:
        """``count`` batches of ``size`` out of so many files of images of this shape (height, width, channels)."""
        rng, sides = np.random.default_rng(seed), (shape[0], shape[1])
        return cls(size, rng.integers(files, size=count * size), Changes.drawn(count * size, sides, options, rng))

    @property
    def entries(self) -> npt.NDArray[np.int32]:
        """As ``backends.base.ENTRY``, one row for each image."""
        changes = self.changes
        columns = (self.file, changes.top, changes.left, changes.flipped, changes.hole_top, changes.hole_left)
        return np.stack(columns, axis=1).astype(np.int32)

    def batch(
        self, pixels: Pixels, labels: Labels, number: int, rows: npt.NDArray[np.int64], recipe: Recipe
    ) -> tuple[Images, Labels]:
        """What these rows of a batch must be. ``pixels``, ``labels``: of all files."""
        places = number * self.size + rows
        chosen = Changes(*(getattr(self.changes, field.name)[places] for field in fields(Changes)))
        changed = chosen.apply(pixels[self.file[places]], recipe.augmentation)
        return normalize(changed, recipe.mean, recipe.std), labels[self.file[places]]

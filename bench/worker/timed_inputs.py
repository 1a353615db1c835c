"""The inputs of timed steps: real images with a gain and a shift of their own, drawn from a seed that the worker learns
just before a slice; of a user's file other samples of its inputs, changed where they are drawn numbers. The judges draw
the same, and know what the outputs must be. NumPy only.

Each image has the label of another one. A network that has learned its images would take nearly all of a batch's
gradient from one hard image: then a step that leaves the other images out has the same signs. Labels that cannot be
learned give every image its share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Images, Labels

GAINS = (0.8, 1.0)
SHIFTS = (-0.05, 0.05)
"""Ranges of the factor and of the summand of an image's normalized values. The factor makes none larger: a quantized
model cuts off what is beyond the images that it was calibrated with."""


@dataclass(frozen=True)
class Draw:
    """Which images the steps of a slice get: ``index``, ``gain``, ``shift``, and ``labeled_as`` (the image whose label
    it has) by batch and place, ``(count, size)``."""

    index: npt.NDArray[np.int64]
    gain: npt.NDArray[np.float32]
    shift: npt.NDArray[np.float32]
    labeled_as: npt.NDArray[np.int64]

    @classmethod
    def of(cls, seed: int, images: int, size: int, count: int) -> Draw:
        """``count`` batches of ``size`` out of so many images."""
        rng = np.random.default_rng(seed)
        index = rng.integers(images, size=(count, size))
        gain = rng.uniform(*GAINS, (count, size)).astype(np.float32)
        shift = rng.uniform(*SHIFTS, (count, size)).astype(np.float32)
        return cls(index, gain, shift, rng.integers(images, size=(count, size)))

    def batch(self, images: Images, number: int, rows: npt.NDArray[np.int64] | None = None) -> Images:
        """A batch, or these rows of it, ``(rows, H, W, C)`` float32."""
        chosen = np.arange(self.index.shape[1]) if rows is None else rows
        index, gain, shift = (part[number][chosen] for part in (self.index, self.gain, self.shift))
        batch: Images = np.asarray(images[index])
        batch *= gain[:, None, None, None]
        batch += shift[:, None, None, None]
        return batch

    def labels(self, labels: Labels, number: int) -> Labels:
        """The labels of a batch, ``(size,)``. ``labels``: of all images."""
        drawn: Labels = labels[self.labeled_as[number]]
        return drawn


OWN_SHARE = (0.9, 1.0)
"""Range of a drawn number's share in its place; the rest is another's, so that all stay within the input's range."""


@dataclass(frozen=True)
class FileDraw:
    """Which samples of a user's file's inputs the steps of a slice get: ``index`` by batch and place ``(count, size)``;
    and by batch how drawn numbers are mixed with others of the batch."""

    index: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]
    distance: npt.NDArray[np.int64]

    @classmethod
    def of(cls, seed: int, samples: int, size: int, count: int) -> FileDraw:
        """``count`` batches of ``size`` out of so many samples."""
        rng = np.random.default_rng(seed)
        index = rng.integers(samples, size=(count, size))
        return cls(index, rng.uniform(*OWN_SHARE, count), rng.integers(1, 2**31, count))

    def batch(
        self, inputs: Mapping[str, npt.NDArray[Any]], axes: Mapping[str, int], mixed: frozenset[str], number: int
    ) -> dict[str, npt.NDArray[Any]]:
        """A batch by input. ``axes``: the side that is the batch, by input that has one; ``mixed``: the inputs whose
        numbers are drawn."""
        batch = {}
        for name, values in inputs.items():
            taken = np.asarray(values)
            if name in axes:
                taken = np.take(values, self.index[number] % values.shape[axes[name]], axis=axes[name])
            if name in mixed:
                share = self.share[number]
                others = np.roll(taken.reshape(-1), self.distance[number] % max(taken.size, 1)).reshape(taken.shape)
                taken = (share * taken + (1 - share) * others).astype(values.dtype)
            batch[name] = np.ascontiguousarray(taken)
        return batch

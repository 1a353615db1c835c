"""The inputs of timed steps: real images with a gain and a shift of their own, drawn from a seed that the worker learns
just before a slice. The parent draws the same, and knows what the outputs must be. NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from backends.base import Images

GAINS = (0.8, 1.0)
SHIFTS = (-0.05, 0.05)
"""Ranges of the factor and of the summand of an image's normalized values. The factor makes none larger: a quantized
model cuts off what is beyond the images that it was calibrated with."""


@dataclass(frozen=True)
class Draw:
    """Which images the steps of a slice get: ``index``, ``gain``, ``shift`` by batch and place, ``(count, size)``."""

    index: npt.NDArray[np.int64]
    gain: npt.NDArray[np.float32]
    shift: npt.NDArray[np.float32]

    @classmethod
    def of(cls, seed: int, images: int, size: int, count: int) -> Draw:
        """``count`` batches of ``size`` out of so many images."""
        rng = np.random.default_rng(seed)
        index = rng.integers(images, size=(count, size))
        gain = rng.uniform(*GAINS, (count, size)).astype(np.float32)
        return cls(index, gain, rng.uniform(*SHIFTS, (count, size)).astype(np.float32))

    def batch(self, images: Images, number: int, rows: npt.NDArray[np.int64] | None = None) -> Images:
        """A batch, or these rows of it, ``(rows, H, W, C)`` float32."""
        chosen = np.arange(self.index.shape[1]) if rows is None else rows
        index, gain, shift = (part[number][chosen] for part in (self.index, self.gain, self.shift))
        batch: Images = np.asarray(images[index])
        batch *= gain[:, None, None, None]
        batch += shift[:, None, None, None]
        return batch

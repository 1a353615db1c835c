"""Random augmentation (NumPy) and normalization of stored pixels. Runs in the worker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.workloads.recipe import Augmentation

Pixels = npt.NDArray[np.uint8]


def normalize(pixels: Pixels, mean: float, std: float) -> npt.NDArray[np.float32]:
    """(value / 255 - mean) / std in float32."""
    return ((pixels.astype(np.float32) / np.float32(255)) - np.float32(mean)) / np.float32(std)


@dataclass(frozen=True)
class Changes:
    """What augmentation does to every image of a batch, ``(N,)`` each: the corner of the window that is cut out of the
    image with its border, whether it is flipped, and the corner of the hole, which may lie outside. An option that the
    recipe leaves out changes nothing."""

    top: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    flipped: npt.NDArray[np.bool_]
    hole_top: npt.NDArray[np.int64]
    hole_left: npt.NDArray[np.int64]

    @classmethod
    def drawn(cls, count: int, sides: tuple[int, int], options: Augmentation, rng: np.random.Generator) -> Changes:
        """At random, for ``count`` images of these sides (height, width)."""
        nothing = np.zeros(count, np.int64)
        top, left, flipped, hole_top, hole_left = nothing, nothing, nothing.astype(bool), nothing, nothing
        if options.crop_padding:
            top, left = rng.integers(0, 2 * options.crop_padding + 1, (2, count))
        if options.flip:
            flipped = rng.random(count) < 0.5
        if options.cutout:
            hole_top, hole_left = (rng.integers(0, side, (count, 1))[:, 0] - options.cutout // 2 for side in sides)
        return cls(top, left, flipped, hole_top, hole_left)

    def apply(self, pixels: Pixels, options: Augmentation) -> Pixels:
        """``(N, H, W, C)`` to the same shape; the input is not changed."""
        if options.crop_padding:
            pixels = _crop(pixels, options.crop_padding, self.top, self.left)
        if options.flip:
            pixels = np.where(self.flipped[:, None, None, None], pixels[:, :, ::-1], pixels)
        if options.cutout:
            pixels = _cut_out(pixels, options.cutout, self.hole_top, self.hole_left)
        return pixels


def augment(pixels: Pixels, options: Augmentation, rng: np.random.Generator) -> Pixels:
    """``(N, H, W, C)`` to the same shape, changed at random; the input is not changed."""
    count, height, width, _ = pixels.shape
    return Changes.drawn(count, (height, width), options, rng).apply(pixels, options)


def _crop(pixels: Pixels, padding: int, top: npt.NDArray[np.int64], left: npt.NDArray[np.int64]) -> Pixels:
    n, height, width, _ = pixels.shape
    around = (padding, padding)
    padded = np.pad(pixels, [(0, 0), around, around, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    return np.asarray(windows[np.arange(n), top, left].transpose(0, 2, 3, 1))


def _cut_out(pixels: Pixels, size: int, top: npt.NDArray[np.int64], left: npt.NDArray[np.int64]) -> Pixels:
    """The square may extend beyond the border, as in the paper."""
    _, height, width, _ = pixels.shape
    inside = []
    for length, first in ((height, top), (width, left)):
        begin, index = first[:, None], np.arange(length)
        inside.append((index >= begin) & (index < begin + size))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return np.where(hole[..., None], np.uint8(0), pixels)

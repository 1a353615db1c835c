"""Random augmentation (NumPy) and normalization of stored pixels. Runs in the worker."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.workloads.recipe import Augmentation

Pixels = npt.NDArray[np.uint8]


def normalize(pixels: Pixels, mean: float, std: float) -> npt.NDArray[np.float32]:
    """(value / 255 - mean) / std in float32."""
    return ((pixels.astype(np.float32) / np.float32(255)) - np.float32(mean)) / np.float32(std)


def augment(pixels: Pixels, options: Augmentation, rng: np.random.Generator) -> Pixels:
    """``(N, H, W, C)`` to the same shape; the input is not changed."""
    if options.crop_padding:
        pixels = _crop(pixels, options.crop_padding, rng)
    if options.flip:
        flipped = rng.random(len(pixels)) < 0.5
        pixels = np.where(flipped[:, None, None, None], pixels[:, :, ::-1], pixels)
    if options.cutout:
        pixels = _cut_out(pixels, options.cutout, rng)
    return pixels


def _crop(pixels: Pixels, padding: int, rng: np.random.Generator) -> Pixels:
    n, height, width, _ = pixels.shape
    around = (padding, padding)
    padded = np.pad(pixels, [(0, 0), around, around, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    rows, cols = rng.integers(0, 2 * padding + 1, (2, n))
    return np.asarray(windows[np.arange(n), rows, cols].transpose(0, 2, 3, 1))


def _cut_out(pixels: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """The square may extend beyond the border, as in the paper."""
    n, height, width, _ = pixels.shape
    inside = []
    for length in (height, width):
        begin = rng.integers(0, length, (n, 1)) - size // 2
        index = np.arange(length)
        inside.append((index >= begin) & (index < begin + size))
    hole = inside[0][:, :, None] & inside[1][:, None, :]
    return np.where(hole[..., None], np.uint8(0), pixels)

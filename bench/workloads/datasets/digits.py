"""scikit-learn's handwritten digits, embedded in that package."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from bench.errors import UsageError
from bench.workloads.datasets.dataset import Dataset


def load(data_dir: Path | None = None) -> Dataset:
    """1,797 handwritten digits (UCI optdigits, 8x8, 0..16): each pixel repeated 4x4, three equal channels, scaled to
    0..255; split 80/20 by a fixed seed, so every run has the same split.

    Raises:
        UsageError: ``data_dir`` is given.
    """
    if data_dir is not None:
        raise UsageError("data set 'digits' is embedded; leave out --data-dir")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = bunch.images, bunch.target.astype(np.int64)
    sha256 = hashlib.sha256(images.astype(np.float64).tobytes() + labels.tobytes()).hexdigest()
    large = np.rint(images * 255 / 16).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    pixels = np.repeat(large[..., None], 3, axis=3)
    order = np.random.default_rng(1797).permutation(len(pixels))
    train, test = np.split(order, [round(0.8 * len(order))])
    names = tuple(str(digit) for digit in range(10))
    return Dataset("digits", pixels[train], labels[train], pixels[test], labels[test], names, sha256)

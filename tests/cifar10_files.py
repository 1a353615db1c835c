"""CIFAR-10's binary layout, written with random pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_cifar10(folder: Path) -> None:
    """Six files of 10,000 records of one label and 3,072 pixels."""
    folder.mkdir()
    rng = np.random.default_rng(10)
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        records = rng.integers(0, 256, (10_000, 3073), np.uint8)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())

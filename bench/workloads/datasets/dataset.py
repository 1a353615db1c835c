"""The data set, and how its files are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Images ``(N, H, W, C)`` uint8 and labels ``(N,)`` int64, split; ``sha256`` is the hash of the content."""

    name: str
    train_x: Pixels
    train_y: Labels
    test_x: Pixels
    test_y: Labels
    classes: tuple[str, ...]
    """The names of the classes, by label."""
    sha256: str
    note: str = ""
    """A warning for readers of its results; may be empty."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width, channels."""
        return self.train_x.shape[1:]


LARGEST_FILE = 64 * 2**20
"""Bytes of a data set's file; CIFAR-10's have 30.7 million, Fashion-MNIST's 47 million."""


def read(path: Path, remedy: str) -> bytes:
    """A file's content.

    Raises:
        UsageError: the file cannot be read; the message ends with ``remedy``.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe may have no end
            raise UsageError(f"cannot read {path}: not a file; {remedy}")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise UsageError(f"{path} is larger than {LARGEST_FILE >> 20} MiB: not a file of this data set; {remedy}")
        return content
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; {remedy}") from error

"""What a data set is, and how files of one are read."""

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
    """Images ``(N, H, W, C)`` uint8 and labels ``(N,)`` int64, split; ``sha256`` is of what was read."""

    name: str
    train_x: Pixels
    train_y: Labels
    test_x: Pixels
    test_y: Labels
    classes: tuple[str, ...]
    """Their names, by label."""
    sha256: str
    note: str = ""
    """What a reader of its results must know."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width, channels."""
        return self.train_x.shape[1:]


def read(path: Path, remedy: str) -> bytes:
    """A file's content.

    Raises:
        UsageError: it cannot be read; the message ends with the remedy.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; {remedy}") from error

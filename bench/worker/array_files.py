"""Files of arrays (npz) that one process writes and another reads. They are data: nothing in them is executed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, MemoryError)
"""What NumPy raises for a file that is damaged or of another kind."""


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file by name.

    Raises:
        ValueError: it is missing, damaged or of another kind.
    """
    try:
        with path.open("rb") as opened:
            stored = np.load(opened, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                raise ValueError("a single array")
            return {name: stored[name] for name in stored.files}
    except UNREADABLE as error:
        raise ValueError(f"{path.name} cannot be read: {type(error).__name__}: {error}") from error


def read_array(path: Path) -> npt.NDArray[Any]:
    """The array of a file (npy).

    Raises:
        ValueError: it is missing, damaged or of another kind.
    """
    try:
        with path.open("rb") as opened:
            array = np.load(opened, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("several arrays")
        return array
    except UNREADABLE as error:
        raise ValueError(f"{path.name} cannot be read: {type(error).__name__}: {error}") from error

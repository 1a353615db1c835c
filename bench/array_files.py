"""Files of arrays (npz) that one process writes and another reads. They are data: nothing in them is executed."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

MOST_BYTES = 8 * 2**30
"""Of the arrays of a file, unpacked."""
UNREADABLE = (
    OSError, ValueError, KeyError, EOFError, TypeError, IndexError, SyntaxError, NotImplementedError, RuntimeError,
    OverflowError, MemoryError, UnicodeError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip
"""What NumPy raises for a file that is damaged or of another kind."""


def read_arrays(path: Path, most: int = MOST_BYTES) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file by name, of at most so many bytes together.

    Raises:
        ValueError: it is missing, damaged, of another kind, or unpacks to more.
    """
    try:
        with path.open("rb") as opened:
            _check_size(opened, most)
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


def _check_size(file: BinaryIO, most: int) -> None:
    """Raise ValueError for an archive that unpacks to more bytes than these: its list of members says to how many."""
    if zipfile.is_zipfile(file):
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > most:
            raise ValueError(f"it unpacks to {size:,} bytes, more than {most:,}")
    file.seek(0)

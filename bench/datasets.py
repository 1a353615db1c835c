"""Data sets as NumPy arrays, with the SHA-256 of what was read.

``digits`` ships with scikit-learn; ``cifar10`` is read from disk in its official binary layout. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Images ``(N, 32, 32, 3)`` uint8 and labels ``(N,)`` int64, split; ``note`` says what a reader must know."""

    name: str
    train_x: Pixels
    train_y: Labels
    test_x: Pixels
    test_y: Labels
    sha256: str
    note: str = ""


def normalize(pixels: Pixels, mean: float, std: float) -> npt.NDArray[np.float32]:
    """(value / 255 - mean) / std in float32."""
    return ((pixels.astype(np.float32) / np.float32(255)) - np.float32(mean)) / np.float32(std)


def digits(data_dir: Path | None = None) -> Dataset:
    """scikit-learn's 1,797 handwritten digits (UCI optdigits, 8x8, 0..16): each pixel repeated 4x4, three equal
    channels, scaled to 0..255; split 80/20 by a fixed seed, so that every run sees the same split."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = bunch.images, bunch.target.astype(np.int64)
    sha256 = hashlib.sha256(images.astype(np.float64).tobytes() + labels.tobytes()).hexdigest()
    large = np.rint(images * 255 / 16).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    pixels = np.repeat(large[..., None], 3, axis=3)
    order = np.random.default_rng(1797).permutation(len(pixels))
    train, test = np.split(order, [round(0.8 * len(order))])
    return Dataset("digits", pixels[train], labels[train], pixels[test], labels[test], sha256)


_CIFAR10_FOLDER = "cifar-10-batches-bin"
_CIFAR10_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
_RECORD = 1 + 3 * 32 * 32
_RECORDS = 10_000
_JPEG_COPY = "3001c9d25a4ee140175edca68cc65882d4684d5b041ec864880f1c379df458a1"
_FIRST_LABELS = [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
"""Of the official data_batch_1: frog, truck, truck, deer, automobile, ..."""


def cifar10(data_dir: Path | None = None) -> Dataset:
    """CIFAR-10 (Krizhevsky 2009), 50,000 + 10,000 images, from the official binary layout: per record one label byte
    and the red, green and blue planes of 32x32.

    Raises:
        UsageError: no folder given, a file is missing, cut off, or holds a label above 9.
    """
    folder = _cifar10_folder(data_dir)
    digest = hashlib.sha256()
    parts = []
    for name in _CIFAR10_FILES:
        content = _read(folder / name)
        digest.update(content)
        parts.append(_records(folder / name, content))
    train, test = np.concatenate(parts[:-1]), parts[-1]
    train_x, test_x = (part[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for part in (train, test))
    train_y, test_y = (part[:, 0].astype(np.int64) for part in (train, test))
    sha256 = digest.hexdigest()
    note = _cifar10_note(sha256, train_y)
    images = np.ascontiguousarray(train_x), np.ascontiguousarray(test_x)
    return Dataset("cifar10", images[0], train_y, images[1], test_y, sha256, note)


def _cifar10_folder(data_dir: Path | None) -> Path:
    if data_dir is None:
        raise UsageError(
            f"data set 'cifar10' is read from disk: --data-dir DIR, the folder {_CIFAR10_FOLDER} or its parent"
            " (the 'binary version' of https://www.cs.toronto.edu/~kriz/cifar.html, unpacked)"
        )
    for folder in (data_dir / _CIFAR10_FOLDER, data_dir):
        if (folder / _CIFAR10_FILES[0]).is_file():
            return folder
    raise UsageError(f"no {_CIFAR10_FOLDER}/{_CIFAR10_FILES[0]} in {data_dir}; give the folder or its parent")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; unpack the archive again") from error


def _records(path: Path, content: bytes) -> Pixels:
    if len(content) != _RECORD * _RECORDS:
        raise UsageError(
            f"{path} has {len(content):,} bytes, not {_RECORD * _RECORDS:,}: cut off or not CIFAR-10's binary"
            " version; unpack the archive again"
        )
    records = np.frombuffer(content, np.uint8).reshape(_RECORDS, _RECORD)
    if records[:, 0].max() > 9:
        raise UsageError(f"{path} holds a label {records[:, 0].max()}, above 9: corrupt; unpack the archive again")
    return records


def _cifar10_note(sha256: str, train_y: Labels) -> str:
    if sha256 == _JPEG_COPY:
        return "CIFAR-10 (JPEG copy): a re-encoding, pixels differ slightly from the official archive"
    if train_y[:10].tolist() == _FIRST_LABELS:
        return ""
    return "not the official archive's files: a copy of CIFAR-10 in its layout"


DATASETS: dict[str, Callable[[Path | None], Dataset]] = {"digits": digits, "cifar10": cifar10}
DESCRIPTIONS = {
    "digits": "1,797 handwritten digits of scikit-learn as 32x32x3, 80/20 (embedded)",
    "cifar10": "CIFAR-10, 50,000 + 10,000 images of 32x32x3 (--data-dir)",
}

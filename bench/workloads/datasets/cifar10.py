"""CIFAR-10 (Krizhevsky 2009), from the official binary archive or its unpacked folder."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.errors import UsageError
from bench.workloads.datasets.dataset import Dataset, Labels, Pixels, read
from bench.workloads.datasets.download import fetch

ARCHIVE = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
FOLDER = "cifar-10-batches-bin"
FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_RECORD = 1 + 3 * 32 * 32
_RECORDS = 10_000
_JPEG_COPY = "3001c9d25a4ee140175edca68cc65882d4684d5b041ec864880f1c379df458a1"
_FIRST_LABELS = [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
"""The first labels of the official data_batch_1: frog, truck, truck, deer, automobile, ..."""
_REMEDY = "unpack the archive again"


def load(data_dir: Path | None = None) -> Dataset:
    """50,000 + 10,000 images in the binary layout: each record is one label byte and the red, green and blue planes of
    32x32. Without a folder, the official archive is downloaded once.

    Raises:
        UsageError: the archive cannot be downloaded; a file is missing, cut off, or holds a label above 9.
    """
    content = _from_archive(_archive()) if data_dir is None else _from_folder(data_dir)
    digest, parts = hashlib.sha256(), []
    for name in FILES:
        path, raw = content(name)
        digest.update(raw)
        parts.append(_records(path, raw))
    train, test = np.concatenate(parts[:-1]), parts[-1]
    train_x, test_x = (part[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for part in (train, test))
    train_y, test_y = (part[:, 0].astype(np.int64) for part in (train, test))
    images, sha256 = [np.ascontiguousarray(x) for x in (train_x, test_x)], digest.hexdigest()
    return Dataset("cifar10", images[0], train_y, images[1], test_y, CLASSES, sha256, _note(sha256, train_y))


def _archive() -> Path:
    return fetch(ARCHIVE, f"sha256:{ARCHIVE_SHA256}", f"--data-dir DIR reads an unpacked {FOLDER} instead")


def _from_archive(path: Path) -> Callable[[str], tuple[Path, bytes]]:
    """A function that reads one member; nothing is unpacked to disk. The archive's hash is already checked."""

    def content(name: str) -> tuple[Path, bytes]:
        try:
            with tarfile.open(path, "r:gz") as archive:
                member = archive.extractfile(f"{FOLDER}/{name}")
                if member is None:
                    raise KeyError(name)
                return path / name, member.read(_RECORD * _RECORDS + 1)
        except (OSError, EOFError, KeyError, tarfile.TarError) as error:
            raise UsageError(f"cannot read {name} of {path}: {error}; delete the file to download it again") from error

    return content


def _from_folder(data_dir: Path) -> Callable[[str], tuple[Path, bytes]]:
    for folder in (data_dir / FOLDER, data_dir):
        if (folder / FILES[0]).is_file():
            return lambda name: (folder / name, read(folder / name, _REMEDY))
    raise UsageError(
        f"no {FOLDER}/{FILES[0]} in {data_dir}; give the folder or its parent"
        " (the 'binary version' of https://www.cs.toronto.edu/~kriz/cifar.html, unpacked)"
    )


def _records(path: Path, content: bytes) -> Pixels:
    if len(content) != _RECORD * _RECORDS:
        raise UsageError(
            f"{path} has {len(content):,} bytes, not {_RECORD * _RECORDS:,}: cut off or not CIFAR-10's binary"
            f" version; {_REMEDY}"
        )
    records = np.frombuffer(content, np.uint8).reshape(_RECORDS, _RECORD)
    if records[:, 0].max() > 9:
        raise UsageError(f"{path} holds a label {records[:, 0].max()}, above 9: corrupt; {_REMEDY}")
    return records


def _note(sha256: str, train_y: Labels) -> str:
    if sha256 == _JPEG_COPY:
        return "CIFAR-10 (JPEG copy): a re-encoding, pixels differ slightly from the official archive"
    if train_y[:10].tolist() == _FIRST_LABELS:
        return ""
    return "not the official archive's files: a copy of CIFAR-10 in its layout"

"""Fashion-MNIST (Xiao et al. 2017), IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError
from bench.workloads.datasets.dataset import Dataset, read
from bench.workloads.datasets.download import fetch

SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
"""The hashes that its README publishes."""
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""The folder of Debian's package dataset-fashion-mnist."""
CLASSES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_LARGEST = 64 * 2**20
"""Limit for an unpacked file, bytes; the largest has 47 MB."""
_SHAPES = {"train": 60_000, "t10k": 10_000}


def load(data_dir: Path | None = None) -> Dataset:
    """60,000 + 10,000 images of 28x28, one channel. Without a folder, Debian's package is read if it is
    installed; else the files are downloaded once.

    Raises:
        UsageError: the files cannot be downloaded; one is missing, cut off or not IDX.
    """
    folder = DEBIAN if data_dir is None and DEBIAN.is_dir() else data_dir
    digest, arrays = hashlib.sha256(), {}
    for name in MD5:
        content = _content(name, folder)
        digest.update(content)
        split, kind = name.split("-")[:2]
        arrays[split, kind] = _array(name, content, kind, _SHAPES[split])
    images = {split: arrays[split, "images"][..., None] for split in _SHAPES}
    labels = {split: arrays[split, "labels"].astype(np.int64) for split in _SHAPES}
    for split, values in labels.items():
        if values.max() > 9:
            raise UsageError(f"{split}-labels holds a label {values.max()}, above 9: corrupt; get the file again")
    return Dataset(
        "fashion-mnist", images["train"], labels["train"], images["t10k"], labels["t10k"], CLASSES, digest.hexdigest()
    )


def _content(name: str, folder: Path | None) -> bytes:
    """The unpacked bytes of a file."""
    if folder is None:
        remedy = "--data-dir DIR reads the four IDX files instead (or: apt-get install dataset-fashion-mnist)"
        return _unpacked(fetch(SITE + name, f"md5:{MD5[name]}", remedy))
    for path in (folder / name, folder / name.removesuffix(".gz")):
        if path.is_file():
            return _unpacked(path) if path.suffix == ".gz" else read(path, "get the file again")
    raise UsageError(f"no {name} in {folder}; the folder must hold the four IDX files of Fashion-MNIST")


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            content = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"cannot unpack {path}: {error}; get the file again") from error
    if len(content) > _LARGEST:
        raise UsageError(f"{path} unpacks to more than {_LARGEST:,} bytes: not a file of Fashion-MNIST")
    return content


def _array(name: str, content: bytes, kind: str, count: int) -> npt.NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes: two zeros, type 8, number of axes, their lengths, the values."""
    shape = (count, 28, 28) if kind == "images" else (count,)
    header = bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
    if content[: len(header)] != header:
        raise UsageError(
            f"{name} is not an IDX file of {'x'.join(map(str, shape))} bytes: not Fashion-MNIST; get the file again"
        )
    if len(content) != len(header) + math.prod(shape):
        raise UsageError(f"{name} has {len(content):,} bytes, not {len(header) + math.prod(shape):,}: cut off")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)

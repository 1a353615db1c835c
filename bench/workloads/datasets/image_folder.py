"""A data set in a user's folder: one subfolder of images per class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.errors import UsageError
from bench.workloads.datasets.dataset import Dataset, Labels, Pixels

SIZE = 32
"""Height and width to which images of different sizes are resized."""
LARGEST = 512
"""Images with a larger height or width are resized."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SEED = 1797


def load(folder: Path) -> Dataset:
    """``DIR/CLASS/*`` split 80/20 by a fixed seed, or ``DIR/train/CLASS/*`` and ``DIR/test/CLASS/*``; three channels.
    Images keep their size if all have the same; else they are resized to 32x32 (bicubic), and the note says so.

    Raises:
        UsageError: no such folder, fewer than two classes, a class of the test split that the training split does not
            have, or an image that cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"--dataset folder:{folder}: no such folder; it must hold one folder of images per class")
    split = (folder / "train").is_dir() and (folder / "test").is_dir()
    classes = _classes(folder / "train" if split else folder)
    if split and (untrained := sorted(set(_classes(folder / "test")) - set(classes))):
        raise UsageError(f"{folder}/test has a class '{untrained[0]}' that {folder}/train does not have")
    parts = [_files(folder / part if split else folder, classes) for part in (("train", "test") if split else ("",))]
    size = _common_size([path for files in parts for path, _ in files])
    arrays = [_arrays(files, size) for files in parts]
    digest = hashlib.sha256()
    for pixels, labels in arrays:
        digest.update(pixels.tobytes() + labels.tobytes())
    order = np.random.default_rng(SEED).permutation(len(arrays[0][1]))  # the images are sorted by class
    x, y = arrays[0][0][order], arrays[0][1][order]
    if split:
        train, test = (x, y), arrays[1]
    else:
        cut = round(0.8 * len(y))
        train, test = (x[:cut], y[:cut]), (x[cut:], y[cut:])
    if not len(train[1]) or not len(test[1]):
        raise UsageError(f"{folder}: too few images for training and test")
    note = "" if size is not None else f"images of different or large sizes, resized to {SIZE}x{SIZE}"
    return Dataset(f"folder:{folder.name}", *train, *test, tuple(classes), digest.hexdigest(), note)


def _classes(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        raise UsageError(
            f"{folder}: {len(names)} class folders; it must hold one folder of images per class, two or more"
        )
    return names


def _files(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).glob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise UsageError(f"{folder}: no images in its class folders ({', '.join(SUFFIXES)})")
    return files


def _common_size(paths: Sequence[Path]) -> tuple[int, int] | None:
    """Width and height, if all images have the same size and it is not too large; else None."""
    from PIL import Image

    sizes = set()
    for path in paths:
        try:
            with Image.open(path) as image:
                sizes.add(image.size)
        except Exception as error:  # a decoder may raise anything
            raise _unreadable(path, error) from error
    size = sizes.pop() if len(sizes) == 1 else None
    return size if size is not None and max(size) <= LARGEST else None


def _arrays(files: Sequence[tuple[Path, int]], size: tuple[int, int] | None) -> tuple[Pixels, Labels]:
    images = [_image(path, size) for path, _ in files]
    return np.stack(images), np.array([label for _, label in files], np.int64)


def _image(path: Path, size: tuple[int, int] | None) -> Pixels:
    from PIL import Image

    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
            return np.asarray(rgb if size is not None else rgb.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    except Exception as error:  # a decoder may raise anything
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UsageError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return UsageError(f"cannot read the image {path}: {reason}; repair or remove it")

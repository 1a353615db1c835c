"""A data set in a user's folder: one subfolder of images per class.

Every image becomes 8-bit RGB: the first frame of an animation, turned as its EXIF orientation says, transparent parts
over white, palettes and CMYK converted, 16-bit values scaled by 255/65535, floating-point values (0 to 1) by 255.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import UsageError
from bench.file_names import readable
from bench.workloads.datasets.dataset import Dataset, Labels, Pixels

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

SIZE = 32
"""Height and width to which images of different sizes are resized."""
LARGEST = 512
"""Images with a larger height or width are resized."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SEED = 1797
TRAIN_SHARE = 0.8
"""Share of the images of each class that is for training, if the folder has no split of its own."""
NO_CLASSES = ("__MACOSX",)
"""Folders that archives leave behind."""


def load(folder: Path) -> Dataset:
    """``DIR/CLASS/*`` split 80/20 in every class by a fixed seed, or ``DIR/train/CLASS/*`` with ``DIR/test`` (or
    ``DIR/val``); three channels. Images keep their size if all have the same; else they are resized to 32x32 (bicubic).
    The note says what was resized, skipped or not used.

    Raises:
        UsageError: no such folder, fewer than two classes, a class without images or with too few, a class of the test
            split that the training split does not have, or images that cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"--dataset folder:{folder}: no such folder; it must hold one folder of images per class")
    found = _Found(folder)
    held = next((name for name in ("test", "val") if (folder / name).is_dir()), None)
    split = (folder / "train").is_dir() and held is not None
    classes = _classes(folder / "train" if split else folder)
    parts = [found.files(folder / "train" if split else folder, classes, least=1 if split else 2)]
    if split and held is not None:
        if untrained := sorted(set(_classes(folder / held)) - set(classes)):
            raise UsageError(f"{folder}/{held} has a class '{untrained[0]}' that {folder}/train does not have")
        parts.append(found.files(folder / held, classes, least=0))
        if held == "test" and (folder / "val").is_dir():
            found.notes.append("val is not used: a recipe's validation is a share of train")
    size = found.common_size([path for files in parts for path, _ in files])
    arrays = [_arrays(files, size) for files in parts]
    digest = hashlib.sha256()
    for pixels, labels in arrays:
        digest.update(pixels.tobytes() + labels.tobytes())
    order = np.random.default_rng(SEED).permutation(len(arrays[0][1]))  # the images are sorted by class
    x, y = arrays[0][0][order], arrays[0][1][order]
    if split:
        train, test = (x, y), arrays[1]
    else:
        chosen = _training_images(y, len(classes))
        train, test = (x[chosen], y[chosen]), (x[~chosen], y[~chosen])
    if not len(train[1]) or not len(test[1]):
        raise UsageError(f"{folder}: too few images for training and test")
    names = tuple(map(readable, classes))
    return Dataset(f"folder:{readable(folder.name)}", *train, *test, names, digest.hexdigest(), found.note(size))


def _training_images(labels: Labels, classes: int) -> Any:
    """Which images are for training: the first 80% of every class, at least one, at most all but one."""
    chosen = np.zeros(len(labels), bool)
    for label in range(classes):
        (places,) = np.nonzero(labels == label)
        chosen[places[: min(max(round(TRAIN_SHARE * len(places)), 1), len(places) - 1)]] = True
    return chosen


def _classes(folder: Path) -> list[str]:
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name not in NO_CLASSES
    )
    if len(names) < 2:
        raise UsageError(
            f"{folder}: {len(names)} class folders; it must hold one folder of images per class, two or more"
        )
    return names


@dataclass
class _Found:
    """What was found in a folder, and the notes about it."""

    folder: Path
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def files(self, folder: Path, classes: Sequence[str], least: int) -> list[tuple[Path, int]]:
        """The images with their labels; every class has at least ``least``."""
        files = [(path, label) for label, name in enumerate(classes) for path in self._images(folder / name)]
        if not files:
            raise UsageError(f"{folder}: no images in its class folders ({', '.join(SUFFIXES)})")
        counts = Counter(label for _, label in files)
        for label, name in enumerate(classes):
            if counts[label] < least:
                nested = any(path.is_dir() for path in (folder / name).glob("*"))
                why = "its images are in subfolders: move them up" if nested else "remove the folder, or add images"
                raise UsageError(f"{folder / name}: class with {counts[label]} images, {least} needed; {why}")
        return files

    def _images(self, folder: Path) -> Iterator[Path]:
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            if path.is_dir():
                continue
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                yield path
            else:
                self.skipped.append(path.name)

    def common_size(self, paths: Sequence[Path]) -> tuple[int, int] | None:
        """Width and height, if all images have the same size and it is not too large; else None.

        Raises:
            UsageError: images that cannot be read; the first is named, the others are counted.
        """
        from PIL import Image, ImageOps

        sizes, broken = set(), list[tuple[Path, Exception]]()
        for path in paths:
            try:
                with Image.open(path) as image:
                    image.load()
                    sizes.add(ImageOps.exif_transpose(image).size)
            except Exception as error:  # noqa: BLE001  (a decoder may raise anything)
                broken.append((path, error))
        if broken:
            path, cause = broken[0]
            reason = next(iter(str(cause).splitlines()), type(cause).__name__)
            more = f"; {len(broken) - 1} more cannot be read" if len(broken) > 1 else ""
            raise UsageError(f"cannot read the image {path}: {reason}; repair or remove it{more}") from cause
        size = sizes.pop() if len(sizes) == 1 else None
        return size if size is not None and max(size) <= LARGEST else None

    def note(self, size: tuple[int, int] | None) -> str:
        """All notes as one text."""
        notes = list(self.notes)
        if size is None:
            notes.insert(0, f"images of different or large sizes, resized to {SIZE}x{SIZE}")
        if self.skipped:
            notes.append(f"{len(self.skipped)} files skipped that are no images, such as {self.skipped[0]}")
        return "; ".join(notes)


def _arrays(files: Sequence[tuple[Path, int]], size: tuple[int, int] | None) -> tuple[Pixels, Labels]:
    images = [_image(path, size) for path, _ in files]
    return np.stack(images), np.array([label for _, label in files], np.int64)


def _image(path: Path, size: tuple[int, int] | None) -> Pixels:
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        rgb = _rgb(path, ImageOps.exif_transpose(image))
        return np.asarray(rgb if size is not None else rgb.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _rgb(path: Path, image: PilImage) -> PilImage:
    """The image as 8-bit RGB.

    Raises:
        UsageError: floating-point values outside 0 to 1, or integers above 16 bits.
    """
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        highest = 1.0 if image.mode == "F" else 65535.0
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= highest):
            raise UsageError(f"{path}: values outside 0 to {highest:g}; scale them first")
        return Image.fromarray(np.round(values * (255 / highest)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")

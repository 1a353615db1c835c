"""Folders of images as users have them: layouts, leftovers of other systems, kinds of images, broken ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.errors import UsageError
from bench.workloads.datasets import image_folder

Make = Callable[[], Image.Image]


def fill(folder: Path, count: int, colour: int = 100) -> None:
    """Write some small images."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (8, 6), (colour, number, 0)).save(folder / f"{number}.png")


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    """Ten images of each of two classes."""
    fill(tmp_path / "a", 10)
    fill(tmp_path / "b", 10)
    return tmp_path


@pytest.mark.parametrize(
    ("parts", "test"), [(("train", "test"), 2), (("train", "val"), 3), (("train", "val", "test"), 2)]
)
def test_layouts_with_their_own_split(tmp_path: Path, parts: tuple[str, ...], test: int) -> None:
    for part, count in zip(("train", "val", "test"), (5, 3, 2), strict=True):
        for name in "ab" if part in parts else "":
            fill(tmp_path / part / name, count)
    data = image_folder.load(tmp_path)
    assert (len(data.train_y), len(data.test_y)) == (10, 2 * test)
    assert ("val is not used" in data.note) is (len(parts) == 3)


@pytest.mark.parametrize("leftover", ["a/._0.png", "a/.DS_Store", "b/Thumbs.db", "__MACOSX/._a"])
def test_leftovers_of_other_systems_are_skipped(two_classes: Path, leftover: str) -> None:
    (two_classes / leftover).parent.mkdir(exist_ok=True)
    (two_classes / leftover).write_bytes(b"\x00\x05\x16\x07")
    data = image_folder.load(two_classes)
    assert data.classes == ("a", "b")
    assert len(data.train_y) + len(data.test_y) == 20
    assert data.note == ("" if "MACOSX" in leftover else f"1 files skipped that are no images, such as {leftover[2:]}")


def test_every_class_is_in_both_splits(tmp_path: Path) -> None:
    for name, count in {"a": 50, "b": 2, "c": 3}.items():
        fill(tmp_path / name, count)
    data = image_folder.load(tmp_path)
    assert set(data.train_y) == set(data.test_y) == {0, 1, 2}
    assert [int((data.train_y == label).sum()) for label in range(3)] == [40, 1, 2]


@pytest.mark.parametrize("count", [0, 1])
def test_a_class_that_cannot_be_split_is_refused(two_classes: Path, count: int) -> None:
    fill(two_classes / "c", count)
    with pytest.raises(UsageError, match=f"c: class with {count} images, 2 needed"):
        image_folder.load(two_classes)


def test_a_class_with_subfolders_is_refused(two_classes: Path) -> None:
    fill(two_classes / "c" / "inner", 3)
    with pytest.raises(UsageError, match="its images are in subfolders: move them up"):
        image_folder.load(two_classes)


def test_broken_images_are_counted(two_classes: Path) -> None:
    for name in ("0.png", "1.png", "2.png"):
        content = (two_classes / "a" / name).read_bytes()
        (two_classes / "a" / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match=r"a/0\.png: .*; repair or remove it; 2 more cannot be read"):
        image_folder.load(two_classes)


def _sixteen_bit() -> Image.Image:
    return Image.fromarray((np.arange(48) * 1000).astype(np.uint16).reshape(6, 8))


def _transparent() -> Image.Image:
    return Image.new("RGBA", (8, 6), (10, 20, 30, 0))


def _palette() -> Image.Image:
    return Image.new("RGB", (8, 6), (200, 0, 0)).quantize(4)


def _cmyk() -> Image.Image:
    return Image.new("CMYK", (8, 6), (0, 255, 255, 0))


@pytest.mark.parametrize(
    ("make", "suffix", "pixel"),
    [
        (_sixteen_bit, "png", [183, 183, 183]),
        (lambda: Image.fromarray(np.full((6, 8), 0.5, np.float32)), "tiff", [128, 128, 128]),
        (_transparent, "png", [255, 255, 255]),
        (_palette, "png", [200, 0, 0]),
        (_cmyk, "tiff", [255, 0, 0]),
        (lambda: Image.new("L", (8, 6), 77), "png", [77, 77, 77]),
    ],
)
def test_every_kind_of_image_becomes_8_bit_rgb(tmp_path: Path, make: Make, suffix: str, pixel: list[int]) -> None:
    path = tmp_path / f"x.{suffix}"
    make().save(path)
    assert image_folder._image(path, (8, 6))[-1, -1].tolist() == pixel


def test_a_16_bit_ramp_keeps_its_steps(tmp_path: Path) -> None:
    Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64).save(tmp_path / "ramp.png")
    assert len(np.unique(image_folder._image(tmp_path / "ramp.png", (32, 32)))) == 256


def test_values_without_a_known_scale_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 8), 7.5, np.float32)).save(tmp_path / "x.tiff")
    with pytest.raises(UsageError, match="values outside 0 to 1; scale them first"):
        image_folder._image(tmp_path / "x.tiff", (8, 6))


def test_an_image_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 6))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "x.jpg", exif=exif)
    assert image_folder._image(tmp_path / "x.jpg", (6, 8)).shape == (8, 6, 3)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert image_folder._image(tmp_path / "x.gif", (8, 6))[0, 0].tolist() == [255, 0, 0]

"""Data sets: arrays, splits, checksums, and clear errors for what is wrong on disk."""

from __future__ import annotations

import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cifar10_files import write_cifar10

from bench.errors import UsageError
from bench.worker.training import epoch_order
from bench.workloads.datasets import cifar10, digits, fashion_mnist, registry
from bench.workloads.datasets.dataset import Dataset


def test_digits() -> None:
    data, again = digits.load(), digits.load()
    assert data.train_x.shape == (1438, 32, 32, 3)
    assert data.test_x.shape == (359, 32, 32, 3)
    assert data.train_x.dtype == np.uint8
    assert (data.train_x.min(), data.train_x.max()) == (0, 255)
    assert set(data.train_y) == set(data.test_y) == set(range(10))
    np.testing.assert_array_equal(data.train_x[..., 0], data.train_x[..., 2])
    np.testing.assert_array_equal(data.test_y, again.test_y)
    assert data.sha256 == again.sha256
    assert len(data.sha256) == 64


def test_splits_share_no_image_and_lose_none() -> None:
    from sklearn.datasets import load_digits

    data, source = digits.load(), load_digits()
    published = np.rint(source.images * 255 / 16).astype(np.uint8)
    train, test = (small_images(x, y) for x, y in ((data.train_x, data.train_y), (data.test_x, data.test_y)))
    assert Counter(train) + Counter(test) == Counter(small_images(published[..., None], source.target, 1))
    pixels = {image for image, _ in train}
    assert len(pixels) == len(train), "no image comes twice"
    assert pixels.isdisjoint(image for image, _ in test)


def small_images(x: np.ndarray, y: np.ndarray, repeated: int = 4) -> list[tuple[bytes, int]]:
    """Pixels of the first channel as published, before each is repeated; and the label."""
    return [(image[::repeated, ::repeated, 0].tobytes(), int(label)) for image, label in zip(x, y, strict=True)]


@pytest.fixture(scope="module")
def by_parent(cifar10_folder: Path) -> Dataset:
    return cifar10.load(cifar10_folder)


def test_cifar10_layout(cifar10_folder: Path, by_parent: Dataset) -> None:
    by_folder = cifar10.load(cifar10_folder / "cifar-10-batches-bin")
    assert by_parent.train_x.shape == (50_000, 32, 32, 3)
    assert by_parent.test_x.shape == (10_000, 32, 32, 3)
    assert by_parent.sha256 == by_folder.sha256
    record = np.fromfile(cifar10_folder / "cifar-10-batches-bin" / "data_batch_2.bin", np.uint8, 3073)
    assert by_parent.train_y[10_000] == record[0]
    red, green = record[1 : 1 + 1024].reshape(32, 32), record[1 + 1024 : 1 + 2048].reshape(32, 32)
    np.testing.assert_array_equal(by_parent.train_x[10_000, :, :, 0], red)
    np.testing.assert_array_equal(by_parent.train_x[10_000, :, :, 1], green)
    assert "copy" in by_parent.note, "random pixels must not pass for the official archive"


def test_cifar10_of_another_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no cifar-10-batches-bin"):
        cifar10.load(tmp_path)


def test_cifar10_broken_files(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    write_cifar10(folder)
    batch = folder / "data_batch_3.bin"
    content = bytearray(batch.read_bytes())
    content[5 * 3073] = 11
    batch.write_bytes(content)
    with pytest.raises(UsageError, match="label 11"):
        cifar10.load(tmp_path)
    batch.write_bytes(content[:-1])
    with pytest.raises(UsageError, match="cut off"):
        cifar10.load(tmp_path)
    batch.unlink()
    with pytest.raises(UsageError, match=r"data_batch_3\.bin: No such file"):
        cifar10.load(tmp_path)


def test_epochs_are_permutations_by_seed_and_epoch() -> None:
    order = epoch_order(1, 0, 1000)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    np.testing.assert_array_equal(order, epoch_order(1, 0, 1000))
    assert (order != epoch_order(1, 1, 1000)).any()
    assert (order != epoch_order(2, 0, 1000)).any()


def test_cifar10_from_the_archive(
    cifar10_folder: Path, by_parent: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=0) as archive:
        archive.add(cifar10_folder / "cifar-10-batches-bin", "cifar-10-batches-bin")
    monkeypatch.setattr(cifar10, "fetch", lambda url, known_hash, otherwise: path)
    assert cifar10.load().sha256 == by_parent.sha256
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(UsageError, match="delete the file to download it again"):
        cifar10.load()


def test_unknown_names_and_folders_where_none_belongs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'cifar10'"):
        registry.check("cifar")
    with pytest.raises(UsageError, match="embedded; leave out --data-dir"):
        registry.load("digits", tmp_path)
    with pytest.raises(UsageError, match="names its own folder"):
        registry.load(f"folder:{tmp_path}", tmp_path)


def test_fashion_mnist_of_debian() -> None:
    """The real files: .ci/run installs dataset-fashion-mnist."""
    data = fashion_mnist.load()
    assert data.train_x.shape == (60_000, 28, 28, 1)
    assert data.test_x.shape == (10_000, 28, 28, 1)
    assert np.bincount(data.train_y).tolist() == [6000] * 10
    assert data.classes[data.train_y[0]] == "ankle boot"
    assert data.train_x.mean() == pytest.approx(72.94, abs=0.01), "the published mean, 0.2860 of 255"


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """Unpacked IDX files of the right sizes, zeros."""
    for name in fashion_mnist.MD5:
        count = 60_000 if name.startswith("train") else 10_000
        shape = (count, 28, 28) if "images" in name else (count,)
        header = bytes([0, 0, 8, len(shape)]) + b"".join(side.to_bytes(4, "big") for side in shape)
        (tmp_path / name.removesuffix(".gz")).write_bytes(header + bytes(int(np.prod(shape))))
    return tmp_path


def test_fashion_mnist_broken_files(fashion: Path) -> None:
    assert fashion_mnist.load(fashion).test_y.shape == (10_000,)
    images, labels = fashion / "t10k-images-idx3-ubyte", fashion / "t10k-labels-idx1-ubyte"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-1] + b"\x0b")
    with pytest.raises(UsageError, match="label 11, above 9"):
        fashion_mnist.load(fashion)
    labels.write_bytes(whole[:-5])
    with pytest.raises(UsageError, match=r"has 10,003 bytes, not 10,008: cut off"):
        fashion_mnist.load(fashion)
    labels.write_bytes(b"\x00\x00\x0d" + whole[3:])
    with pytest.raises(UsageError, match="not an IDX file of 10000 bytes"):
        fashion_mnist.load(fashion)
    labels.unlink()
    with pytest.raises(UsageError, match="no t10k-labels"):
        fashion_mnist.load(fashion)
    images.unlink()
    images.with_suffix(".gz").write_bytes(b"\x1f\x8b not gzip at all")
    with pytest.raises(UsageError, match="cannot unpack"):
        fashion_mnist.load(fashion)


def paint(path: Path, colour: int, size: tuple[int, int] = (20, 16)) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 0, 255 - colour)).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of ten images, all of one size."""
    for number in range(10):
        paint(tmp_path / "cats" / f"{number}.png", 200 + number)
        paint(tmp_path / "dogs" / f"{number}.jpg", 10 + number)
    (tmp_path / "cats" / "notes.txt").write_text("no image")
    return tmp_path


def test_a_folder_of_images(pictures: Path) -> None:
    data = registry.load(f"folder:{pictures}")
    assert data.train_x.shape == (16, 16, 20, 3)
    assert data.test_x.shape == (4, 16, 20, 3)
    assert data.classes == ("cats", "dogs")
    assert {0, 1} == set(data.train_y)
    red = data.train_x[..., 0].mean(axis=(1, 2))
    np.testing.assert_array_equal(red > 100, data.train_y == 0)
    assert data.train_y[:8].tolist() != sorted(data.train_y[:8]), "classes are mixed, for a validation split"
    assert data.note == "1 files skipped that are no images, such as notes.txt"
    assert data.sha256 == registry.load(f"folder:{pictures}").sha256


def test_a_folder_with_its_own_split_and_unequal_sizes(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("test", 2)):
        for number in range(count):
            paint(tmp_path / part / "a" / f"{number}.png", number, (10 + number, 10))
            paint(tmp_path / part / "b" / f"{number}.png", number)
    data = registry.load(f"folder:{tmp_path}")
    assert (data.train_x.shape, data.test_x.shape) == ((8, 32, 32, 3), (4, 32, 32, 3))
    assert "resized to 32x32" in data.note
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(UsageError, match="has a class 'c' that"):
        registry.load(f"folder:{tmp_path}")


def test_a_folder_that_is_no_data_set(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        registry.load("folder:/none")
    with pytest.raises(UsageError, match="0 class folders"):
        registry.load(f"folder:{pictures / 'cats'}")
    broken = pictures / "dogs" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(UsageError, match=r"cannot read the image .*dogs/3\.jpg: .*; repair or remove it"):
        registry.load(f"folder:{pictures}")
    broken.write_bytes(b"not an image")
    with pytest.raises(UsageError, match=r"cannot read the image .*dogs/3\.jpg"):
        registry.load(f"folder:{pictures}")

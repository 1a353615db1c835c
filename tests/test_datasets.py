"""Data sets: arrays, splits, checksums, and clear errors for what is wrong on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_cifar10

from bench.datasets import cifar10, digits, normalize
from bench.errors import UsageError
from bench.training import epoch_order


def test_digits() -> None:
    data, again = digits(), digits()
    assert data.train_x.shape == (1438, 32, 32, 3)
    assert data.test_x.shape == (359, 32, 32, 3)
    assert data.train_x.dtype == np.uint8
    assert (data.train_x.min(), data.train_x.max()) == (0, 255)
    assert set(data.train_y) == set(data.test_y) == set(range(10))
    np.testing.assert_array_equal(data.train_x[..., 0], data.train_x[..., 2])
    np.testing.assert_array_equal(data.test_y, again.test_y)
    assert data.sha256 == again.sha256
    assert len(data.sha256) == 64


def test_splits_share_no_image() -> None:
    from sklearn.datasets import load_digits

    data = digits()
    together = np.concatenate([data.train_y, data.test_y])
    np.testing.assert_array_equal(np.sort(together), np.sort(load_digits().target))


def test_cifar10_layout(cifar10_folder: Path) -> None:
    by_parent, by_folder = cifar10(cifar10_folder), cifar10(cifar10_folder / "cifar-10-batches-bin")
    assert by_parent.train_x.shape == (50_000, 32, 32, 3)
    assert by_parent.test_x.shape == (10_000, 32, 32, 3)
    assert by_parent.sha256 == by_folder.sha256
    record = np.fromfile(cifar10_folder / "cifar-10-batches-bin" / "data_batch_2.bin", np.uint8, 3073)
    assert by_parent.train_y[10_000] == record[0]
    red, green = record[1 : 1 + 1024].reshape(32, 32), record[1 + 1024 : 1 + 2048].reshape(32, 32)
    np.testing.assert_array_equal(by_parent.train_x[10_000, :, :, 0], red)
    np.testing.assert_array_equal(by_parent.train_x[10_000, :, :, 1], green)
    assert "copy" in by_parent.note, "random pixels must not pass for the official archive"


def test_cifar10_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data-dir"):
        cifar10(None)
    with pytest.raises(UsageError, match="no cifar-10-batches-bin"):
        cifar10(tmp_path)


def test_cifar10_broken_files(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    write_cifar10(folder)
    batch = folder / "data_batch_3.bin"
    content = bytearray(batch.read_bytes())
    content[5 * 3073] = 11
    batch.write_bytes(content)
    with pytest.raises(UsageError, match="label 11"):
        cifar10(tmp_path)
    batch.write_bytes(content[:-1])
    with pytest.raises(UsageError, match="cut off"):
        cifar10(tmp_path)
    batch.unlink()
    with pytest.raises(UsageError, match=r"data_batch_3\.bin: No such file"):
        cifar10(tmp_path)


def test_normalize() -> None:
    pixels = np.array([[[[0, 51, 255]]]], np.uint8)
    np.testing.assert_allclose(normalize(pixels, 0.5, 0.5).ravel(), [-1, -0.6, 1], atol=1e-7)
    assert normalize(pixels, 0.0, 1.0).dtype == np.float32


def test_epochs_are_permutations_by_seed_and_epoch() -> None:
    order = epoch_order(1, 0, 1000)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    np.testing.assert_array_equal(order, epoch_order(1, 0, 1000))
    assert (order != epoch_order(1, 1, 1000)).any()
    assert (order != epoch_order(2, 0, 1000)).any()

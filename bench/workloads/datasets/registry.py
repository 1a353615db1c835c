"""The data sets by name: embedded, downloaded, or in a user's folder. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.errors import UsageError, unknown
from bench.workloads.datasets import cifar10, digits, fashion_mnist, image_folder
from bench.workloads.datasets.dataset import Dataset, Labels, Pixels

__all__ = ["DATASETS", "DESCRIPTIONS", "Dataset", "Labels", "Pixels", "check", "load"]

DATASETS: dict[str, Callable[[Path | None], Dataset]] = {
    "digits": digits.load,
    "cifar10": cifar10.load,
    "fashion-mnist": fashion_mnist.load,
}
FOLDER = "folder:"
"""Prefix of the name of a data set in a user's folder."""
DESCRIPTIONS = {
    "digits": "1,797 handwritten digits of scikit-learn as 32x32x3, 80/20 (embedded)",
    "cifar10": "CIFAR-10, 50,000 + 10,000 images of 32x32x3 (downloaded, 170 MB, or --data-dir)",
    "fashion-mnist": "Fashion-MNIST, 60,000 + 10,000 images of 28x28x1 (downloaded, 31 MB, or --data-dir)",
    f"{FOLDER}DIR": "class folders of images, DIR/train and DIR/test or split 80/20 by a fixed seed",
}


def check(name: str) -> str:
    """Return the name if there is such a data set. A user's folder is not read yet.

    Raises:
        UsageError: an unknown name.
    """
    if name not in DATASETS and not name.startswith(FOLDER):
        raise unknown("data set", name, [*DATASETS, f"{FOLDER}DIR"])
    return name


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Read a data set; download it first if it is not on disk.

    Raises:
        UsageError: it cannot be downloaded or read, or has other content; the message says what to do.
    """
    if name.startswith(FOLDER):
        if data_dir is not None:
            raise UsageError(f"--data-dir is for data sets with a name; {name} names its own folder")
        return image_folder.load(Path(name.removeprefix(FOLDER)))
    return DATASETS[check(name)](data_dir)

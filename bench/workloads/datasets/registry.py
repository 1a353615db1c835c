"""Data sets by name: embedded, downloaded, or read from the user's disk. Nothing is unpickled."""

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
"""Begins the name of a data set that is a folder of the user's."""
DESCRIPTIONS = {
    "digits": "1,797 handwritten digits of scikit-learn as 32x32x3, 80/20 (embedded)",
    "cifar10": "CIFAR-10, 50,000 + 10,000 images of 32x32x3 (downloaded, 170 MB, or --data-dir)",
    "fashion-mnist": "Fashion-MNIST, 60,000 + 10,000 images of 28x28x1 (downloaded, 31 MB, or --data-dir)",
    f"{FOLDER}DIR": "class folders of images, DIR/train and DIR/test or split 80/20 by a fixed seed",
}


def check(name: str) -> str:
    """The name, if there is such a data set (a folder is not looked at yet).

    Raises:
        UsageError: there is none.
    """
    if name not in DATASETS and not name.startswith(FOLDER):
        raise unknown("data set", name, [*DATASETS, f"{FOLDER}DIR"])
    return name


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Read it, downloading it first where it is not here.

    Raises:
        UsageError: it cannot be had, or what is on disk is not it; the message says what to do.
    """
    if name.startswith(FOLDER):
        if data_dir is not None:
            raise UsageError(f"--data-dir is for data sets with a name; {name} says where it is")
        return image_folder.load(Path(name.removeprefix(FOLDER)))
    return DATASETS[check(name)](data_dir)

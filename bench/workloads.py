"""The catalogue: models, training recipes, and workloads (model / data set / recipe)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backends.base import Optimizer
from backends.model import Conv2D, Dense, Flatten, MaxPool2D, ModelSpec, ReLU
from bench.datasets import DATASETS
from bench.errors import UsageError, unknown

_IMAGE = (32, 32, 3)

MODELS = {
    spec.name: spec
    for spec in (
        ModelSpec(
            "article-keras",
            _IMAGE,
            (
                *(Conv2D(32, 3), ReLU(), MaxPool2D()),
                *(Conv2D(64, 3), ReLU(), MaxPool2D()),
                *(Conv2D(64, 3), ReLU()),
                *(Flatten(), Dense(64), ReLU(), Dense(10)),
            ),
        ),
        ModelSpec(
            "article-pytorch",
            _IMAGE,
            (
                *(Conv2D(6, 5), ReLU(), MaxPool2D()),
                *(Conv2D(16, 5), ReLU(), MaxPool2D()),
                *(Flatten(), Dense(120), ReLU(), Dense(84), ReLU(), Dense(10)),
            ),
        ),
    )
}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. Pixels enter as (value / 255 - mean) / std; every epoch sees a new permutation."""

    name: str
    optimizer: Optimizer
    learning_rate: float
    batch_size: int
    epochs: int
    mean: float
    std: float


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("article-keras", Optimizer("adam"), 0.001, batch_size=32, epochs=10, mean=0.0, std=1.0),
        Recipe("article-pytorch", Optimizer("sgd", 0.9), 0.001, batch_size=4, epochs=2, mean=0.5, std=0.5),
    )
}


@dataclass(frozen=True)
class Workload:
    """What is trained, on what, and how."""

    model: ModelSpec
    dataset: str
    recipe: Recipe

    @property
    def name(self) -> str:
        """``model/dataset/recipe``."""
        return f"{self.model.name}/{self.dataset}/{self.recipe.name}"


DEFAULT_WORKLOAD = "article-keras/digits/article-keras"


def parse(text: str) -> Workload:
    """``MODEL/DATASET/RECIPE`` to a workload.

    Raises:
        UsageError: not three names, or an unknown one.
    """
    names = parts(text)
    kinds: list[tuple[str, Iterable[str]]] = [("model", MODELS), ("data set", DATASETS), ("recipe", RECIPES)]
    for (kind, known), name in zip(kinds, names, strict=True):
        if name not in known:
            raise unknown(kind, name, known)
    return Workload(MODELS[names[0]], names[1], RECIPES[names[2]])


def parts(text: str) -> tuple[str, str, str]:
    """Model, data set and recipe of ``MODEL/DATASET/RECIPE``.

    Raises:
        UsageError: not three names.
    """
    names = text.split("/")
    if len(names) != 3:
        raise UsageError(f"--workload {text}: not MODEL/DATASET/RECIPE, such as {DEFAULT_WORKLOAD}")
    return names[0], names[1], names[2]

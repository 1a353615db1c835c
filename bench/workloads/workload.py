"""Workloads: model / data set / recipe, each by its name or the user's own file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backends.model import Dense, ModelSpec
from bench.errors import UsageError, unknown
from bench.workloads import toml_files
from bench.workloads.datasets import registry
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.models import MODELS
from bench.workloads.onnx_file import OnnxModel
from bench.workloads.recipe import Recipe, changes_of

_FILES = Path(__file__).parent / "recipe_files"
RECIPES = {path.stem: toml_files.built_in_recipe(path) for path in sorted(_FILES.glob("*.toml"))}
DEFAULT_MODEL, DEFAULT_DATASET, DEFAULT_RECIPE = "article-keras", "digits", "article-keras"
DEFAULT_WORKLOAD = f"{DEFAULT_MODEL}/{DEFAULT_DATASET}/{DEFAULT_RECIPE}"


@dataclass(frozen=True)
class Workload:
    """What is trained, on what, and how."""

    model: ModelSpec | OnnxModel
    """A file of the user's is run by runtimes alone (``bench.runner.onnx_run``)."""
    dataset: str
    recipe: Recipe

    @property
    def name(self) -> str:
        """``model/dataset/recipe``."""
        return f"{self.model.name}/{self.dataset}/{self.recipe.name}"

    def on(self, dataset: Dataset) -> Workload:
        """With the data set's own name, and the model made for its images and classes. A built-in model is, as its
        papers do it; a user's must fit already.

        Raises:
            UsageError: the model cannot take such images, or a user's has another number of classes.
        """
        shape, classes = dataset.image_shape, len(dataset.classes)
        assert isinstance(self.model, ModelSpec), "a file has its own inputs"
        named = replace(self, dataset=dataset.name)
        if (self.model.input_shape, self.model.classes) == (shape, classes):
            return named
        told = f"{'x'.join(map(str, shape))} images of {classes} classes"
        if self.model.name not in MODELS:
            own = f"{'x'.join(map(str, self.model.input_shape))} images and {self.model.classes} classes"
            raise UsageError(f"model {self.model.name} is for {own}, data set {dataset.name} has {told}")
        layers = (*self.model.layers[:-1], Dense(classes))
        try:
            return replace(named, model=replace(self.model, input_shape=shape, layers=layers))
        except (ValueError, IndexError) as error:
            raise UsageError(f"model {self.model.name} cannot take {told}: {error}") from error


def of(model: str, dataset: str, recipe: str, changes: dict[str, Any] | None = None) -> Workload:
    """The workload of three names; those that end in ``.toml`` are files. ``changes``: fields of the recipe.

    Raises:
        UsageError: an unknown name, a file that is no model or recipe, or a change that cannot be.
    """
    registry.check(dataset)
    return Workload(_model(model), dataset, _changed(_recipe(recipe), changes or {}))


def parse(text: str) -> Workload:
    """``MODEL/DATASET/RECIPE`` to a workload.

    Raises:
        UsageError: not three names, or an unknown one.
    """
    return of(*parts(text))


def parts(text: str) -> tuple[str, str, str]:
    """Model, data set and recipe of ``MODEL/DATASET/RECIPE``.

    Raises:
        UsageError: not three names.
    """
    names = text.split("/")
    if len(names) != 3:
        raise UsageError(f"--workload {text}: not MODEL/DATASET/RECIPE, such as {DEFAULT_WORKLOAD}")
    return names[0], names[1], names[2]


def as_options(model: str, dataset: str, recipe: str) -> list[str]:
    """The options of a command that name a workload again, of the names that a record keeps."""
    base, changes = changes_of(recipe)
    told = ["--model", toml_files.file_of(model), "--dataset", dataset, "--recipe", toml_files.file_of(base)]
    return [*told, *(part for change in changes for part in ("--set", change))]


def _model(name: str) -> ModelSpec:
    if toml_files.is_file(name):
        return toml_files.model(Path(name))
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name]


def _recipe(name: str) -> Recipe:
    if toml_files.is_file(name):
        return toml_files.recipe(Path(name))
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]


def _changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    try:
        return recipe.changed(changes)
    except KeyError as error:
        raise unknown("recipe field", str(error.args[0]), Recipe.__dataclass_fields__) from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"--set: {error}") from error

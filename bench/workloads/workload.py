"""A workload: model / data set / recipe. Each is a built-in name or a file of the user."""

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
from bench.workloads.recipe import Recipe, split_name

_FILES = Path(__file__).parent / "recipe_files"
RECIPES = {path.stem: toml_files.built_in_recipe(path) for path in sorted(_FILES.glob("*.toml"))}
DEFAULT_MODEL, DEFAULT_DATASET, DEFAULT_RECIPE = "article-keras", "digits", "article-keras"
DEFAULT_WORKLOAD = f"{DEFAULT_MODEL}/{DEFAULT_DATASET}/{DEFAULT_RECIPE}"


@dataclass(frozen=True)
class Workload:
    """A model, a data set, and the recipe that the model is trained with."""

    model: ModelSpec | OnnxModel
    """Only runtimes run a user's ONNX file (``bench.runner.onnx_run``)."""
    dataset: str
    recipe: Recipe

    @property
    def name(self) -> str:
        """``model/dataset/recipe``."""
        return f"{self.model.name}/{self.dataset}/{self.recipe.name}"

    def on(self, dataset: Dataset) -> Workload:
        """The workload with the data set's own name and a model for its images and classes. A built-in model is
        adapted, as in its paper; a user's model must fit already.

        Raises:
            UsageError: the model cannot take such images, or a user's model has another number of classes.
        """
        shape, classes = dataset.image_shape, len(dataset.classes)
        assert isinstance(self.model, ModelSpec), "a file has its own inputs"
        named = replace(self, dataset=dataset.name)
        images = len(dataset.train_y)
        if self.recipe.held_out(images) >= images:
            raise UsageError(
                f"recipe {self.recipe.name}: validation {self.recipe.validation:g} of {images} training images leaves"
                " none to train on; give a smaller one: --set validation=0.1"
            )
        if (self.model.input_shape, self.model.classes) == (shape, classes):
            return named
        pictures = f"{'x'.join(map(str, shape))} images of {classes} classes"
        if self.model.name not in MODELS:
            wanted = f"{'x'.join(map(str, self.model.input_shape))} images and {self.model.classes} classes"
            raise UsageError(f"model {self.model.name} is for {wanted}, data set {dataset.name} has {pictures}")
        layers = (*self.model.layers[:-1], Dense(classes))
        try:
            return replace(named, model=replace(self.model, input_shape=shape, layers=layers))
        except (ValueError, IndexError) as error:
            raise UsageError(f"model {self.model.name} cannot take {pictures}: {error}") from error


def make_workload(model: str, dataset: str, recipe: str, changes: dict[str, Any] | None = None) -> Workload:
    """The workload of these three names. A name that ends in ``.toml`` is a file. ``changes``: new values of fields of
    the recipe.

    Raises:
        UsageError: an unknown name, a file that is no model or recipe, or an invalid change.
    """
    registry.check(dataset)
    return Workload(_model(model), dataset, _changed(_recipe(recipe), changes or {}))


def parse(text: str) -> Workload:
    """The workload of ``MODEL/DATASET/RECIPE``.

    Raises:
        UsageError: not three names, or an unknown one.
    """
    return make_workload(*parts(text))


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
    """The command-line options for a workload, from the names in a record."""
    base, changes = split_name(recipe)
    options = ["--model", toml_files.file_of(model), "--dataset", dataset, "--recipe", toml_files.file_of(base)]
    return [*options, *(part for change in changes for part in ("--set", change))]


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

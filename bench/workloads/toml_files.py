"""Models and recipes from TOML, the built-in recipes and the user's own files; every mistake is told in one line.

Nothing in such a file is executed. What it may cost is bounded: its size, its nesting, and the model's weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from backends.model import LAYERS, Layer, ModelSpec, Residual
from bench.errors import UsageError, closest
from bench.workloads.recipe import Recipe

LARGEST_FILE = 256 * 1024
"""Bytes."""
MOST_LAYERS = 2_000
MOST_WEIGHTS = 500_000_000
MOST_ACTIVATIONS = 100_000_000
"""Values of one layer's output for one image."""
SUFFIX = ".toml"
Built = TypeVar("Built")
PROJECT = Path("pyproject.toml")
"""In the current folder; its tables ``[tool.evenbench.NAME]`` are settings for every command there."""


def project_table(name: str, project: Path = PROJECT) -> dict[str, Any]:
    """The table ``[tool.evenbench.NAME]`` of the current folder's project; empty: there is none.

    Raises:
        UsageError: the file cannot be read, is not TOML, or the entry is no table.
    """
    if not project.is_file():
        return {}
    table: Any = read(project)[1]
    for key in ("tool", "evenbench", name):
        table = table.get(key, {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict):
        raise UsageError(f"{project}: tool.evenbench.{name} is no table of settings")
    return table


def is_file(name: str) -> bool:
    """Whether a name of the command line means a file of the user's."""
    return name.endswith(SUFFIX)


def recipe(path: Path) -> Recipe:
    """A training recipe.

    Raises:
        UsageError: not to be read, not TOML, or not a recipe; the message says where.
    """
    text, plain = read(path)
    try:
        return _validated(Recipe, {**plain, "name": name_of(path, text)})
    except _InvalidField as error:
        raise UsageError(f"{path}: {_line_of_key(text, error.path)}{error}") from error


def built_in_recipe(path: Path) -> Recipe:
    """A recipe of ours, under its plain name."""
    return _validated(Recipe, {**tomllib.loads(path.read_text()), "name": path.stem})


def model(path: Path) -> ModelSpec:
    """A model: ``input_shape`` and ``[[layers]]``, each with its ``kind`` and that layer's fields.

    Raises:
        UsageError: not to be read, not TOML, or not a model; the message names the line of the layer.
    """
    text, plain = read(path)
    shape, raw = plain.pop("input_shape", [32, 32, 3]), plain.pop("layers", None)
    if plain:
        raise UsageError(f"{path}: a model has no '{next(iter(plain))}'; it has input_shape and [[layers]]")
    if not (
        isinstance(shape, list) and len(shape) == 3 and all(type(side) is int and 0 < side < 10_000 for side in shape)
    ):
        raise UsageError(f"{path}: input_shape must be height, width and channels, such as [32, 32, 3], not {shape}")
    if not isinstance(raw, list) or not raw:
        raise UsageError(f"{path}: no [[layers]]; each has a kind, one of {', '.join(LAYERS)}")
    lines = _lines_of_layers(text)
    at, layers = tuple(shape), []
    for number, plain_layer in enumerate(raw):
        where = f"line {lines[number]}" if len(lines) == len(raw) else f"layer {number + 1}"
        try:
            layer = _layer(plain_layer)
            at = layer.output_shape(at)
            if min(at) < 1 or math.prod(at) > MOST_ACTIVATIONS:
                raise ValueError(f"it would make an output of {'x'.join(map(str, at))}")
        except (ValueError, IndexError) as error:
            what = str(error) if isinstance(error, ValueError) else f"it does not fit an input of {at}"
            raise UsageError(f"{path}: {where}: {what}") from error
        layers.append(layer)
    return _checked(path, ModelSpec(name_of(path, text), tuple(shape), tuple(layers)))


def name_of(path: Path, text: str) -> str:
    """The file's stem with the beginning of its hash: two versions of a file are two workloads in the history."""
    return f"{path.stem}@{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def file_of(name: str) -> str:
    """The file's name of what ``name_of`` gave; a built-in name is itself."""
    stem, at, _ = name.rpartition("@")
    return f"{stem}{SUFFIX}" if at else name


def _checked(path: Path, spec: ModelSpec) -> ModelSpec:
    if len(list(spec.walk())) > MOST_LAYERS:
        raise UsageError(f"{path}: more than {MOST_LAYERS:,} layers")
    weights = sum(math.prod(shape) for shape in spec.weight_shapes.values())
    if weights > MOST_WEIGHTS:
        raise UsageError(f"{path}: {weights:,} weights, more than {MOST_WEIGHTS:,}")
    last = list(spec.walk())[-1]
    if LAYERS["dense"] is not type(last.layer):
        raise UsageError(f"{path}: the last layer must be dense, it gives the logits; here it is {last.name}")
    return spec


def read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise UsageError(f"{path}: larger than {LARGEST_FILE // 1024} kB: not a model or recipe of ours")
        text = content.decode()
        return text, tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not text in UTF-8") from error
    except ValueError as error:  # of TOML, or a number of thousands of digits
        raise UsageError(f"{path}: not TOML: {error}") from error
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply") from None


def _layer(plain: Any) -> Layer:
    if not isinstance(plain, dict) or "kind" not in plain:
        raise ValueError(f"a layer needs 'kind', one of {', '.join(LAYERS)}")
    kind, fields = plain["kind"], {name: value for name, value in plain.items() if name != "kind"}
    if not isinstance(kind, str) or kind not in LAYERS:
        raise ValueError(f"unknown layer {kind!r}{closest(str(kind), LAYERS)}; one of {', '.join(LAYERS)}")
    cls = LAYERS[kind]
    if cls is Residual:
        for name in fields:
            if name not in ("body", "shortcut"):
                raise ValueError(f"residual has no '{name}'; it has body, shortcut")
        if not isinstance(fields.get("body"), list) or not isinstance(fields.get("shortcut", []), list):
            raise ValueError("residual needs 'body', a list of layers, and may have 'shortcut', another")
        return Residual(*(tuple(_layer(inner) for inner in fields.get(part, [])) for part in ("body", "shortcut")))
    try:
        layer: Layer = _validated(cls, fields)
    except _InvalidField as error:
        raise ValueError(f"{kind} {error}") from error
    return layer


class _InvalidField(Exception):
    """A field of a dataclass that is wrong; ``path`` are its name and those of the fields that it is in."""

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


def _validated(cls: type[Built], fields: dict[str, Any]) -> Built:
    """An instance of a dataclass.

    Raises:
        _InvalidField: a field is missing, unknown, or of a wrong type or value.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(cls).validate_json(json.dumps(fields, default=str))
    except ValidationError as error:
        first = error.errors()[0]
        path = tuple(str(part) for part in first["loc"])
        raise _InvalidField(path, _message(first["type"], first["msg"], ".".join(path))) from error


def _message(kind: str, message: str, name: str) -> str:
    if kind == "missing":
        return f"needs '{name}'"
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"has no '{name}'"
    message = message.removeprefix("Value error, ")
    return message if not name else f"'{name}': {message[:1].lower()}{message[1:]}"


def _lines_of_layers(text: str) -> list[int]:
    """Line numbers of the ``[[layers]]`` headers."""
    return [n for n, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*layers\s*\]\]", line)]


def _line_of_key(text: str, where: tuple[str, ...]) -> str:
    """``line N: `` of the line that gives the key, empty where there is none."""
    for number, line in enumerate(text.splitlines(), 1):
        if where and re.match(rf"\s*{re.escape(where[-1])}\s*=", line):
            return f"line {number}: "
    return ""

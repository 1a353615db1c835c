"""The backends by name: files of this folder, and third-party entry points ``evenbench.backends``.

Importing this package imports no framework. A new backend is one new file here, or a separate package.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends.base import Backend
    from backends.description import Description
    from backends.model import ModelSpec
    from backends.script import Script

ENTRY_POINT_GROUP = "evenbench.backends"
_NOT_BACKENDS = {
    "base", "description", "grain_loader", "keras_engines", "keras_script", "layers", "model", "onnx_converter",
    "optimizers", "script",
    "tf_data", "torch_loader", "torch_profile", "torch_script", "xla_profile", "xplane",
}  # fmt: skip


def names() -> list[str]:
    """The names of all backends: first the built-in ones, then the others, each in alphabetical order."""
    return _built_in() + _third_party()


def _built_in() -> list[str]:
    return sorted(_classes())


@cache
def _classes() -> dict[str, type[Backend]]:
    """The classes of the built-in backends: a file's ``Adapter`` has its name, unless its ``ADAPTERS`` name several."""
    classes: dict[str, type[Backend]] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name not in _NOT_BACKENDS:
            file = importlib.import_module(f"backends.{module.name}")
            classes |= getattr(file, "ADAPTERS", None) or {module.name: file.Adapter}
    return classes


def _third_party() -> list[str]:
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)} - set(_built_in()))


def describe(name: str) -> Description:
    """What an adapter says of itself. The code of a third-party adapter is not run in this process.

    Raises:
        KeyError: no backend has this name.
        ImportError: a third-party adapter cannot be imported.
    """
    from backends import description

    if name in _built_in():
        return description.Description.of(load(name))
    found = description.third_party(_third_party())[name]
    if isinstance(found, str):
        raise ImportError(found)
    return found


def load(name: str) -> type[Backend]:
    """The adapter class of a backend. Its framework is not imported.

    Raises:
        KeyError: no backend has this name.
        ImportError: a third-party adapter cannot be imported.
    """
    if name not in names():
        raise KeyError(name)
    if name in _classes():
        return _classes()[name]
    loaded: type[Backend] = _point(name).load()
    return loaded


def plain_code(
    name: str, model: ModelSpec, device: str, precision: str, mode: str, threads: int, source: Script | None = None
) -> Script:
    """A row as plain code (``Backend.script``). The code of a third-party adapter is not run in this process.

    Raises:
        KeyError: no backend has this name.
        Unsupported: there is no such code.
    """
    from backends.base import Unsupported

    if name in names() and name not in _classes():
        raise Unsupported("its adapter is a package of its own, whose code is not run here")
    return load(name).script(model, device, precision, mode, threads, source)


def module_of(name: str) -> str:
    """The name of a backend's module."""
    return _classes()[name].__module__ if name in _classes() else _point(name).module


def shadowing() -> dict[str, str]:
    """Third-party entry points, by name, that have the name of a built-in backend: they are ignored."""
    built_in = _built_in()
    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP) if point.name in built_in}


def _point(name: str) -> EntryPoint:
    """The entry point of a third-party adapter.

    Raises:
        ImportError: two packages have this name.
    """
    points = {point.value: point for point in entry_points(group=ENTRY_POINT_GROUP, name=name)}
    if len(points) > 1:
        raise ImportError(f"two packages register it ({', '.join(sorted(points))}); uninstall one")
    return next(iter(points.values()))


def installed(adapter: Description) -> tuple[dict[str, str], list[str]]:
    """The versions of the distributions that an adapter requires, and the names of the missing ones."""
    versions: dict[str, str] = {}
    missing: list[str] = []
    for alternatives in adapter.REQUIRES:
        present = {name: version for name in alternatives if (version := _version(name)) is not None}
        versions |= present
        if not present:
            missing.append(" or ".join(alternatives))
    return versions, missing


def missing_packages(adapter: Description, missing: list[str]) -> str:
    """A message: the missing distributions and the command that installs them."""
    target = f"'evenbench[{adapter.EXTRA}]'" if adapter.EXTRA else " ".join(name.split(" or ")[0] for name in missing)
    return f"not installed: {', '.join(missing)}; pip install {target}"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None

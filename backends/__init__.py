"""Backends by name: the files of this folder, then third-party entry points ``evenbench.backends``.

Importing this package imports no framework. A new backend is one new file here, or a package of its own.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backends.base import Backend

ENTRY_POINT_GROUP = "evenbench.backends"
_GROUND = {"base", "layers", "model", "optimizers"}


def names() -> list[str]:
    """All backends' names, built-in ones first, each group in alphabetical order."""
    built_in = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _GROUND)
    others = sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)} - set(built_in))
    return built_in + others


def load(name: str) -> type[Backend]:
    """The adapter class of a backend; its framework is not imported.

    Raises:
        KeyError: no backend has this name.
        ImportError: a third-party adapter cannot be imported (the message is its own).
    """
    if name not in names():
        raise KeyError(name)
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        if name not in {module.name for module in pkgutil.iter_modules(__path__)}:
            third_party: type[Backend] = point.load()
            return third_party
    adapter: type[Backend] = importlib.import_module(f"backends.{name}").Adapter
    return adapter


def module_of(name: str) -> str:
    """The module that a backend's name leads to."""
    if name in {module.name for module in pkgutil.iter_modules(__path__)}:
        return f"backends.{name}"
    return next(point.module for point in entry_points(group=ENTRY_POINT_GROUP, name=name))


def installed(adapter: type[Backend]) -> tuple[dict[str, str], list[str]]:
    """Versions of the distributions that an adapter requires, and those that are missing here."""
    versions: dict[str, str] = {}
    missing: list[str] = []
    for alternatives in adapter.REQUIRES:
        found = {name: found for name in alternatives if (found := _version(name)) is not None}
        versions |= found
        if not found:
            missing.append(" or ".join(alternatives))
    return versions, missing


def missing_packages(adapter: type[Backend], missing: list[str]) -> str:
    """What is missing and the command that adds it."""
    what = f"'evenbench[{adapter.EXTRA}]'" if adapter.EXTRA else " ".join(name.split(" or ")[0] for name in missing)
    return f"not installed: {', '.join(missing)}; pip install {what}"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None

"""Packages that an export needs, which are optional extras."""

from __future__ import annotations

import importlib
from typing import Any

from bench.errors import UsageError


def package(name: str, extra: str) -> Any:
    """The module of this name.

    Raises:
        UsageError: its package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or name
        raise UsageError(f"{missing} is not installed; pip install 'evenbench[{extra}]'") from error

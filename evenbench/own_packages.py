"""Find ``bench``, ``backends`` and ``reports`` of this installation, also where the user's folder has such names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

NAMES = ("bench", "backends", "reports")
ROOT = Path(__file__).parents[1]


class OwnPackages(MetaPathFinder):
    """Finds our packages in their own folder, whatever ``sys.path`` says."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Of our three packages; None for all others."""
        return PathFinder.find_spec(fullname, [str(ROOT)]) if fullname in NAMES else None


def prefer() -> None:
    """Import our packages before others of the same names; for a process that is ours alone."""
    sys.meta_path.insert(0, OwnPackages())


def hidden_by() -> str | None:
    """What hides one of our packages in this process, such as ``bench.py``; None: nothing does."""
    for name in NAMES:
        loaded = sys.modules.get(name)
        spec = find_spec(name) if loaded is None else loaded.__spec__
        origin = None if spec is None or spec.origin is None else Path(spec.origin)
        if origin != ROOT / name / "__init__.py":
            return str(origin or f"a folder {name}/")
    return None

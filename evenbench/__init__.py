"""evenbench from Python: ``run``, ``check`` and ``load``.

    import evenbench

    result = evenbench.run(backend="pytorch,keras", rounds=6)
    result                                    # the report's tables, in a notebook
    result.figures.to_pandas()                # a pyarrow.Table: a row for every figure

    evenbench.check(against="torch==2.13.0").verdict
    evenbench.load(backend="pytorch", since="30d").figures

Options are those of the command line (docs/commands.md), as keywords: ``--batch-size 8,32`` is ``batch_size=[8, 32]``.
Errors are those of the command line: ``BenchError``, and ``UsageError`` for what the caller can put right.

This package also has the entry points: the command ``bench`` and the pytest plug-in. What they start is in ``bench``,
``backends`` and ``reports``, names that many projects use as well. Importing it imports none of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.errors import BenchError, UsageError
    from evenbench.api import check, load, run
    from evenbench.results import CheckResult, History, RunResult

__all__ = ["BenchError", "CheckResult", "History", "RunResult", "UsageError", "check", "load", "run"]

_PLACES = {
    "run": "evenbench.api",
    "check": "evenbench.api",
    "load": "evenbench.api",
    "RunResult": "evenbench.results",
    "CheckResult": "evenbench.results",
    "History": "evenbench.results",
    "BenchError": "bench.errors",
    "UsageError": "bench.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used.

    Raises:
        AttributeError: no public name.
        ImportError: a file or folder of the user's hides one of our packages.
    """
    if name not in _PLACES:
        raise AttributeError(f"module 'evenbench' has no attribute '{name}'")
    from importlib import import_module

    from evenbench import own_packages

    hiding = own_packages.hidden_by()
    if hiding is not None:
        raise ImportError(f"{hiding} hides a package of evenbench: rename it, or work in another folder")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Defaults do nothing: making an object, or calling a function without an argument, opens and writes no file."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for room in ("bench", "reports", "backends") for path in (ROOT / room).rglob("*.py"))
PURE = {"Path", "frozenset", "tuple"}
"""What may be called in the default of an argument: it is evaluated when the module is imported."""


def factories() -> dict[str, Callable[[], Any]]:
    """Every default factory of every dataclass of ours, by ``module.Class.field``."""
    found = {}
    for path in FILES:
        if path.name in ("__main__.py", "pytorch.py", "keras.py", "onnxruntime.py") or "migrations" in path.parts:
            continue
        module = importlib.import_module(
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        )
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__:
                for field in dataclasses.fields(kind):
                    if field.default_factory is not dataclasses.MISSING:
                        found[f"{module.__name__}.{name}.{field.name}"] = field.default_factory
    return found


def test_no_default_of_a_field_writes_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The progress of a run had ``default_factory=Store``: it opened, and migrated, the user's own history."""
    monkeypatch.chdir(tmp_path)
    for variable in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("BENCH_STORE", str(tmp_path / "history.db"))
    made = factories()
    assert len(made) > 20
    for name, factory in made.items():
        factory()
        assert list(tmp_path.iterdir()) == [], name


def calls_in_defaults(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
                found += [ast.unparse(part.func) for part in ast.walk(default) if isinstance(part, ast.Call)]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_default_of_an_argument_calls_anything(path: Path) -> None:
    assert set(calls_in_defaults(path)) <= PURE


def test_progress_needs_a_store() -> None:
    from bench.runner.progress import CheckProgress, RunProgress

    for progress in (RunProgress, CheckProgress):
        with pytest.raises(TypeError, match="store"):
            progress()

"""What adapters say of themselves: the parent reads it, and runs no third-party code."""

from __future__ import annotations

import builtins
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import backends
from backends import description
from backends.description import Description
from bench.machine import installed

PLAIN = json.loads(json.dumps(asdict(Description.of(backends.load("pytorch"))), default=sorted))


def test_a_description_survives_being_written() -> None:
    assert Description.from_dict(PLAIN) == backends.describe("pytorch")


@pytest.mark.parametrize(
    "spoil",
    [
        {"TASKS": "infer"},
        {"MODES": []},
        {"PRECISIONS": [1]},
        {"MORE": 1},
        {"TOLERANCES": 3},
        {"REQUIRES": 3},
        {"READS": "onnx"},
        {"WRITES": [1]},
    ],
)
def test_another_shape_is_refused(spoil: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Description.from_dict({**PLAIN, **spoil})


ADAPTER = """
import builtins
builtins.was_here = True
from backends.reference import Adapter as Reference
class Adapter(Reference):
    MODES = ("other",)
"""


def register(folder: Path, monkeypatch: pytest.MonkeyPatch, modules: dict[str, str], points: dict[str, str]) -> None:
    """Third-party packages: files by name, and entry points by backend (a package each)."""
    for name, content in modules.items():
        (folder / f"{name}.py").write_text(content)
    for number, (name, target) in enumerate(points.items()):
        info = folder / f"theirs{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: theirs{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[evenbench.backends]\n{name.strip()} = {target}\n")
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.usefixtures("process")
def test_one_that_cannot_be_imported_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever means: an exception, an exit, a crash, an import that does not end, output of its own."""
    modules = {
        "right": ADAPTER,
        "exits": "raise SystemExit(3)",
        "crashes": "import os, sys\nprint('it broke', file=sys.stderr, flush=True)\nos._exit(9)",
        "hangs": "import time\ntime.sleep(60)",
        "prints": "print('hello')\n" + ADAPTER,
    }
    register(tmp_path, monkeypatch, modules, {name: f"{name}:Adapter" for name in modules})
    monkeypatch.setattr(description, "SECONDS", 1.5)
    assert backends.describe("right").MODES == backends.describe("prints").MODES == ("other",)
    for name, told in {
        "exits": "SystemExit: 3",
        "crashes": "its import ended the process with exit code 9: it broke",
        "hangs": "its import takes longer than 1.5 s",
    }.items():
        with pytest.raises(ImportError, match=told):
            backends.describe(name)
    problems = {entry.name: entry.problem for entry in installed.backends()}
    assert problems["hangs"].startswith("cannot be imported: its import takes longer")
    assert problems["right"] == ""


@pytest.mark.usefixtures("process")
def test_names_that_are_taken_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"pytorch": "right:Adapter", "twice": "right:Adapter", "twice ": "right:Other"}
    register(tmp_path, monkeypatch, {"right": ADAPTER}, points)
    assert backends.load("pytorch").__module__ == "backends.pytorch"
    with pytest.raises(ImportError, match=r"two packages register it \(right:Adapter, right:Other\); uninstall one"):
        backends.describe("twice")
    problems = {entry.name: entry.problem for entry in installed.backends()}
    assert problems["pytorch (right:Adapter)"] == "the name is that of a built-in backend: it is ignored"


@pytest.mark.usefixtures("process")
def test_a_third_partys_code_does_not_run_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[evenbench.backends]\ntheirs = theirs_adapter:Adapter\nbroken = no_such_module:Adapter\n"
    )
    (tmp_path / "theirs_adapter.py").write_text(ADAPTER)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert backends.names()[-2:] == ["broken", "theirs"]
    described = backends.describe("theirs")
    assert described.MODES == ("other",)
    assert described.TASKS == backends.describe("reference").TASKS
    assert "theirs_adapter" not in sys.modules
    assert not hasattr(builtins, "was_here")
    with pytest.raises(ImportError, match="ModuleNotFoundError: No module named 'no_such_module'"):
        backends.describe("broken")

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
from backends.description import Description

PLAIN = json.loads(json.dumps(asdict(Description.of(backends.load("pytorch"))), default=sorted))


def test_a_description_survives_being_written() -> None:
    assert Description.from_dict(PLAIN) == backends.describe("pytorch")


@pytest.mark.parametrize(
    "spoil", [{"TASKS": "infer"}, {"MODES": []}, {"PRECISIONS": [1]}, {"MORE": 1}, {"TOLERANCES": 3}, {"REQUIRES": 3}]
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

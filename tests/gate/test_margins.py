"""Margins: defaults, overridden by the project's TOML, a file, and flags, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.gate import margins
from bench.gate.gated_metric import MARGINS


def test_later_sources_override_earlier_ones(tmp_path: Path) -> None:
    project, file = tmp_path / "pyproject.toml", tmp_path / "gate.toml"
    assert margins.read([], None, project) == MARGINS
    project.write_text("[tool.evenbench.margins]\nthroughput = '2%'\nmemory = 0.03\n")
    file.write_text("[margins]\nmemory = '4%'\nlatency = '5%'\n")
    read = margins.read(["latency=6%"], file, project)
    assert read == {"throughput": 0.02, "memory": 0.04, "latency": 0.06, "accuracy": MARGINS["accuracy"]}


def test_a_project_without_the_table_changes_nothing(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\nname = 'x'\n")
    assert margins.read([], None, project) == MARGINS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[margins", "not TOML"),
        ("[margins]\nspeed = '1%'", "no margin 'speed'; one of throughput"),
        ("[margins]\nthroughput = 'some'", "not a percentage such as 2%"),
        ("margins = 3", "margins is not a table"),
    ],
)
def test_an_invalid_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        margins.read([], file, tmp_path / "none.toml")

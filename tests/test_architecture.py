"""The house: import rules, and nothing outside an adapter that asks for a backend's name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import backends

ROOT = Path(__file__).parents[1]
OUTSIDE = sorted([*(ROOT / "bench").rglob("*.py"), *(ROOT / "reports").rglob("*.py")])


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("lint-imports", ["--no-cache"]),
        ("ruff", ["check", "--no-cache", "."]),
        ("ruff", ["format", "--no-cache", "--check", "."]),
        ("mypy", []),
    ],
    ids=["import rules", "ruff check", "ruff format", "mypy"],
)
def test_checkers_are_content(tool: str, arguments: list[str]) -> None:
    command = [str(Path(sys.executable).parent / tool), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_asks_for_a_backends_name(path: Path) -> None:
    names = "|".join(backends.names())
    asks = re.findall(rf"(?:[!=]=|\bin\b)\s*\(?\s*[\"'](?:{names})[\"']|case [\"'](?:{names})[\"']", path.read_text())
    assert asks == []


@pytest.mark.parametrize("path", [*OUTSIDE, *sorted((ROOT / "backends").glob("*.py"))], ids=lambda path: path.name)
def test_nothing_is_unpickled(path: Path) -> None:
    assert not re.search(r"\bimport pickle|allow_pickle=True|(?<![.\w])(?:eval|exec)\(|yaml\.load\(", path.read_text())


def test_readme_has_the_two_commands() -> None:
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python -m venv")]
    assert commands == [
        'python -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[all]"'
        " && .venv/bin/bench run --backend all",
        'python -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[all,dev]"'
        ' && .venv/bin/python -m pytest -n 2 -m "not alone and not long"'
        ' && .venv/bin/python -m pytest -m "alone and not long"',
    ]

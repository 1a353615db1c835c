"""The house: import rules, and nothing outside an adapter that asks for a backend's name."""

from __future__ import annotations

import multiprocessing
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bench_command import Bench

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
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_asks_for_a_backends_name(path: Path) -> None:
    names = "|".join(backends.names())
    asks = re.findall(rf"(?:[!=]=|\bin\b)\s*\(?\s*[\"'](?:{names})[\"']|case [\"'](?:{names})[\"']", path.read_text())
    assert asks == []


@pytest.mark.parametrize("path", [*OUTSIDE, *sorted((ROOT / "backends").glob("*.py"))], ids=lambda path: path.name)
def test_nothing_is_unpickled(path: Path) -> None:
    assert not re.search(r"\bimport pickle|allow_pickle=True|(?<![.\w])(?:eval|exec)\(|yaml\.load\(", path.read_text())


def test_a_fixture_that_starts_a_process_makes_its_test_e2e(request: pytest.FixtureRequest, bench: Bench) -> None:
    assert request.node.get_closest_marker("e2e") is not None


@pytest.mark.parametrize(
    "start",
    [
        lambda: subprocess.run([sys.executable, "--version"], check=True),
        lambda: multiprocessing.Process(target=print).start(),
        lambda: listen(),
    ],
    ids=["subprocess", "multiprocessing", "server"],
)
def test_what_starts_a_process_otherwise_fails(request: pytest.FixtureRequest, start: Callable[[], object]) -> None:
    assert request.node.get_closest_marker("e2e") is None
    with pytest.raises(pytest.fail.Exception, match="request the fixture 'process'"):
        start()


def listen() -> None:
    with socket.socket() as server:
        server.listen()


def test_no_test_is_marked_e2e_by_hand() -> None:
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    assert [path for path in files if "mark.e2e" in path.read_text()] == []


def test_readme_has_the_two_commands() -> None:
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python -m venv")]
    assert commands == [
        'python -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[all]"'
        " && .venv/bin/bench run --backend all",
        'python -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[all,dev]"'
        ' && .venv/bin/python -m pytest -n 2 -m "not alone and not long"'
        ' && .venv/bin/python -m pytest -m "alone and not long"',
    ]

"""An error is exit code 2, never 1; output costs no result."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from bench.cli import main as command_line
from bench.errors import BenchError, UsageError

FAULTY = "import sys, typer; from bench.cli import main as m; m.app.command('try')(lambda: {body}); m.main()"


def ended(
    body: str, *, encoding: str | None = None, stdout: Any = subprocess.PIPE, before: Callable[[], None] | None = None
) -> tuple[int, bytes, str]:
    """Exit code and both outputs of a command whose body is this expression."""
    environment = {name: value for name, value in os.environ.items() if name != command_line.TRACEBACK}
    environment |= {} if encoding is None else {"PYTHONIOENCODING": encoding}
    arguments = [sys.executable, "-c", FAULTY.format(body=body), "try"]
    process = subprocess.Popen(arguments, stdout=stdout, stderr=subprocess.PIPE, env=environment, preexec_fn=before)
    out, err = process.communicate(timeout=300)
    return process.returncode, out or b"", err.decode()


def test_every_error_of_ours_is_2() -> None:
    assert (BenchError.exit_code, UsageError.exit_code) == (2, 2)


@pytest.mark.parametrize("body", ["1 / 0", "{}['row']", "open('/no/such/file')", "'ü'.encode('ascii')"])
def test_an_unexpected_error_is_one_line_and_2(process: None, body: str) -> None:
    code, _, err = ended(body)
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith("bench: ")
    assert command_line.TRACEBACK in err


def test_a_verdict_keeps_its_code(process: None) -> None:
    assert ended("sys.exit(1)")[0] == 1


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_character_that_the_encoding_lacks_is_replaced(process: None, encoding: str) -> None:
    code, out, err = ended("print('a \\u2713 b')", encoding=encoding)
    assert (code, out.strip(), err) == (0, b"a ? b", "")


def test_html_is_utf8_in_any_locale(process: None) -> None:
    body = "__import__('reports.render.terminal').render.terminal.as_utf8() or print('\\u2713')"
    code, out, _ = ended(body, encoding="ascii")
    assert (code, out.decode("utf-8").strip()) == (0, "\u2713")


@pytest.mark.parametrize("verdict", [0, 1])
def test_a_full_output_is_one_line_and_2(process: None, verdict: int) -> None:
    with open("/dev/full", "wb") as full:
        code, _, err = ended(f"(print('table'), sys.exit({verdict}))", stdout=full)
    assert (code, err.count("\n")) == (2, 1), err


def test_a_closed_pipe_is_one_line_and_2(process: None) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code, _, err = ended("print('table')", stdout=writing)
    os.close(writing)
    assert (code, err.count("\n")) == (2, 1), err
    assert "stored" in err


def test_an_output_closed_at_the_start_is_one_line_and_2(process: None) -> None:
    code, _, err = ended("print('table')", before=lambda: os.close(1))
    assert (code, err.count("\n")) == (2, 1), err


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",)])
def test_what_is_printed_before_a_command_begins_meets_a_full_output_too(process: None, arguments: tuple[str]) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-P", "-m", "bench.cli", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",), ("list",)])
def test_whoever_prints_a_closed_pipe_is_2(process: None, arguments: tuple[str]) -> None:
    """Rich and Typer each end a process with 1 on a closed pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-P", "-m", "bench.cli", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=300, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "the output was closed" in done.stderr

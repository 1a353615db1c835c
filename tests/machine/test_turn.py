"""One timed command at a time: who waits is told for whom, and the turn ends with its holder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from bench_command import QUICK, Bench

from bench.machine import turn
from bench.machine.turn import HELD, NO_LOCK

HOLDS = """
import sys, time
from pathlib import Path
from bench.machine import turn

turn.FILE = Path(sys.argv[1])
with turn.taken(True, lambda line: print(line, file=sys.stderr, flush=True)) as found:
    print(found.state, flush=True)
    sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="flock is of POSIX")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(NO_LOCK, raising=False)
    monkeypatch.setattr(turn, "FILE", tmp_path / "turn")
    return tmp_path / "turn"


def holder(file: Path) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {name: value for name, value in os.environ.items() if name != NO_LOCK}
    return subprocess.Popen([sys.executable, "-c", HOLDS, str(file)], text=True, env=environment, **pipes)  # type: ignore[call-overload,no-any-return]


def never(line: str) -> None:
    pytest.fail(f"nobody has the turn: {line}")


def test_the_first_does_not_wait(file: Path) -> None:
    for _ in range(2):
        with turn.taken(True, never) as found:
            assert (found.state, found.waited) == (HELD, 0.0)
            assert file.read_text().startswith(f"process {os.getpid()} of ")
    assert file.stat().st_mode & 0o777 == 0o666, "other users take turns too"


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("end", [lambda first: first.stdin.close(), lambda first: first.send_signal(signal.SIGKILL)])
def test_the_second_waits_until_the_first_ends(file: Path, end: Callable[[subprocess.Popen[str]], object]) -> None:
    with holder(file) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == f"{HELD}\n"
        with holder(file) as second:
            assert second.stderr is not None
            assert second.stdout is not None
            assert second.stderr.readline().startswith(f"waiting for process {first.pid} of ")
            before = psutil.Process(second.pid).cpu_times()
            time.sleep(0.3)
            assert psutil.Process(second.pid).cpu_times() == before, "who waits uses no CPU time"
            end(first)
            assert second.stdout.readline() == f"{HELD}\n"
            assert second.stdin is not None
            second.stdin.close()
        first.wait()


def test_who_does_not_want_to_wait_does_not(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with turn.taken(True, never), turn.taken(False, never) as found:
        assert found.state == "not waited for (--no-lock)"
    monkeypatch.setenv(NO_LOCK, "1")
    with turn.taken(True, never), turn.taken(True, never) as found:
        assert found.state == f"not waited for ({NO_LOCK})"


def test_a_link_is_not_followed(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "precious"
    other.write_text("precious")
    file.symlink_to(other)
    with turn.taken(True, never) as found:
        assert found.state.startswith(f"not known: {file}: ")
    assert other.read_text() == "precious"


def test_what_a_holder_says_is_text(file: Path) -> None:
    file.write_bytes(b"\x1b[31mprocess\xff\n" + b"x" * 1000)
    told: list[str] = []
    with file.open() as opened:
        import fcntl

        fcntl.flock(opened, fcntl.LOCK_EX)
        turn_of_other = turn.taken(True, told.append)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(turn.fcntl, "flock", only_try(fcntl.flock))
            with turn_of_other as found:
                assert found.state == HELD
    (line,) = told
    assert line.startswith("waiting for [31mprocess")
    assert "\x1b" not in line
    assert len(line) < 300


def only_try(flock: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """As if the other ended at once."""
    import fcntl

    return lambda file, how: flock(file, how) if how & fcntl.LOCK_NB else None


def test_a_run_that_did_not_wait_says_so(bench: Bench) -> None:
    done = bench("run", *QUICK, "--backend", "reference", "--task", "infer", "--no-lock")
    assert done.returncode == 0, done.stdout + done.stderr
    told = "other timed commands on this machine were not waited for (--no-lock): one may have spoiled this"
    assert told in done.stdout
    timing = json.loads(bench("export", "--format", "json").stdout)["timing"]
    assert timing["turn"] == "not waited for (--no-lock)"

"""No process is left, and no two commands are timed at once, however they end and begin."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_command import Bench
from conftest import PostgreSQL
from fakes.registry import KNOWN, RUDE

from bench.machine.turn import NO_LOCK
from bench.store.store import Store

JOB = ("run", "--workload", "article-pytorch/digits/article-keras", "--threads", "1", "--task", "infer")
JOB += ("--batch-size", "4", "--rounds", "1", "--set", "epochs=1")


def started(bench: Bench, *arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        bench.command(*arguments), stdout=pipe, stderr=pipe, text=True, env=bench.environment, cwd=bench.folder
    )


@pytest.fixture
def hanging(bench: Bench) -> Bench:
    bench.register({"hangs": RUDE["hangs"]})
    return bench


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.3])
def test_a_second_ctrl_c_leaves_nothing(hanging: Bench, pause: float) -> None:
    process = started(hanging, *JOB, "--backend", "hangs,reference")
    assert process.stderr is not None
    assert any(": measure" in line for line in process.stderr)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    time.sleep(pause)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode in (130, -signal.SIGINT), err
    assert "Traceback" not in out + err
    assert hanging.left() == []
    assert "hangs" in [record.job.backend for record in Store(str(hanging.store)).load().records]


def test_a_terminal_that_is_closed_takes_everything_along(hanging: Bench) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(hanging.folder)
        command = hanging.command(*JOB, "--backend", "hangs,reference")
        os.execve(command[0], command, hanging.environment)
    shown = b""
    while b"measure" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    os.waitpid(child, 0)
    assert hanging.left() == []
    assert "stopped early" in hanging("history").stdout


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_a_parent_that_is_ended_takes_the_helpers_of_its_workers_along(bench: Bench, name: str) -> None:
    """A helper in a session of its own."""
    bench.register({"helper": "evenbench_faulty:Helper"})
    process = started(bench, *JOB, "--backend", "helper", "--cpus", "0")
    assert process.stderr is not None
    assert any("infer throughput" in line for line in process.stderr)
    process.send_signal(getattr(signal, name))
    process.communicate(timeout=300)
    assert bench.left() == []


STAMPS = """
import os, time
from pathlib import Path
from evenbench_wrong import Right

class Adapter(Right):
    def forward(self, x):
        begin = time.monotonic()
        y = super().forward(x)
        with (Path(os.environ["STAMPS"]) / os.environ["WHOSE"]).open("a") as file:
            file.write(f"{begin} {time.monotonic()}\\n")
        return y
"""


def two_at_a_time(bench: Bench, number: int) -> None:
    """Start two at once; every call of the one is before every call of the other."""
    stamps = bench.folder / f"stamps-{number}"
    stamps.mkdir()
    bench.environment["STAMPS"] = str(stamps)
    processes = []
    for whose in ("a", "b"):
        bench.environment["WHOSE"] = whose
        processes.append(started(bench, *JOB, "--backend", "stamps"))
    told = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert sum("bench: waiting for process" in err for err in told) == 1
    spans = [[float(word) for word in (stamps / whose).read_text().split()] for whose in ("a", "b")]
    first, second = sorted((min(span), max(span)) for span in spans)
    assert first[1] < second[0]


@pytest.fixture
def taking_turns(bench: Bench) -> Bench:
    folder = bench.folder / "adapters"
    folder.mkdir()
    (folder / "evenbench_stamps.py").write_text(STAMPS)
    bench.register({"stamps": "evenbench_stamps:Adapter"})
    bench.environment["PYTHONPATH"] += os.pathsep + str(folder)
    del bench.environment[NO_LOCK]
    return bench


@pytest.mark.alone
def test_two_at_a_time_take_turns(taking_turns: Bench) -> None:
    two_at_a_time(taking_turns, 0)


@pytest.mark.long
def test_ten_pairs_take_turns(taking_turns: Bench) -> None:
    for number in range(10):
        two_at_a_time(taking_turns, number)


@pytest.fixture
def server(postgresql_programs: Path) -> Iterator[PostgreSQL]:
    own = PostgreSQL(postgresql_programs)
    own.start()
    yield own
    own.stop()
    own.remove()


def test_a_database_that_is_away_for_a_while_loses_nothing(bench: Bench, server: PostgreSQL) -> None:
    """It is stopped when the rounds begin, and started again before they end."""
    bench.register({"constant": KNOWN["constant"]})
    process = started(bench, *JOB, "--backend", "constant", "--rounds", "3", "--store", server.url)
    assert process.stderr is not None
    assert any("measure 1/3" in line for line in process.stderr)
    server.stop()
    seen = []
    for line in process.stderr:
        seen.append(line)
        if "measure 3/3" in line:
            break
    server.start()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    assert sum("cannot write to the store" in line for line in [*seen, *err.splitlines()]) == 1, "one line"
    assert "Traceback" not in out + err
    (record,) = Store(server.url).load().records
    assert record.comparable
    assert len([phase for phase in record.phases if phase.kind == "measure"]) == 3


def test_a_database_that_stays_away_is_an_error_and_the_run_goes_on_later(bench: Bench, server: PostgreSQL) -> None:
    bench.register({"constant": KNOWN["constant"]})
    process = started(bench, *JOB, "--backend", "constant", "--rounds", "2", "--store", server.url)
    assert process.stderr is not None
    assert any("measure 2/2" in line for line in process.stderr)
    server.stop()
    out, err = process.communicate(timeout=300)
    server.start()
    assert process.returncode == 2, out + err
    assert "no store: cannot write to the store" in out
    done = bench("run", "--store", server.url, "--resume")
    assert done.returncode == 0, done.stderr
    assert Store(server.url).load().records[0].comparable


def test_a_store_that_another_holds_is_waited_for(bench: Bench) -> None:
    bench.register({"constant": KNOWN["constant"]})
    store = Store(str(bench.store))
    process = started(bench, *JOB, "--backend", "constant")
    assert process.stderr is not None
    assert any("certify" in line for line in process.stderr)
    with store.writing():
        time.sleep(3)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err

"""Every way to break, in every phase of a worker: it costs its own row, and one line (docs/reliability.md).

All ways stand beside an honest row in one run for each phase. Two phases here, ``-m long`` has all.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_command import Bench
from fakes.registry import RIGHT

Record = dict[str, Any]
PHASE = "BREAKS_IN"
"""Environment variable of ``evenbench_breaks``, which has the ways themselves."""
PHASES = ("import", "build", "certify", "fit", "export", "warm-up", "timed", "finish")
DISK = ("disk-full", "read-only", "no-scratch")
"""These break the whole run's scratch."""

COMES_TO = {
    "segfault": ("crashed", "signal SIGSEGV during"),
    "killed": ("crashed", "signal SIGKILL during"),
    "stopped": ("timeout", "no answer to"),
    "raises": ("failed", "RuntimeError: upside down"),
    "hangs": ("timeout", "no answer to"),
    "prints": ("crashed", "it printed more than 20 MB (--disk)"),
    "threads": ("failed", "can't start new thread"),
    "allocates": ("out-of-memory", "refused by --memory (RLIMIT_DATA) at a peak of"),
    "exits": ("crashed", "exit code 0 during"),
    "half-a-reply": ("failed", "is garbage: '{"),
    "another-reply": ("failed", "is invalid: "),
    "clock-jump": ("failed", "self-check clock: "),
    "nan": ("ok", ""),
}
"""By way: the row's status, and what its error says."""
CAUGHT = ("raises", "prints", "threads", "allocates")
"""An export that raises is a missing file, with the reason; the row goes on."""
HARMLESS = {("nan", phase) for phase in ("import", "build", "export", "warm-up", "finish")}
"""Nothing is taken from there."""


def register(bench: Bench, ways: list[str]) -> None:
    """A module per way, and an honest adapter."""
    folder = bench.folder / "ways"
    folder.mkdir()
    adapters = {}
    for way in ways:
        module = f"breaks_{way.replace('-', '_')}"
        (folder / f"{module}.py").write_text(f"from evenbench_breaks import breaking\n\nAdapter = breaking({way!r})\n")
        adapters[way] = f"{module}:Adapter"
    bench.register(adapters | RIGHT)
    bench.environment["PYTHONPATH"] += os.pathsep + str(folder)


JOB = ("--task", "infer", "--set", "epochs=1", "--timeout", "4")


def comes_to(way: str, phase: str) -> tuple[str, str]:
    if (way, phase) in HARMLESS or (phase == "export" and way in CAUGHT):
        return "ok", ""
    if (way, phase) == ("nan", "fit"):
        return "failed", "logits are not finite"
    return COMES_TO[way]


@pytest.fixture(scope="module")
def broken_in(bench_named: Callable[[str], Bench]) -> Callable[[str], dict[str, Record]]:
    """The records of a run whose workers break in a phase, by way."""
    known: dict[str, dict[str, Record]] = {}

    def run(phase: str) -> dict[str, Record]:
        if phase not in known:
            bench = bench_named(f"breaks-{phase}")
            register(bench, list(COMES_TO))
            bench.environment[PHASE] = phase
            names = ",".join([*RIGHT, *COMES_TO])
            records = bench.run(*JOB, "--memory", "1GB", "--disk", "20MB", "--backend", names, code=1, timeout=590)
            assert bench.left() == []
            known[phase] = {record["job"]["backend"]: record for record in records}
        return known[phase]

    return run


def look_at(record: Record, way: str, phase: str) -> None:
    status, said = comes_to(way, phase)
    assert (record["status"], said in (record["error"] or "")) == (status, True), record["error"]
    assert "\n" not in (record["error"] or "")
    harmless = status == "ok" and (way, phase) in HARMLESS
    assert record["comparable"] == (harmless or (phase == "export" and way in CAUGHT and status == "ok"))
    if phase == "export" and way in CAUGHT:
        (export,) = (figure for figure in record["figures"] if figure["name"] == "export")
        assert export["value"] is None
        assert export["reason"], "the file is missing, for a reason"


def look_at_the_honest_row(records: dict[str, Record]) -> None:
    (honest,) = (records[name] for name in RIGHT)
    assert honest["comparable"], honest["error"]
    (throughput, *_) = (figure for figure in honest["figures"] if figure["name"] == "throughput")
    assert throughput["value"] > 0


@pytest.mark.parametrize("phase", ["certify", "timed"])
@pytest.mark.parametrize("way", COMES_TO)
def test_a_broken_worker_costs_its_own_row(broken_in: Callable[[str], dict[str, Record]], way: str, phase: str) -> None:
    look_at(broken_in(phase)[way], way, phase)
    look_at_the_honest_row(broken_in(phase))


@pytest.mark.long
@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase not in ("certify", "timed")])
@pytest.mark.parametrize("way", COMES_TO)
def test_in_every_other_phase(broken_in: Callable[[str], dict[str, Record]], way: str, phase: str) -> None:
    look_at(broken_in(phase)[way], way, phase)
    look_at_the_honest_row(broken_in(phase))


@pytest.fixture
def small_disk(process: None, bench: Bench) -> Iterator[Bench]:
    """``bench`` with its scratch on a file system of 100 MB."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("mounting a small file system needs root on Linux")
    folder = bench.folder / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(folder)], check=True)
    bench.environment["TMPDIR"] = str(folder)
    register(bench, list(DISK))
    yield bench
    while subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode == 0:
        pass  # what was mounted over it goes first


def lose_the_disk(bench: Bench, way: str, phase: str) -> None:
    """The run ends with a line, its store is sound, and it goes on when the disk is back."""
    bench.environment[PHASE] = phase
    names = ",".join([way, *RIGHT])
    done = bench("run", "--model", "article-pytorch", "--rounds", "1", "--threads", "1", *JOB, "--backend", names)
    told = done.stdout + done.stderr
    assert "Traceback" not in told
    if done.returncode == 0:  # nothing more had to be written
        assert all(record["comparable"] for record in bench.records())
        return
    assert done.returncode in (1, 2), done.stderr
    assert re.search(r"bench run --resume \S+ does what is missing", told), told
    assert re.search(
        r"is full: free some, or set TMPDIR|Read-only file system|No such file or directory|was removed", told
    )
    assert bench.left() == []
    assert bench("store", "check").returncode == 0
    del bench.environment["TMPDIR"]
    bench.environment[PHASE] = "none"
    again = bench("run", "--resume")
    assert again.returncode == 0, again.stderr
    assert all(record["comparable"] for record in bench.records())


@pytest.mark.parametrize(("way", "phase"), [("disk-full", "certify"), ("read-only", "fit"), ("no-scratch", "timed")])
def test_a_scratch_that_is_lost_costs_no_more_than_the_run(small_disk: Bench, way: str, phase: str) -> None:
    lose_the_disk(small_disk, way, phase)


@pytest.mark.long
@pytest.mark.parametrize("way", DISK)
@pytest.mark.parametrize("phase", PHASES)
def test_in_every_phase(small_disk: Bench, way: str, phase: str) -> None:
    if phase == "export":
        pytest.skip("an export that raises is a missing file; the other phases have the faults of the disk")
    lose_the_disk(small_disk, way, phase)


def test_the_documented_table_is_this_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)` \| [^|]+\| ([^|]+) \|", page, re.MULTILINE))
    assert set(rows) == set(COMES_TO) | set(DISK)
    for way, (status, _) in COMES_TO.items():
        assert status in rows[way] or (status, way) == ("ok", "nan")

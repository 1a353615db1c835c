"""A process tree as the kernel sees it: helpers that detach themselves are in it, with their time, memory and CPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.machine import process_tree

HELPER = "import os, time; x = bytearray(80_000_000); print(os.getpid(), flush=True); t = time.time()\n"
HELPER += "while time.time() - t < 1.0: pass\ntime.sleep(60)"
MIDDLE = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {HELPER!r}], start_new_session=True)"
PARENT = f"""\
import ctypes, subprocess, sys, time
ctypes.CDLL(None).prctl(36, 1)
subprocess.run([sys.executable, "-c", {MIDDLE!r}])
time.sleep(60)
"""


@pytest.fixture
def tree(process: None) -> Iterator[tuple[int, int]]:
    """A process and its helper, which a child that has ended started in a session of its own."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            yield parent.pid, int(parent.stdout.readline())
        finally:
            for pid in process_tree.descendants(parent.pid)[::-1]:
                os.kill(pid, 9)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
def test_a_detached_helper_is_in_the_tree(tree: tuple[int, int]) -> None:
    parent, helper = tree
    assert process_tree.descendants(parent) == [parent, helper]
    before = process_tree.cpu_seconds(parent)
    time.sleep(0.3)
    after = process_tree.cpu_seconds(parent)
    assert before is not None
    assert after is not None
    assert after - before > 0.05, "it keeps a core busy"
    peaks = process_tree.peaks(parent)
    assert peaks[helper] > 80_000_000 > peaks[parent]
    assert {thread.id.partition("/")[0] for thread in process_tree.threads(parent)} == {str(parent), str(helper)}
    everywhere = frozenset(os.sched_getaffinity(0))
    assert process_tree.strayed(parent, everywhere) == 0
    one = frozenset([min(everywhere)])
    os.sched_setaffinity(parent, one)
    assert process_tree.strayed(parent, one) == (1 if len(everywhere) > 1 else 0), "the helper stays where it was"


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    assert process_tree.descendants(1, tmp_path) == [1]
    assert process_tree.threads(1, tmp_path) == []
    assert process_tree.peaks(1, tmp_path) == {}
    assert process_tree.unmapped_shared(1, tmp_path) == 0


HOLDS = """
import mmap, os, sys
held = os.memfd_create("held")
os.write(held, bytes(50_000_000))
if sys.argv[1] == "mapped":
    mapped = mmap.mmap(held, 50_000_000)
    touched = mapped.read()
print("there", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memfd is Linux'")
@pytest.mark.usefixtures("process")
@pytest.mark.parametrize(("kind", "hidden"), [("unmapped", 50_000_000), ("mapped", 0)])
def test_shared_memory_that_nobody_maps_is_counted(kind: str, hidden: int) -> None:
    command = [sys.executable, "-c", HOLDS, kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "there\n"
        found = process_tree.unmapped_shared(holder.pid)
        assert holder.stdin is not None
        holder.stdin.close()
    assert hidden <= found <= hidden + 1_000_000

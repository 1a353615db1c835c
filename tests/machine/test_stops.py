"""A process that is stopped from outside notices it, without a handler in the code that is timed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
from bench.machine import stops
stops.watch()
import numpy, threading  # threads of BLAS inherit the mask
for line in iter(input, "end"):
    print(stops.stops(), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sigtimedwait and /proc are Linux's")
def test_stops_are_counted_once(process: None) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None

    def ask() -> str:
        child.stdin.write("ask\n")  # type: ignore[union-attr]
        child.stdin.flush()  # type: ignore[union-attr]
        return child.stdout.readline().strip()  # type: ignore[union-attr]

    assert ask() == "0"
    for _ in range(3):
        os.kill(child.pid, signal.SIGSTOP)
        while Path(f"/proc/{child.pid}/stat").read_text().split()[2] != "T":
            pass
        os.kill(child.pid, signal.SIGCONT)
    assert [ask(), ask()] == ["1", "0"]
    child.communicate("end\n", timeout=120)

"""Peak resident memory: a high-water mark, physical, of the whole tree. Each case in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("process")

MB = 10**6


def measure(code: str) -> list[int]:
    """The integers that a fresh process prints."""
    done = subprocess.run(
        [sys.executable, "-c", "import numpy as np\nfrom bench.machine import memory\n" + code],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return [int(word) for word in done.stdout.split()]


def test_peak_remembers_what_was_freed() -> None:
    before, after, current = measure(
        "before = memory.peak_rss(); block = np.ones(40_000_000); del block\n"
        "print(before, memory.peak_rss(), memory.current_rss())"
    )
    assert after - before > 300 * MB, "320 MB were resident"
    assert after - current > 250 * MB, "reading memory after the run would have missed them"


def test_address_space_is_not_memory() -> None:
    before, after = measure(
        "before = memory.peak_rss(); block = np.empty(1_000_000_000, np.uint8); print(before, memory.peak_rss())"
    )
    assert after - before < 50 * MB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its high-water mark")
def test_reset_opens_a_new_account() -> None:
    high, low = measure(
        "block = np.ones(40_000_000); del block; high = memory.peak_rss()\n"
        "assert memory.reset_peak_rss(); print(high, memory.peak_rss())"
    )
    assert high - low > 250 * MB


def test_children_count() -> None:
    alone, together = measure(
        "import subprocess, sys\nalone = memory.peak_rss()\n"
        "code = 'import numpy as np; block = np.ones(40_000_000); print(1, flush=True); input()'\n"
        "child = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(alone, memory.peak_rss()); child.communicate(b'\\n')"
    )
    assert together - alone > 300 * MB


def test_a_large_parent_does_not_count_in_its_child() -> None:
    # ru_maxrss is inherited across exec; VmHWM is not.
    (child,) = measure(
        "import subprocess, sys\nblock = np.ones(60_000_000)\n"
        "code = 'from bench.machine import memory; print(memory.peak_rss())'\n"
        "print(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout)"
    )
    assert child < 200 * MB

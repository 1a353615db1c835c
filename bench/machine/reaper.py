"""Ends what a command leaves behind, however the command ends, ``SIGKILL`` included: its workers and their helpers,
also those that left their process group.

A process of its own sleeps at the end of a pipe that only the command holds open. When the pipe closes, it kills every
process that was started with the command's number in its environment. Linux only: elsewhere a worker ends with its
pipe.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

PARENT = "EVENBENCH_PARENT"
"""Environment variable of workers, which their helpers inherit: the process id of the command."""
ROUNDS, PAUSE = 20, 0.05
"""It looks again until there is none, at most for a second: a helper may be starting another."""


@contextmanager
def watching() -> Iterator[None]:
    """Within this context, what this process starts for its work does not outlive it."""
    if sys.platform != "linux":
        yield
        return
    command = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
    null = subprocess.DEVNULL
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=null, stderr=null, env={}, cwd="/", start_new_session=True
    )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _marked(parent: str) -> list[int]:
    """Processes that a command's workers are or have started."""
    mark, found = f"{PARENT}={parent}".encode(), []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                marked = mark in file.read().split(b"\0")
        except OSError:
            continue  # it has ended, or is of another user
        if marked:
            found.append(int(name))
    return found


def _reap(parent: str) -> None:
    sys.stdin.buffer.read()
    for _ in range(ROUNDS):
        left = _marked(parent)
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue  # it has ended
        time.sleep(PAUSE)


if __name__ == "__main__":
    _reap(sys.argv[1])

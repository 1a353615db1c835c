"""``python -P -m bench.worker``: the pipes of a worker.

The worker reads requests from standard input and writes replies to the original standard output. Then standard input is
empty and standard output goes to standard error, so that nothing that a framework prints reaches the parent's pipe.
"""

from __future__ import annotations

import time

STARTED = time.monotonic()

from bench.machine import denormals, stops  # noqa: E402

stops.watch()
denormals.flush()  # before NumPy and frameworks start threads

import ctypes  # noqa: E402  (the clock above must start before anything heavy is imported)
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from bench.machine import limits  # noqa: E402
from bench.worker import group  # noqa: E402
from bench.worker.session import serve  # noqa: E402


def _has_ended(pid: str) -> bool:
    """Whether a process does not exist, or is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


def _die_with_parent() -> None:
    """Linux: end this process when its parent ends (prctl(2), PR_SET_PDEATHSIG). Elsewhere, end of file ends it.
    Helpers that detach themselves stay its children (PR_SET_CHILD_SUBREAPER): their time and memory count."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if _has_ended(os.environ["EVENBENCH_PARENT"]):
            os._exit(1)  # it ended before the call above


def _pin() -> None:
    """Pin this process to the CPUs that the parent names, before a framework is imported: its threads inherit them."""
    cpus = os.environ.get("EVENBENCH_CPUS")
    if cpus is not None:
        os.sched_setaffinity(0, [int(cpu) for cpu in cpus.split(",")])


def main() -> None:
    """Move the pipes away from standard input and output, then serve."""
    _die_with_parent()
    limits.enter(os.environ)
    _pin()
    if (joined := group.connect()) is not None:
        rank, requests, replies = joined
        serve(requests, replies, STARTED, rank)
        os._exit(0)
    requests, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "wb")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    serve(requests, replies, STARTED)
    replies.flush()
    os._exit(0)  # exit handlers of frameworks can hang or crash


if __name__ == "__main__":
    main()

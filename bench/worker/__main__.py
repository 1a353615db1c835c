"""``python -P -m bench.worker``: the pipes of a worker.

Requests come on standard input, replies go to what was standard output when the process began; after that both belong
to nobody, so that nothing a framework prints can reach the parent's pipe.
"""

from __future__ import annotations

import time

STARTED = time.monotonic()

import ctypes  # noqa: E402  (the clock above must start before anything heavy is imported)
import os  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from bench.worker.session import serve  # noqa: E402


def _has_ended(pid: str) -> bool:
    """Whether a process is gone, or a zombie that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


def _die_with_parent() -> None:
    """Linux: be killed when the parent is (prctl(2), PR_SET_PDEATHSIG); elsewhere end of file ends the process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if _has_ended(os.environ["EVENBENCH_PARENT"]):
            os._exit(1)  # before the line above


def _pin() -> None:
    """To the CPUs that the parent names; before a framework is imported, whose threads inherit it."""
    cpus = os.environ.get("EVENBENCH_CPUS")
    if cpus is not None:
        os.sched_setaffinity(0, [int(cpu) for cpu in cpus.split(",")])


def main() -> None:
    """Take the pipes for ourselves, then serve."""
    _die_with_parent()
    _pin()
    requests, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    serve(requests, replies, STARTED)
    replies.flush()
    os._exit(0)  # frameworks' exit handlers can hang or crash after all is said


if __name__ == "__main__":
    main()

"""Whether this process was stopped from outside (SIGSTOP, as cpulimit and job control send it) and went on.

SIGCONT continues a process even where it is blocked, and then stays pending: nothing runs and nothing polls meanwhile.
"""

from __future__ import annotations

import signal

_VISIBLE = hasattr(signal, "sigtimedwait")
"""Linux; not macOS or Windows."""


def watch() -> None:
    """Keep SIGCONT pending in this thread and in those that it starts: call it before any other thread exists."""
    if _VISIBLE:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT})


def stops() -> int | None:
    """1 if the process was stopped since the last call, else 0; None where it is not visible."""
    if not _VISIBLE:
        return None
    return int(signal.sigtimedwait({signal.SIGCONT}, 0) is not None)

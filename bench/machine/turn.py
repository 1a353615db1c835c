"""One timed command at a time on a machine: two would spoil the figures of both.

The turn is a lock of the kernel's on a file that all users share (flock(2)). It ends with the process that holds it,
however that ends. Who waits sleeps in the kernel: nothing polls beside what is timed.
"""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NO_LOCK = "BENCH_NO_LOCK"
"""Environment variable: if set, no command waits for another."""
FILE = Path("/tmp/evenbench-turn")  # noqa: S108  (opened without following links; its content is shown, not used)
"""Of the machine, not of a user: ``TMPDIR`` does not move it. Containers with a /tmp of their own do not share it."""
LONGEST_NOTE = 200
"""Characters of what the holder says of itself."""
HELD = "held"


@dataclass(frozen=True)
class Turn:
    """Whether a command has the machine for itself, as far as timed commands go."""

    state: str
    """``held``, or why not."""
    waited: float = 0.0
    """Seconds of waiting for others."""


@contextmanager
def taken(wanted: bool, tell: Callable[[str], None]) -> Iterator[Turn]:
    """Wait for the turn, and keep it within this context. ``wanted`` False: do not wait. ``tell`` gets one line if
    another command has the turn."""
    if not wanted or os.environ.get(NO_LOCK):
        yield Turn("not waited for (--no-lock)" if not wanted else f"not waited for ({NO_LOCK})")
        return
    try:
        file = _open()
    except OSError as error:
        yield Turn(f"not known: {FILE}: {error.strerror}")
        return
    if file is None:
        yield Turn("not known on this system")
        return
    try:
        waited = _wait(file, tell)
        _sign(file)
        yield Turn(HELD, waited)
    finally:
        os.close(file)  # and the kernel passes the turn on


def _open() -> int | None:
    """The file's descriptor; None: this system has no such locks. No link is followed: any user may put one there."""
    if fcntl is None:
        return None
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o666)
        os.fchmod(file, 0o666)  # whatever the umask is
        return file
    except FileExistsError:
        pass
    try:
        return os.open(FILE, os.O_RDWR | flags)
    except PermissionError:
        return os.open(FILE, os.O_RDONLY | flags)  # enough for a lock


def _wait(file: int, tell: Callable[[str], None]) -> float:
    begin = time.monotonic()
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return 0.0
    except BlockingIOError:
        note = os.pread(file, LONGEST_NOTE, 0).decode("utf-8", "replace")
    holder = "".join(letter for letter in note if letter.isprintable()) or "another timed command"
    tell(f"waiting for {holder} to end: two at a time spoil both; --no-lock does not wait")
    fcntl.flock(file, fcntl.LOCK_EX)
    return time.monotonic() - begin


def _sign(file: int) -> None:
    """Say who has the turn, for those who wait."""
    text = f"process {os.getpid()} of {getpass.getuser()}, since {time.strftime('%H:%M')}"
    try:
        os.truncate(file, 0)
        os.pwrite(file, text.encode()[:LONGEST_NOTE], 0)
    except OSError:
        return  # it is another user's, and can be locked but not written

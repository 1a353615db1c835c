"""A process and its descendants as the kernel sees them, from ``/proc``: read by the parent, out of the worker's reach.

A worker is the "subreaper" of its tree (prctl(2)): a helper that detaches itself stays its descendant.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True)
class Thread:
    """One thread of the tree."""

    id: str
    """``PID/TID``."""
    ran: float
    """Seconds on a CPU."""
    waited: float
    """Seconds in which it was ready to run but waited for a CPU."""


def descendants(pid: int, root: Path = ROOT) -> list[int]:
    """The process and its living descendants (proc(5), ``task/TID/children``)."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for listing in (root / f"proc/{one}/task").glob("*/children"):
            waiting += [int(child) for child in _read(listing).split()]
    return found


def threads(pid: int, root: Path = ROOT) -> list[Thread]:
    """All threads of the tree (Documentation/scheduler/sched-stats.rst, ``/proc/PID/schedstat``); empty: not visible
    here."""
    found = []
    for process in descendants(pid, root):
        for task in _tasks(process, root):
            numbers = _read(task / "schedstat").split()
            if len(numbers) == 3:  # else the thread ended after it was listed
                found.append(Thread(f"{process}/{task.name}", int(numbers[0]) / 1e9, int(numbers[1]) / 1e9))
    return found


def cpu_seconds(pid: int) -> float | None:
    """CPU seconds of all living processes of the tree, with those of their ended threads; None: not visible here.

    Each process has a CPU clock that others may read (clock_getcpuclockid(3); its number as in the kernel's
    ``include/linux/posix-timers.h``: the complement of the process id, and CPUCLOCK_SCHED).
    """
    if sys.platform != "linux":
        return None
    total = 0.0
    for process in descendants(pid):
        try:
            total += time.clock_gettime((~process << 3) | 2)
        except OSError:
            continue  # it ended after it was listed
    return total


def strayed(pid: int, cpus: frozenset[int]) -> int | None:
    """Threads of the tree that may run on other CPUs than ``cpus``; None: not visible here."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    count = 0
    for process in descendants(pid):
        for task in _tasks(process, ROOT):
            try:
                count += not os.sched_getaffinity(int(task.name)) <= cpus
            except OSError:
                continue  # the thread ended after it was listed
    return count


def peaks(pid: int, root: Path = ROOT) -> dict[int, int]:
    """Peak resident bytes (``VmHWM``) by process of the tree; empty: not visible here."""
    found = {}
    for process in descendants(pid, root):
        for line in _read(root / f"proc/{process}/status").splitlines():
            if line.startswith("VmHWM:"):
                found[process] = int(line.split()[1]) * 1024
    return found


def unmapped_shared(pid: int, root: Path = ROOT) -> int:
    """Bytes of shared memory that the tree holds by open files (memfd_create(2), shm_open(3)) beyond what is mapped and
    so in the resident size of its processes (``RssShmem``)."""
    held, mapped = {}, 0
    for process in descendants(pid, root):
        for line in _read(root / f"proc/{process}/status").splitlines():
            if line.startswith("RssShmem:"):
                mapped += int(line.split()[1]) * 1024
        for descriptor in _entries(root / f"proc/{process}/fd"):
            try:
                if os.readlink(descriptor).startswith(("/memfd:", "/dev/shm/")):  # noqa: S108  (read, not made)
                    state = descriptor.stat()
                    held[state.st_dev, state.st_ino] = state.st_blocks * 512
            except OSError:
                continue  # it was closed after it was listed
    return max(0, sum(held.values()) - mapped)


def _tasks(pid: int, root: Path) -> Iterator[Path]:
    return _entries(root / f"proc/{pid}/task")


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError:
        return  # the process has ended


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

"""Resident memory of this process tree, in bytes, and its page faults and context switches.

The kernel keeps the peaks, so nothing polls during a timed slice.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def peak_rss() -> int:
    """Peak resident set size of this process and its live descendants: the sum of the peaks of each, which is an upper
    bound of the tree's peak. Linux: ``VmHWM`` (not ``ru_maxrss``, which a child inherits across ``exec``)."""
    import psutil

    process = psutil.Process()
    peaks = (_peak(child.pid, child) for child in process.children(recursive=True))
    return _peak(os.getpid(), process) + sum(peaks)


def current_rss() -> int:
    """Resident set size of this process and its live descendants now."""
    import psutil

    process = psutil.Process()
    rss = int(process.memory_info().rss)
    for child in process.children(recursive=True):
        try:
            rss += int(child.memory_info().rss)
        except psutil.Error:
            continue  # the child ended after it was listed
    return rss


def reset_peak_rss() -> bool:
    """Reset the peak of this process to its current size (proc(5), ``clear_refs``). False: the system refuses it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def usage() -> dict[str, int] | None:
    """Page faults and involuntary context switches of all threads of this process so far (getrusage(2))."""
    try:
        import resource
    except ImportError:
        return None  # Windows has no such counters
    counters = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "minor_faults": counters.ru_minflt,
        "major_faults": counters.ru_majflt,
        "switches": counters.ru_nivcsw,
    }


def _peak(pid: int, process: Any) -> int:
    if sys.platform == "linux":
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return 0  # the descendant has ended
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0  # a zombie has no memory
    if sys.platform == "win32":
        return int(process.memory_info().peak_wset)
    import resource

    if pid == os.getpid():  # on macOS ru_maxrss is in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(process.memory_info().rss)

"""Resident memory of this process tree, in bytes, and what the kernel counts of its pages and switches.

Peaks are high-water marks kept by the kernel, so nothing has to poll while work is timed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any


def peak_rss() -> int:
    """Peak resident set size of this process and its live descendants: the sum of their high-water marks, an upper
    bound of the tree's peak. Linux: ``VmHWM`` (not ``ru_maxrss``, which a child inherits across ``exec``)."""
    import psutil

    process = psutil.Process()
    peaks = (_high_water(child.pid, child) for child in process.children(recursive=True))
    return _high_water(os.getpid(), process) + sum(peaks)


def current_rss() -> int:
    """Resident set size of this process and its live descendants now."""
    import psutil

    process = psutil.Process()
    rss = int(process.memory_info().rss)
    for child in process.children(recursive=True):
        try:
            rss += int(child.memory_info().rss)
        except psutil.Error:
            continue  # it ended between the listing and the reading
    return rss


def reset_peak_rss() -> bool:
    """Set this process' high-water mark to its present size (proc(5), ``clear_refs``); False where that is refused."""
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
        return None  # Windows has none
    counted = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "minor_faults": counted.ru_minflt,
        "major_faults": counted.ru_majflt,
        "switches": counted.ru_nivcsw,
    }


def _high_water(pid: int, process: Any) -> int:
    if sys.platform == "linux":
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return 0  # a descendant that ended meanwhile
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0  # a zombie has no memory any more
    if sys.platform == "win32":
        return int(process.memory_info().peak_wset)
    import resource

    if pid == os.getpid():  # macOS counts ru_maxrss in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(process.memory_info().rss)

"""The pipe of a loop written by hand: for each line ``N`` it answers seconds per step over N steps; at the end of file
its peak resident set size in bytes. Knows nothing of evenbench."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def pin() -> None:
    """Before a framework is imported."""
    if os.environ.get("HAND_LOOP_CPUS"):
        os.sched_setaffinity(0, [int(cpu) for cpu in os.environ["HAND_LOOP_CPUS"].split(",")])


def serve(seconds_per_step: Callable[[int], float]) -> None:
    """Answer until the end of file."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(repr(seconds_per_step(int(line))), flush=True)
    with open("/proc/self/status") as status:
        peak = next(int(entry.split()[1]) * 1024 for entry in status if entry.startswith("VmHWM"))
    print(peak, flush=True)
    os._exit(0)

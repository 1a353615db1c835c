"""Which malloc a worker runs on: the system's, glibc's kept from giving memory back, or a library preloaded.

Frameworks allocate and free every activation at every step. By default glibc takes large blocks from the kernel with
mmap and gives them back, so that each step pays for zeroed pages again (mallopt(3): M_MMAP_THRESHOLD,
M_TRIM_THRESHOLD).
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from bench.errors import UsageError

SYSTEM = "system"
ARENA = "arena"
ARENA_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the most that glibc accepts on 64 bits
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}


def is_glibc() -> bool:
    """Whether this Python runs on glibc, whose settings ``arena`` are."""
    return platform.libc_ver()[0] == "glibc"


def check(name: str) -> str:
    """The allocator's name, a path made absolute.

    Raises:
        UsageError: there is no such library, or not on this system.
    """
    if name == SYSTEM:
        return name
    if name == ARENA:
        if not is_glibc():
            raise UsageError("--allocator arena is a setting of glibc, which this system has not; use system or a PATH")
        return name
    if not Path(name).is_file():
        raise UsageError(f"--allocator {name}: no such file; one of system, arena, or the path of a malloc library")
    if sys.platform != "linux":
        raise UsageError("--allocator PATH is preloaded by Linux's loader (LD_PRELOAD); use system here")
    return str(Path(name).resolve())


def environment(name: str) -> dict[str, str | None]:
    """Variables that put a worker on this allocator; those of the others are taken away."""
    variables: dict[str, str | None] = dict.fromkeys(ARENA_SETTINGS)
    if name == ARENA:
        variables |= ARENA_SETTINGS
    elif name != SYSTEM:
        given = os.environ.get("LD_PRELOAD")
        variables["LD_PRELOAD"] = name if not given else f"{name}:{given}"
    return variables


def in_force(environ: dict[str, str]) -> str:
    """The allocator of this process, read back: arena's settings in its environment, or a preloaded library that is
    really mapped (the loader only warns of one that it cannot load)."""
    if all(environ.get(key) == value for key, value in ARENA_SETTINGS.items()):
        return ARENA
    first = environ.get("LD_PRELOAD", "").replace(":", " ").split(" ")[0]
    if first and sys.platform == "linux":
        mapped = {line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()}
        if str(Path(first).resolve()) in mapped:
            return str(Path(first).resolve())
    return SYSTEM

"""The malloc of a worker: ``system``, ``arena`` (glibc, set to keep freed memory), or a preloaded library.

Frameworks allocate and free every activation at every step. By default glibc maps large blocks with mmap and unmaps
them when they are freed, so each step pays again for zeroed pages (mallopt(3): M_MMAP_THRESHOLD, M_TRIM_THRESHOLD).
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.errors import UsageError

SYSTEM = "system"
ARENA = "arena"
ARENA_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the largest value that glibc accepts on 64 bits
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}
SYSTEM_LIBRARIES = ("libc.", "libc-", "ld-", "python", "libpython")
"""Beginnings of the names of files whose ``malloc`` is the system's: glibc, musl."""


def is_glibc() -> bool:
    """Whether this Python runs on glibc, which ``arena`` needs."""
    return platform.libc_ver()[0] == "glibc"


def check(name: str) -> str:
    """Check an allocator's name and return it; a path is made absolute.

    Raises:
        UsageError: there is no such library, or this system does not support it.
    """
    if name == SYSTEM:
        return name
    if name == ARENA:
        if not is_glibc():
            raise UsageError("--allocator arena is a setting of glibc; this system has none: use system or a PATH")
        return name
    if not Path(name).is_file():
        raise UsageError(f"--allocator {name}: no such file; one of system, arena, or the path of a malloc library")
    if sys.platform != "linux":
        raise UsageError("--allocator PATH is preloaded by Linux's loader (LD_PRELOAD); use system here")
    return str(Path(name).resolve())


def environment(name: str) -> dict[str, str | None]:
    """Environment variables that give a worker this allocator. None removes a variable of another allocator."""
    variables: dict[str, str | None] = dict.fromkeys(ARENA_SETTINGS)
    if name == ARENA:
        variables |= ARENA_SETTINGS
    elif name != SYSTEM:
        preloaded = os.environ.get("LD_PRELOAD")
        variables["LD_PRELOAD"] = name if not preloaded else f"{name}:{preloaded}"
    return variables


def active(environ: dict[str, str]) -> str:
    """The allocator that this process really uses: the preloaded library that has its ``malloc``, whatever else is
    preloaded; else ``arena`` if glibc's settings are in the environment."""
    library = preloaded(environ)
    if library is not None:
        return library
    if all(environ.get(key) == value for key, value in ARENA_SETTINGS.items()):
        return ARENA
    return SYSTEM


def preloaded(environ: Mapping[str, str] | None = None) -> str | None:
    """The library of ``LD_PRELOAD`` that has the ``malloc`` of this process; None if it is the system's."""
    names = (os.environ if environ is None else environ).get("LD_PRELOAD", "").replace(":", " ").split()
    library = _library_of_malloc() if names and sys.platform == "linux" else None
    if library is None or library in {str(Path(name).resolve()) for name in names}:
        return library
    # The loader searches its own folders for a name without a folder, such as libjemalloc.so.2.
    bare = any("/" not in name for name in names)
    return library if bare and not Path(library).name.startswith(SYSTEM_LIBRARIES) else None


class _SymbolPlace(ctypes.Structure):
    """``Dl_info`` of dladdr(3)."""

    _fields_: ClassVar = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def _library_of_malloc() -> str | None:
    """The resolved path of the library whose ``malloc`` this process calls; None if the loader does not say."""
    process = ctypes.CDLL(None)
    place = _SymbolPlace()
    found = process.dladdr(ctypes.cast(process.malloc, ctypes.c_void_p), ctypes.byref(place))
    return str(Path(os.fsdecode(place.file)).resolve()) if found and place.file else None

"""What a worker may take: memory, and the size of a file that it writes.

Memory is held by a control group of its own (cgroup v2, ``memory.max``) where one can be made: it counts all that the
worker and its helpers touch. Elsewhere by ``RLIMIT_DATA`` (setrlimit(2)): the private writable memory that each process
maps, touched or not, thread stacks included; it does not hold shared memory, mapped files, several processes together,
or a GPU's memory.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine.host import CGROUPS, GROUPS_OF_PROCESS

MEMORY, DISK, GROUP = "EVENBENCH_MEMORY", "EVENBENCH_DISK", "EVENBENCH_CGROUP"
"""Environment variables by which a worker is told its limits: bytes, bytes of a file, its control group's folder."""
SCORE = Path("/proc/self/oom_score_adj")
FIRST_TO_GO = "1000"
"""Where the kernel runs out of memory, it ends a worker, not the command that keeps the results (proc(5))."""
BY_GROUP, BY_RLIMIT, NOT_HELD = "control group", "RLIMIT_DATA", "not held on this system"
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Limits:
    """Of one worker; None: no limit."""

    memory: int | None = None
    """Bytes."""
    file: int | None = None
    """Bytes of one file that it writes: its log, its weights, its exported model."""


class Group:
    """A control group of one worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def kills(self) -> int:
        """How often the kernel ended a process of it because of its limit."""
        lines = _read(self.folder / "memory.events").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

    @property
    def peak(self) -> int | None:
        """The most bytes that it held; None: this kernel does not say."""
        text = _read(self.folder / "memory.peak").strip()
        return int(text) if text.isdigit() else None

    def remove(self) -> None:
        """Remove it, when its processes have ended."""
        try:
            self.folder.rmdir()
        except OSError:
            return  # a process of it is still ending: an empty group costs nothing


def make_group(memory: int, root: Path = CGROUPS, groups: Path = GROUPS_OF_PROCESS) -> Group | None:
    """A control group with this limit, inside this process's; None: none can be made here."""
    own = next((line[3:] for line in _read(groups).splitlines() if line.startswith("0::")), None)
    if own is None or not (root / "cgroup.controllers").exists():
        return None
    above = root / own.lstrip("/")
    folder = above / f"evenbench-{os.getpid()}-{next(_NUMBERS)}"
    try:
        if "memory" not in _read(above / "cgroup.subtree_control").split():
            (above / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir()
        (folder / "memory.max").write_text(str(memory))
        if (folder / "memory.swap.max").exists():
            (folder / "memory.swap.max").write_text("0")
    except OSError:
        if folder.exists():
            Group(folder).remove()
        return None
    return Group(folder)


def environment(limits: Limits, group: Group | None) -> dict[str, str | None]:
    """What tells a worker its limits."""
    return {
        MEMORY: None if limits.memory is None else str(limits.memory),
        DISK: None if limits.file is None else str(limits.file),
        GROUP: None if group is None else str(group.folder),
    }


def enter(told: Mapping[str, str]) -> None:
    """In a worker, before anything heavy is imported: its limits hold from here on."""
    _put_first()
    if GROUP in told:
        (Path(told[GROUP]) / "cgroup.procs").write_text("0")
    elif MEMORY in told and (resource := _resource()) is not None:
        _lower(resource, resource.RLIMIT_DATA, int(told[MEMORY]))
    if DISK in told and (resource := _resource()) is not None:
        _lower(resource, resource.RLIMIT_FSIZE, int(told[DISK]))


def in_effect(told: Mapping[str, str]) -> dict[str, Any]:
    """In a worker, for its record: the limits and what holds them; empty: no limit of memory."""
    if MEMORY not in told:
        return {}
    by = BY_GROUP if GROUP in told else BY_RLIMIT if _resource() is not None else NOT_HELD
    return {"memory_limit": {"bytes": int(told[MEMORY]), "held_by": by}}


def refuses_libraries(told: Mapping[str, str], error: ImportError) -> bool:
    """In a worker that could not import a package: whether its limit was too small for the package's libraries."""
    return MEMORY in told and ("failed to map segment" in str(error) or "annot allocate memory" in str(error))


def who_refused(told: Mapping[str, str]) -> str:
    """In a worker whose allocation failed on the CPU: who refused it."""
    if MEMORY in told:
        return f"--memory ({in_effect(told)['memory_limit']['held_by']})"
    return "the system"


def _put_first() -> None:
    try:
        SCORE.write_text(FIRST_TO_GO)
    except OSError:
        return  # no such file on this system, or it may not be written


def _resource() -> Any:
    try:
        import resource
    except ImportError:
        return None  # Windows
    return resource


def _lower(resource: Any, which: int, limit: int) -> None:
    _, hard = resource.getrlimit(which)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(which, (limit, limit))


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""

"""What a worker may take: memory, CPU time, and the size of a file that it writes.

Memory is held by a control group of its own (cgroup v2, ``memory.max``) where one can be made: it counts all that the
worker and its helpers touch. Elsewhere by ``RLIMIT_DATA`` (setrlimit(2)): the private writable memory that each process
maps, touched or not, thread stacks included; it does not hold shared memory, mapped files, several processes together,
or a GPU's memory.

CPU time is held by a control group (cgroup v2 ``cpu.max``, v1 ``cpu.cfs_quota_us``), as that of a container: when the
quota of a period is used up, all threads wait for the next period.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.machine.host import CGROUPS, GROUPS_OF_PROCESS

MEMORY, DISK, CPU = "EVENBENCH_MEMORY", "EVENBENCH_DISK", "EVENBENCH_CPU_QUOTA"
GROUPS, HELD = "EVENBENCH_CGROUPS", "EVENBENCH_HELD_BY_GROUPS"
"""Environment variables by which a worker is told its limits: bytes, bytes of a file, CPUs; the folders of its control
groups, and which of the limits they hold."""
PERIOD = 100_000
"""Microseconds in which a quota of CPU time is used up and renewed: the kernel's and Docker's."""
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
    cpu: float | None = None
    """CPUs: seconds of CPU time per second."""


@dataclass(frozen=True)
class Group:
    """A control group of one worker. ``holds``: the limits that it holds, of ``memory`` and ``cpu``."""

    folder: Path
    holds: frozenset[str]

    @property
    def throttled(self) -> float | None:
        """Seconds for which its threads have waited for CPU time, summed over the CPUs; None: this kernel does not
        say."""
        found = dict(line.split() for line in _read(self.folder / "cpu.stat").splitlines() if len(line.split()) == 2)
        for name, unit in (("throttled_usec", 1e6), ("throttled_time", 1e9)):  # v2, v1
            if name in found:
                return int(found[name]) / unit
        return None

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


def make_groups(limits: Limits, root: Path = CGROUPS, groups: Path = GROUPS_OF_PROCESS) -> list[Group]:
    """Control groups for these limits, inside this process's: what can be held here. One of cgroup v2 where it has the
    controllers, and one of v1 for CPU time where it has not."""
    wanted = frozenset(name for name in ("memory", "cpu") if getattr(limits, name) is not None)
    tries = [wanted, *(wanted & {name} for name in ("memory", "cpu") if len(wanted) > 1)] if wanted else []
    made = [group for group in (_make_v2(limits, holds, root, groups) for holds in tries) if group is not None][:1]
    if "cpu" in wanted and not any("cpu" in group.holds for group in made):
        made += [group for group in [_make_v1(limits, root, groups)] if group is not None]
    return made


def _make_v2(limits: Limits, holds: frozenset[str], root: Path, groups: Path) -> Group | None:
    own = _own_path(groups, "")
    if own is None or not (root / "cgroup.controllers").exists():
        return None
    above = root / own
    group = Group(_new_folder(above), holds)
    try:
        for name in sorted(holds - set(_read(above / "cgroup.subtree_control").split())):
            (above / "cgroup.subtree_control").write_text(f"+{name}")
        group.folder.mkdir()
        if "memory" in holds:
            (group.folder / "memory.max").write_text(str(limits.memory))
            if (group.folder / "memory.swap.max").exists():
                (group.folder / "memory.swap.max").write_text("0")
        if "cpu" in holds:
            (group.folder / "cpu.max").write_text(f"{_quota(limits)} {PERIOD}")
    except OSError:
        if group.folder.exists():
            group.remove()
        return None
    return group


def _make_v1(limits: Limits, root: Path, groups: Path) -> Group | None:
    own = _own_path(groups, "cpu")
    if own is None or not (root / "cpu").is_dir():
        return None
    group = Group(_new_folder(root / "cpu" / own), frozenset({"cpu"}))
    try:
        group.folder.mkdir()
        (group.folder / "cpu.cfs_period_us").write_text(str(PERIOD))
        (group.folder / "cpu.cfs_quota_us").write_text(str(_quota(limits)))
    except OSError:
        if group.folder.exists():
            group.remove()
        return None
    return group


def _quota(limits: Limits) -> int:
    """Microseconds of CPU time in a period."""
    assert limits.cpu is not None
    return round(limits.cpu * PERIOD)


def _own_path(groups: Path, controller: str) -> str | None:
    """The path of this process's group of a controller; of v2: no controller."""
    for line in _read(groups).splitlines():
        _, controllers, own = line.split(":", 2)
        if controller in controllers.split(","):
            return own.strip("/")
    return None


def _new_folder(above: Path) -> Path:
    return above / f"evenbench-{os.getpid()}-{next(_NUMBERS)}"


def check_quota(cpus: float) -> None:
    """Whether a quota of so many CPUs can be held here.

    Raises:
        UsageError: no control group can be written.
    """
    made = make_groups(Limits(cpu=cpus))
    for group in made:
        group.remove()
    if not made:
        raise UsageError(
            "--cpu-quota needs a control group of CPU time that this user may write (cgroup v2 with the controller cpu,"
            " or v1), and there is none; run as root, by systemd-run --user --scope -p Delegate=yes, or in a container"
            " with docker run --cpus"
        )


def environment(limits: Limits, groups: Sequence[Group]) -> dict[str, str | None]:
    """What tells a worker its limits."""
    held = sorted(name for group in groups for name in group.holds)
    return {
        MEMORY: None if limits.memory is None else str(limits.memory),
        DISK: None if limits.file is None else str(limits.file),
        CPU: None if limits.cpu is None else str(limits.cpu),
        GROUPS: os.pathsep.join(str(group.folder) for group in groups) or None,
        HELD: ",".join(held) or None,
    }


def enter(told: Mapping[str, str]) -> None:
    """In a worker, before anything heavy is imported: its limits hold from here on."""
    _put_first()
    for folder in told[GROUPS].split(os.pathsep) if GROUPS in told else ():
        (Path(folder) / "cgroup.procs").write_text("0")
    if MEMORY in told and not _is_held("memory", told) and (resource := _resource()) is not None:
        _lower(resource, resource.RLIMIT_DATA, int(told[MEMORY]))
    if DISK in told and (resource := _resource()) is not None:
        _lower(resource, resource.RLIMIT_FSIZE, int(told[DISK]))


def in_effect(told: Mapping[str, str]) -> dict[str, Any]:
    """In a worker, for its record: the limits of memory and CPU time, and what holds them."""
    found: dict[str, Any] = {}
    if MEMORY in told:
        by = BY_GROUP if _is_held("memory", told) else BY_RLIMIT if _resource() is not None else NOT_HELD
        found["memory_limit"] = {"bytes": int(told[MEMORY]), "held_by": by}
    if CPU in told:
        by = BY_GROUP if _is_held("cpu", told) else NOT_HELD
        found["cpu_quota"] = {"cpus": float(told[CPU]), "held_by": by}
    return found


def _is_held(name: str, told: Mapping[str, str]) -> bool:
    """Whether a control group holds this limit."""
    return name in told.get(HELD, "").split(",")


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

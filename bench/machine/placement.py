"""The profiles (``deploy``: as users run a model; ``precise``: for a gate), and the CPUs that workers run on."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bench.errors import UsageError
from bench.machine import allocators
from bench.machine.host import available_cpus, default_threads, physical_cores

SHORTEST_SLICE, LONGEST_SLICE = 0.06, 0.15
"""Limits of a slice's length, seconds."""
STEPS_PER_SLICE = 4
"""Steps that a slice lasts, within those limits. A single step would mostly measure caches left cold by the previous
worker."""


def slice_seconds(step_seconds: float) -> float:
    """Length of a slice in seconds, if one step takes ``step_seconds``."""
    return min(max(STEPS_PER_SLICE * step_seconds, SHORTEST_SLICE), LONGEST_SLICE)


@dataclass(frozen=True)
class Profile:
    """The defaults that a profile gives to options."""

    name: str
    rounds: int
    """New processes per row, the fewest where a time budget decides. The range of six processes' values holds the
    median of all with 97% probability; that of five with 94%, of three with 75%."""
    slices: int
    """Slices per metric and process, where no time budget decides."""
    fixed: bool
    """Whether these numbers hold without a time budget."""
    pinned: bool
    allocator: str


PROFILES = {
    "deploy": Profile("deploy", rounds=6, slices=6, fixed=False, pinned=False, allocator=allocators.SYSTEM),
    "precise": Profile("precise", rounds=6, slices=40, fixed=True, pinned=True, allocator=allocators.ARENA),
}


@dataclass(frozen=True)
class Placement:
    """The CPUs, threads and allocator of every worker of a run."""

    profile: Profile
    threads: int
    cpus: tuple[int, ...] | None
    """The logical CPUs that workers are pinned to; None: not pinned."""
    parent_cpus: tuple[int, ...] | None
    """The logical CPUs that the parent is pinned to; None: it is not pinned."""
    allocator: str
    memory: int | None = None
    """The most bytes that one worker may take (``bench.machine.limits``); None: no limit."""
    file: int | None = None
    """The most bytes of a file that it may write; None: what the run needs and some more."""
    lock: bool = True
    """Whether to wait for other timed commands on this machine (``bench.machine.turn``)."""
    cpu_quota: float | None = None
    """CPUs whose time one worker may use (``bench.machine.limits``); None: no quota."""


def place(
    profile: str = "deploy",
    cpus: str | None = None,
    threads: int | None = None,
    allocator: str | None = None,
    memory: int | None = None,
    file: int | None = None,
    lock: bool = True,
    cpu_quota: float | None = None,
) -> Placement:
    """The placement of these options; the profile gives those that are None.

    Raises:
        UsageError: an unknown profile or allocator, CPUs that are not available, or fewer CPUs than threads.
    """
    if profile not in PROFILES:
        raise UsageError(f"unknown profile '{profile}'; one of {', '.join(PROFILES)}")
    chosen = PROFILES[profile]
    workers = parse_cpus(cpus) if cpus is not None else _default_cpus() if chosen.pinned else None
    if workers is not None and threads is not None and threads > len(workers):
        raise UsageError(f"--threads {threads} on {len(workers)} CPUs: give at least one CPU per thread in --cpus")
    if workers is None:
        threads = threads or default_threads()
    else:
        threads = threads or min(len(_cores_of(workers)), default_threads())
    malloc = allocators.check(allocator) if allocator is not None else chosen.allocator
    if allocator is None and not allocators.is_glibc():
        malloc = allocators.SYSTEM
    if allocator is None and (preloaded := allocators.preloaded()) is not None:
        malloc = preloaded  # workers inherit it, whatever the profile
    return Placement(chosen, threads, workers, _cpus_of_parent(workers), malloc, memory, file, lock, cpu_quota)


def parse_cpus(text: str) -> tuple[int, ...]:
    """The CPUs of a list such as ``0,2-3`` (as in taskset(1)), sorted.

    Raises:
        UsageError: not such a list, a CPU that this process may not use, or a system without pinning.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("--cpus: this system has no processor affinity; leave it out")
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UsageError(f"--cpus {text}: not a list of CPUs such as 0,2-3")
        chosen.update(range(int(first), int(last if dash else first) + 1))
    missing = sorted(chosen - set(available_cpus()))
    if missing or not chosen:
        usable = ",".join(map(str, available_cpus()))
        raise UsageError(
            f"--cpus {text}: CPU {','.join(map(str, missing))} is not available; this process has {usable}"
        )
    return tuple(sorted(chosen))


def _default_cpus() -> tuple[int, ...] | None:
    """One logical CPU of each physical core except the first, which is left to the parent and to interrupts. A single
    core is used by all."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = physical_cores()
    return tuple(sorted(core[0] for core in (cores[1:] or cores)))


def _cores_of(cpus: tuple[int, ...]) -> list[list[int]]:
    return [core for core in physical_cores() if set(core) & set(cpus)]


def _cpus_of_parent(cpus: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The CPUs of the physical cores that no worker is pinned to; None if there are none, or nothing is pinned."""
    if cpus is None:
        return None
    free = [cpu for core in physical_cores() if not set(core) & set(cpus) for cpu in core]
    return tuple(sorted(free)) or None

"""Profiles of a measurement: ``deploy``, as users run it, and ``precise``, as a gate must; and where workers run."""

from __future__ import annotations

import os
from dataclasses import dataclass

from bench.errors import UsageError
from bench.machine import allocators
from bench.machine.host import available_cpus, default_threads, physical_cores

SHORTEST_SLICE, LONGEST_SLICE = 0.06, 0.15
"""Seconds of one turn of a live worker ..."""
STEPS_PER_SLICE = 4
"""... between them as long as so many steps: one step alone would mostly tell of the caches that the worker before it
has left."""


def slice_seconds(step_seconds: float) -> float:
    """Length of a slice of steps that take so long, seconds."""
    return min(max(STEPS_PER_SLICE * step_seconds, SHORTEST_SLICE), LONGEST_SLICE)


@dataclass(frozen=True)
class Profile:
    """What a profile stands for where no option says otherwise."""

    name: str
    rounds: int
    """Fresh processes per row."""
    slices: int
    """Turns per figure and process."""
    pinned: bool
    allocator: str


PROFILES = {
    "deploy": Profile("deploy", rounds=3, slices=6, pinned=False, allocator=allocators.SYSTEM),
    "precise": Profile("precise", rounds=5, slices=40, pinned=True, allocator=allocators.ARENA),
}


@dataclass(frozen=True)
class Placement:
    """Where and how every worker of a run works."""

    profile: Profile
    threads: int
    cpus: tuple[int, ...] | None
    """Workers are pinned to these logical CPUs; None: not pinned."""
    parent_cpus: tuple[int, ...] | None
    """The parent moves to these; None: it stays where it is."""
    allocator: str


def place(
    profile: str = "deploy", cpus: str | None = None, threads: int | None = None, allocator: str | None = None
) -> Placement:
    """Options to a placement; what they leave open the profile decides.

    Raises:
        UsageError: an unknown profile, CPUs that are not available or fewer than threads, no such allocator.
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
    return Placement(chosen, threads, workers, _elsewhere(workers), malloc)


def parse_cpus(text: str) -> tuple[int, ...]:
    """``0,2-3`` as taskset(1) writes it, sorted.

    Raises:
        UsageError: not such a list, a CPU that this process may not use, or no pinning on this system.
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
        have = ",".join(map(str, available_cpus()))
        raise UsageError(f"--cpus {text}: CPU {','.join(map(str, missing))} is not available; this process has {have}")
    return tuple(sorted(chosen))


def _default_cpus() -> tuple[int, ...] | None:
    """One logical CPU of each physical core but the first, which the parent and interrupts keep (or of the only)."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = physical_cores()
    return tuple(sorted(core[0] for core in (cores[1:] or cores)))


def _cores_of(cpus: tuple[int, ...]) -> list[list[int]]:
    return [core for core in physical_cores() if set(core) & set(cpus)]


def _elsewhere(cpus: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The CPUs of physical cores that no worker is pinned to."""
    if cpus is None:
        return None
    free = [cpu for core in physical_cores() if not set(core) & set(cpus) for cpu in core]
    return tuple(sorted(free)) or None

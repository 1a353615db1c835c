"""The load of the machine while a slice was timed, and whether it disturbed the slice.

The parent reads kernel counters just before and just after a slice, outside its clock; nothing polls. A counter that
this system does not have gives None ("not visible here"), never zero.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.machine import energy, nvml, process_tree

LIMITS = {
    "steal": 0.02,
    "others": 0.20,
    "waited": 0.10,
    "pressure": 0.50,
    "switches": 200.0,
    "major_faults": 0.0,
    "slower_clock": 0.10,
}
"""A slice above one of these limits is disturbed. ``steal``, ``others``: shares of the CPU time of the row's cores.
``waited``: share of the time in which the worker's threads ran or were ready to run; it counts only if other processes
used CPU time too, because the worker's threads may wait for each other. ``pressure``: share of the slice in which at
least one task of the system waited for a CPU. ``switches``: involuntary context switches per second and core.
``major_faults``: page faults that read from disk. ``slower_clock``: drop of the frequency (CPU or GPU) below the
fastest slice of the same worker."""

TICK_ERROR = 2
"""Ticks per core. /proc/stat counts in ticks (10 ms), so a difference of two readings may be too large by this."""

IDLE_LIMIT = 0.15
"""Share of a slice on a CPU in which no thread of the worker ran or waited for a core, as in a frozen control group; at
most 0.01 in 1,000 slices of four backends. A worker that was stopped (SIGSTOP) says so itself."""

IDLE_SECONDS = 0.02
"""Less is never counted as idle: in a short slice, the request and the answer would count."""

SLEPT_SECONDS = 0.1
"""Two clocks that are read one after the other part by less."""


@dataclass(frozen=True)
class Noise:
    """The load during one slice. CPU times are seconds, summed over the row's cores (if not pinned: all)."""

    steal: float | None = None
    """CPU time that the hypervisor gave to other guests."""
    others: float | None = None
    """CPU time of other processes and interrupts: busy time minus the worker's own."""
    waited: float | None = None
    """Time in which the worker's threads were ready to run but waited for a CPU."""
    ran: float | None = None
    """Time in which the threads of the worker and of its descendants ran."""
    wall: float | None = None
    """Wall seconds between the two readings of the counters, by the parent's clock: the worker's own may be wrong."""
    elapsed: float | None = None
    """Wall seconds of the same work by the worker's clock."""
    cpu: float | None = None
    """CPU seconds of the worker and its descendants, with those of threads that have ended."""
    after: float | None = None
    """The same after the worker had answered, until its threads slept."""
    read: float | None = None
    """Seconds to read the first output that was kept, when the worker's threads slept again."""
    ready: float | None = None
    """Seconds to read the last output, right after the fence."""
    step: float | None = None
    """Seconds of a step of the slice."""
    strayed: int | None = None
    """Threads of the worker's tree that may run on CPUs that are not the row's."""
    pressure: float | None = None
    """Wall seconds in which some task of the system waited for a CPU (PSI, "some")."""
    frequency: float | None = None
    """MHz, mean over the row's cores at the end of the slice."""
    gpu_clock: float | None = None
    """MHz of the GPU's multiprocessors at the end of the slice."""
    throttled: list[str] | None = None
    """The reasons why the GPU's clocks are limited; empty if they are not."""
    asleep: bool | None = None
    """Whether all threads of the previous worker slept when the slice began."""
    switches: int | None = None
    """Involuntary context switches of the worker."""
    stops: int | None = None
    """1: the worker was stopped from outside (SIGSTOP) and continued."""
    joules: float | None = None
    """Energy between the two readings: of the processor packages, for a row on a GPU of its board."""
    joules_wall: float | None = None
    """Wall seconds between these two readings."""
    held_back: float | None = None
    """Seconds for which a quota of CPU time kept threads from running, summed over the CPUs. None: no quota."""
    stalled: float | None = None
    """Seconds in which steps of training waited for their batch."""
    halves: float | None = None
    """Rate of an input pipeline in the first half of the slice over that in the second."""
    slept: float | None = None
    """Seconds in which the machine was suspended: its clocks of uptime and of boot time part by so much. Nothing if it
    was not, so that records stay as they were."""
    minor_faults: int | None = None
    """Page faults without a disk read."""
    major_faults: int | None = None
    """Page faults with a disk read."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without those that are not visible here."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Reading:
    """The counters at one moment, all cumulative: seconds since boot, or since a thread began."""

    at: float
    """The parent's clock."""
    cpu: float | None
    """Of the worker's tree."""
    busy: float | None
    steal: float | None
    pressure: float | None
    threads: Mapping[str, tuple[float, float]] | None
    """``PID/TID`` to the seconds that this thread of the worker's tree has run and waited."""
    slept: float
    """Of the machine, suspended."""
    energy: Mapping[str, tuple[int, int]]
    """Of the packages, or of the GPU's board (``bench.machine.energy.read``)."""


class Watch:
    """Reads the counters of one worker and its cores."""

    def __init__(self, pid: int, cpus: tuple[int, ...], gpu_uuid: str | None = None, root: Path = Path("/")) -> None:
        self._pid, self._cpus, self._gpu_uuid, self._root = pid, set(cpus), gpu_uuid, root

    def read(self) -> Reading:
        """Read the counters."""
        busy, steal = self._busy_and_steal()
        return Reading(
            time.perf_counter(),
            process_tree.cpu_seconds(self._pid),
            busy,
            steal,
            self._pressure(),
            self._threads(),
            suspended(),
            self._energy(),
        )

    def _energy(self) -> dict[str, tuple[int, int]]:
        if self._gpu_uuid is None:
            return energy.read(self._root)
        board = nvml.energy(self._gpu_uuid)
        return {} if board is None else {self._gpu_uuid: (round(1e6 * board), 0)}

    def since(self, before: Reading, asleep: bool | None, counters: Mapping[str, int | None]) -> Noise:
        """The load since ``before``; ``counters``: the ones that the worker read about itself."""
        after = self.read()
        ran, waited = _ran_and_waited(before.threads, after.threads)
        busy = _difference(before.busy, after.busy)
        used = energy.joules(before.energy, after.energy)
        return Noise(
            joules=used,
            joules_wall=None if used is None else after.at - before.at,
            steal=_difference(before.steal, after.steal),
            others=None if busy is None or ran is None else max(0.0, busy - ran),
            waited=waited,
            ran=ran,
            wall=None if ran is None else after.at - before.at,
            cpu=None if ran is None else _difference(before.cpu, after.cpu),
            strayed=None if ran is None else process_tree.strayed(self._pid, frozenset(self._cpus)),
            pressure=_difference(before.pressure, after.pressure),
            frequency=self._frequency(),
            gpu_clock=None if self._gpu_uuid is None else nvml.clock(self._gpu_uuid),
            throttled=None if self._gpu_uuid is None else nvml.throttled(self._gpu_uuid),
            asleep=asleep,
            slept=after.slept - before.slept if after.slept - before.slept > SLEPT_SECONDS else None,
            **counters,
        )

    def _text(self, path: str) -> str | None:
        try:
            return (self._root / path).read_text()
        except OSError:
            return None

    def _busy_and_steal(self) -> tuple[float | None, float | None]:
        """Busy and stolen seconds of the row's cores since boot (proc(5), /proc/stat)."""
        text = self._text("proc/stat")
        if text is None:
            return None, None
        lines = [line.split() for line in text.splitlines() if line.startswith("cpu")]
        own_cpus = [
            [int(ticks) for ticks in line[1:9]]
            for line in lines
            if line[0][3:].isdigit() and int(line[0][3:]) in self._cpus
        ]
        if not own_cpus or any(len(ticks) < 8 for ticks in own_cpus):
            return None, None
        second = os.sysconf("SC_CLK_TCK")
        user_nice_system_interrupts = sum(sum(ticks[:3]) + sum(ticks[5:7]) for ticks in own_cpus)
        return user_nice_system_interrupts / second, sum(ticks[7] for ticks in own_cpus) / second

    def _pressure(self) -> float | None:
        """Seconds since boot in which some task waited for a CPU (Documentation/accounting/psi.rst)."""
        for line in (self._text("proc/pressure/cpu") or "").splitlines():
            if line.startswith("some"):
                return int(line.rpartition("total=")[2]) / 1e6
        return None

    def _threads(self) -> dict[str, tuple[float, float]] | None:
        """Seconds that each thread ran and waited."""
        found = process_tree.threads(self._pid, self._root)
        return {thread.id: (thread.ran, thread.waited) for thread in found} or None

    def _frequency(self) -> float | None:
        texts = [self._text(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq") for cpu in self._cpus]
        known = [int(text) / 1e3 for text in texts if text is not None]
        return sum(known) / len(known) if known else None


def suspended() -> float:
    """Seconds since boot in which the machine was suspended (clock_gettime(2): CLOCK_BOOTTIME counts them,
    CLOCK_MONOTONIC does not); 0 where there is no such clock."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def reasons(noise: Noise, seconds: float, cpus: int, fastest: Noise | None = None) -> list[str] | None:
    """Why a slice of ``seconds`` (wall) on ``cpus`` cores is disturbed. Empty: it is not. None: no counter that could
    show it is visible here. ``fastest`` holds the highest clocks of the worker's slices so far."""
    causes: list[str] = []
    cores = seconds * cpus
    tick = cpus / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.0
    if noise.steal is not None and noise.steal > max(LIMITS["steal"] * cores, tick):
        causes.append(f"the hypervisor took {_share(noise.steal, cores)} of its cores (steal)")
    if noise.others is not None and noise.others > max(LIMITS["others"] * cores, TICK_ERROR * tick):
        causes.append(f"other processes used {_share(noise.others, cores)} of its cores")
    if noise.waited is not None and noise.ran is not None and noise.held_back is None:  # a quota makes them wait
        ready = noise.ran + noise.waited
        if noise.waited > LIMITS["waited"] * ready and (noise.others is None or noise.others > tick):
            causes.append(f"its threads waited {_share(noise.waited, ready)} of their time for a core")
    if noise.others is None and noise.pressure is not None and noise.pressure > LIMITS["pressure"] * seconds:
        causes.append(f"tasks waited for a CPU {_share(noise.pressure, seconds)} of the time (PSI)")
    if noise.others is None and noise.switches is not None and noise.switches > LIMITS["switches"] * cores:
        causes.append(f"{noise.switches / cores:.0f} involuntary context switches per second and core")
    if noise.major_faults is not None and noise.major_faults > LIMITS["major_faults"]:
        causes.append(f"{noise.major_faults} page faults read from disk")
    if noise.slept is not None:
        causes.append(f"the machine was suspended for {noise.slept:.0f} s")
    if noise.stops:
        causes.append("it was stopped from outside (SIGSTOP)")
    # On a GPU it waits for that, under a quota for the next period.
    if noise.ran is not None and noise.waited is not None and noise.gpu_clock is None and noise.held_back is None:
        wall = seconds if noise.wall is None else noise.wall
        idle = wall - noise.ran - noise.waited
        if idle > max(IDLE_LIMIT * wall, IDLE_SECONDS):
            causes.append(f"it neither ran nor waited for a core {_share(idle, wall)} of the time")
    for name in ("frequency", "gpu_clock"):
        now, best = getattr(noise, name), getattr(fastest, name, None)
        if now is not None and best is not None and now < (1 - LIMITS["slower_clock"]) * best:
            causes.append(f"{'GPU' if name == 'gpu_clock' else 'CPU'} clock at {now:.0f} MHz, {best:.0f} before")
    if noise.throttled:
        causes.append(f"GPU clocks limited: {', '.join(noise.throttled)}")
    if noise.asleep is False:
        causes.append("threads of the previous worker were still running")
    return causes if causes or _is_visible(noise) else None


def _is_visible(noise: Noise) -> bool:
    """Whether at least one counter shows the load of other processes."""
    return any(value is not None for value in (noise.others, noise.waited, noise.pressure, noise.switches))


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f}%"


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, after - before)


def _ran_and_waited(
    before: Mapping[str, tuple[float, float]] | None, after: Mapping[str, tuple[float, float]] | None
) -> tuple[float | None, float | None]:
    if before is None or after is None:
        return None, None
    pairs = [(values, before.get(thread, (0.0, 0.0))) for thread, values in after.items()]
    return sum(now[0] - then[0] for now, then in pairs), sum(now[1] - then[1] for now, then in pairs)

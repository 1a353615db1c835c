"""What else the machine did while a slice was timed, and whether that disturbs it.

The parent reads counters of the kernel just before and just after a slice, outside its clock; nothing polls. A source
that this system does not have gives None ("not visible here"), never zero.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.machine import nvml

LIMITS = {
    "steal": 0.02,
    "others": 0.20,
    "waited": 0.10,
    "pressure": 0.50,
    "switches": 200.0,
    "major_faults": 0.0,
    "slower_clock": 0.10,
}
"""A slice above one of these is disturbed. ``steal``, ``others``: shares of the CPU time of the row's cores;
``waited``: share of the time that the worker's threads ran or wanted to (its own threads may wait for one another, so
that others must have used a core as well); ``pressure``: share of the slice in which some
task of the system waited for a CPU; ``switches``: involuntary ones per second and core; ``major_faults``: pages read
from disk; ``slower_clock``: fall of the frequency (CPU or GPU) below the fastest slice of the same worker."""

TICKS_UNSEEN = 2
"""/proc/stat counts ticks (10 ms): so many per core may be too many in a difference of busy times."""


@dataclass(frozen=True)
class Noise:
    """Over one slice. CPU times are seconds summed over the row's cores (all available ones if it is not pinned)."""

    steal: float | None = None
    """Taken by the hypervisor for other guests."""
    others: float | None = None
    """Used by other processes, interrupts included: what was busy and not the worker's."""
    waited: float | None = None
    """Threads of the worker were ready to run and had to wait for a CPU."""
    ran: float | None = None
    """Threads of the worker ran."""
    pressure: float | None = None
    """Wall seconds in which some task of the system waited for a CPU (PSI, "some")."""
    frequency: float | None = None
    """MHz, mean over the row's cores at the slice's end."""
    gpu_clock: float | None = None
    """MHz of the GPU's multiprocessors at the slice's end."""
    throttled: list[str] | None = None
    """Why the GPU's clocks are held down."""
    asleep: bool | None = None
    """Whether all threads of the worker before slept when the slice began."""
    switches: int | None = None
    """Involuntary context switches of the worker."""
    minor_faults: int | None = None
    """Page faults served without reading a disk."""
    major_faults: int | None = None
    """Page faults that read a disk."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, what is not visible left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Reading:
    """Counters at one moment."""

    busy: float | None
    steal: float | None
    pressure: float | None
    threads: Mapping[str, tuple[float, float]] | None
    """Seconds run and waited of each thread of the worker."""


class Watch:
    """Reads the counters of one worker and its cores."""

    def __init__(self, pid: int, cpus: tuple[int, ...], gpu_uuid: str | None = None, root: Path = Path("/")) -> None:
        self._pid, self._cpus, self._gpu_uuid, self._root = pid, set(cpus), gpu_uuid, root

    def read(self) -> Reading:
        """The counters now."""
        busy, steal = self._stat()
        return Reading(busy, steal, self._pressure(), self._threads())

    def since(self, before: Reading, asleep: bool | None, own: Mapping[str, int | None]) -> Noise:
        """What happened since ``before``; ``own`` is what the worker counted of itself."""
        after = self.read()
        ran, waited = _of_threads(before.threads, after.threads)
        busy = _difference(before.busy, after.busy)
        return Noise(
            steal=_difference(before.steal, after.steal),
            others=None if busy is None or ran is None else max(0.0, busy - ran),
            waited=waited,
            ran=ran,
            pressure=_difference(before.pressure, after.pressure),
            frequency=self._frequency(),
            gpu_clock=None if self._gpu_uuid is None else nvml.clock(self._gpu_uuid),
            throttled=None if self._gpu_uuid is None else nvml.throttled(self._gpu_uuid),
            asleep=asleep,
            **own,
        )

    def _text(self, path: str) -> str | None:
        try:
            return (self._root / path).read_text()
        except OSError:
            return None

    def _stat(self) -> tuple[float | None, float | None]:
        """Busy and stolen seconds of the row's cores since boot (proc(5), /proc/stat)."""
        text = self._text("proc/stat")
        if text is None:
            return None, None
        rows = [line.split() for line in text.splitlines() if line.startswith("cpu")]
        ours = [
            [int(ticks) for ticks in row[1:9]] for row in rows if row[0][3:].isdigit() and int(row[0][3:]) in self._cpus
        ]
        if not ours or any(len(ticks) < 8 for ticks in ours):
            return None, None
        second = os.sysconf("SC_CLK_TCK")
        user_nice_system_interrupts = sum(sum(ticks[:3]) + sum(ticks[5:7]) for ticks in ours)
        return user_nice_system_interrupts / second, sum(ticks[7] for ticks in ours) / second

    def _pressure(self) -> float | None:
        """Seconds of "some" pressure on the CPU since boot (Documentation/accounting/psi.rst)."""
        for line in (self._text("proc/pressure/cpu") or "").splitlines():
            if line.startswith("some"):
                return int(line.rpartition("total=")[2]) / 1e6
        return None

    def _threads(self) -> dict[str, tuple[float, float]] | None:
        """Seconds run and waited of each thread (Documentation/scheduler/sched-stats.rst, /proc/PID/schedstat)."""
        found: dict[str, tuple[float, float]] = {}
        try:
            for task in (self._root / f"proc/{self._pid}/task").iterdir():
                try:
                    ran, waited, _ = (task / "schedstat").read_text().split()
                except OSError:
                    continue  # the thread ended between the listing and the reading
                found[task.name] = int(ran) / 1e9, int(waited) / 1e9
        except OSError:
            return None
        return found or None

    def _frequency(self) -> float | None:
        texts = [self._text(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq") for cpu in self._cpus]
        known = [int(text) / 1e3 for text in texts if text is not None]
        return sum(known) / len(known) if known else None


def reasons(noise: Noise, seconds: float, cpus: int, fastest: Noise | None = None) -> list[str] | None:
    """Why a slice of so many wall seconds on so many cores is disturbed: empty if it is not, None if nothing that
    would tell is visible here. ``fastest`` holds the highest clocks seen in slices of the same worker."""
    found: list[str] = []
    cores = seconds * cpus
    tick = cpus / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.0
    if noise.steal is not None and noise.steal > max(LIMITS["steal"] * cores, tick):
        found.append(f"the hypervisor took {_share(noise.steal, cores)} of its cores (steal)")
    if noise.others is not None and noise.others > max(LIMITS["others"] * cores, TICKS_UNSEEN * tick):
        found.append(f"other processes used {_share(noise.others, cores)} of its cores")
    if noise.waited is not None and noise.ran is not None:
        wanted = noise.ran + noise.waited
        if noise.waited > LIMITS["waited"] * wanted and (noise.others is None or noise.others > tick):
            found.append(f"its threads waited {_share(noise.waited, wanted)} of their time for a core")
    if noise.others is None and noise.pressure is not None and noise.pressure > LIMITS["pressure"] * seconds:
        found.append(f"tasks waited for a CPU {_share(noise.pressure, seconds)} of the time (PSI)")
    if noise.others is None and noise.switches is not None and noise.switches > LIMITS["switches"] * cores:
        found.append(f"{noise.switches / cores:.0f} involuntary context switches per second and core")
    if noise.major_faults is not None and noise.major_faults > LIMITS["major_faults"]:
        found.append(f"{noise.major_faults} page faults read from disk")
    for name in ("frequency", "gpu_clock"):
        now, best = getattr(noise, name), getattr(fastest, name, None)
        if now is not None and best is not None and now < (1 - LIMITS["slower_clock"]) * best:
            found.append(f"{'GPU' if name == 'gpu_clock' else 'CPU'} clock at {now:.0f} MHz, {best:.0f} before")
    if noise.throttled:
        found.append(f"GPU clocks held down: {', '.join(noise.throttled)}")
    if noise.asleep is False:
        found.append("threads of the worker before it were still running")
    return found if found or _visible(noise) else None


def _visible(noise: Noise) -> bool:
    """Whether at least one source that tells of other processes was there."""
    return any(value is not None for value in (noise.others, noise.waited, noise.pressure, noise.switches))


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f}%"


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, after - before)


def _of_threads(
    before: Mapping[str, tuple[float, float]] | None, after: Mapping[str, tuple[float, float]] | None
) -> tuple[float | None, float | None]:
    if before is None or after is None:
        return None, None
    pairs = [(values, before.get(thread, (0.0, 0.0))) for thread, values in after.items()]
    return sum(now[0] - then[0] for now, then in pairs), sum(now[1] - then[1] for now, then in pairs)

"""Checks of this machine for conditions that spoil a measurement. Each gives advice. Nothing is changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.machine import allocators, host, nvml, speed_variables

SAMPLE_SECONDS = 1.0
"""How long load and steal are sampled."""
BUSY = 0.05
"""Largest share of all CPUs that other processes may use."""
STOLEN = 0.005
"""Largest share of all CPUs that the hypervisor may take."""


@dataclass(frozen=True)
class MachineCheck:
    """One check of the machine."""

    name: str
    passed: bool | None
    """None: this system does not show it."""
    observed: str
    advice: str = ""
    """What to do if it did not pass."""


@dataclass(frozen=True)
class System:
    """The system that is checked; tests give another root and another ``sleep``."""

    root: Path = Path("/")
    sleep: Callable[[float], None] = time.sleep

    def text(self, path: str) -> str | None:
        """A file's content, stripped; None if it cannot be read."""
        try:
            return (self.root / path).read_text().strip()
        except OSError:
            return None

    def ticks(self) -> list[int] | None:
        """The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal."""
        text = self.text("proc/stat")
        return None if text is None else [int(ticks) for ticks in text.splitlines()[0].split()[1:9]]


def examine(system: System | None = None) -> list[MachineCheck]:
    """All checks, the most important first."""
    system = system or System()
    settings = [check(system) for check in (_quota, _governor, _turbo, _smt, _swap)]
    return [*_load(system), *settings, _memory(), _allocator(), variables(), *_gpus()]


def _invisible(name: str) -> MachineCheck:
    return MachineCheck(name, None, "not visible here")


def _load(system: System) -> list[MachineCheck]:
    """Load of other processes, and steal, during a second in which this process sleeps."""
    before = system.ticks()
    system.sleep(SAMPLE_SECONDS)
    after = system.ticks()
    if before is None or after is None or len(after) < 8:
        return [_invisible("other load"), _invisible("steal")]
    ticks = [new - old for old, new in zip(before, after, strict=True)]
    total = max(1, sum(ticks))
    busy, steal = (sum(ticks[:3]) + sum(ticks[5:7])) / total, ticks[7] / total
    return [
        MachineCheck("other load", busy <= BUSY, f"others use {busy:.0%} of the CPUs", "stop other programs, or wait"),
        MachineCheck(
            "steal",
            steal <= STOLEN,
            f"the hypervisor took {steal:.1%} of the CPUs",
            "use a dedicated machine (bare metal or a dedicated host); here, use many rounds",
        ),
    ]


def _quota(system: System) -> MachineCheck:
    quota = host.cpu_quota(system.root / "sys/fs/cgroup")
    cpus = len(host.available_cpus())
    if quota is None:
        return MachineCheck("container CPU quota", True, "none")
    advice = f"give the container at least {cpus} CPUs or none, or bind it to CPUs (docker --cpuset-cpus)"
    return MachineCheck(
        "container CPU quota", quota >= cpus, f"{quota:g} of {cpus} CPUs; throttled when used up", advice
    )


def _governor(system: System) -> MachineCheck:
    files = [f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor" for cpu in host.available_cpus()]
    governors = {system.text(path) for path in files}
    known = sorted(governor for governor in governors if governor is not None)
    if not known:
        return _invisible("governor")
    return MachineCheck(
        "governor", known == ["performance"], ", ".join(known), "sudo cpupower frequency-set -g performance"
    )


def _turbo(system: System) -> MachineCheck:
    no_turbo = system.text("sys/devices/system/cpu/intel_pstate/no_turbo")
    boost = system.text("sys/devices/system/cpu/cpufreq/boost")
    if no_turbo is None and boost is None:
        return _invisible("turbo")
    on = no_turbo == "0" if no_turbo is not None else boost == "1"
    switch = "1 > .../intel_pstate/no_turbo" if no_turbo is not None else "0 > .../cpufreq/boost"
    observed = "on: speed depends on heat and on other cores" if on else "off"
    return MachineCheck("turbo", not on, observed, f"as root: echo {switch} (in /sys/devices/system/cpu)")


def _smt(system: System) -> MachineCheck:
    active = system.text("sys/devices/system/cpu/smt/active")
    if active is None:
        return _invisible("SMT")
    advice = "pin to one CPU per core (--profile precise), keep the siblings idle, or echo off > .../cpu/smt/control"
    return MachineCheck("SMT", active == "0", "on: siblings share a core" if active == "1" else "off", advice)


def _swap(system: System) -> MachineCheck:
    """Swap in use, from /proc/meminfo (kB)."""
    lines = (system.text("proc/meminfo") or "").splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Swap")}
    if "SwapTotal" not in sizes:
        return _invisible("swap")
    used = sizes["SwapTotal"] - sizes["SwapFree"]
    observed = f"{used / 1e6:.1f} of {sizes['SwapTotal'] / 1e6:.1f} GB in use" if sizes["SwapTotal"] else "none"
    return MachineCheck("swap", used == 0, observed, "free memory, then sudo swapoff -a")


def _memory() -> MachineCheck:
    free = host.available_memory()
    advice = "stop other programs: with less, the workers of a round cannot all run at the same time"
    return MachineCheck("memory", free >= 4e9, f"{free / 1e9:.1f} GB available", advice)


def _allocator() -> MachineCheck:
    variables = (*allocators.ARENA_SETTINGS, "GLIBC_TUNABLES", "LD_PRELOAD")
    given = sorted(name for name in variables if os.environ.get(name))
    if given:
        return MachineCheck("allocator", False, f"{', '.join(given)} set here", "unset them; use --allocator instead")
    if not allocators.is_glibc():
        return _invisible("allocator")
    return MachineCheck("allocator", True, "glibc; page faults are counted; try --allocator arena if they are costly")


def variables(environ: Mapping[str, str] | None = None) -> MachineCheck:
    """The environment variables that decide speed; those that bench overrides for its workers are harmless."""
    names = speed_variables.found(environ)
    effective = [name for name in names if name not in speed_variables.REMOVED]
    overridden = [name for name in names if name in speed_variables.REMOVED]
    parts = [*effective, *(f"{name} (bench overrides it for workers)" for name in overridden)]
    advice = f"unset {' '.join(effective)}: it is in every record, and results with and without it are not compared"
    return MachineCheck("variables", not effective, ", ".join(parts) or "none that decide speed", advice)


def _gpus() -> list[MachineCheck]:
    gpus, why = nvml.gpus()
    if not gpus:
        return [MachineCheck("GPU", None, f"not visible here: {why}")]
    checks = []
    for gpu in gpus:
        name = f"GPU {gpu.index}"
        others = len(nvml.pids(gpu.uuid))
        advice = "stop them, or take another GPU (CUDA_VISIBLE_DEVICES)"
        checks.append(MachineCheck(f"{name} processes", others == 0, f"{others} computing", advice))
        locked = nvml.clocks_held(gpu.uuid)
        advice = f"sudo nvidia-smi -i {gpu.index} --lock-gpu-clocks=MHZ,MHZ, with a clock that it can sustain"
        free = "not locked by a setting that NVML shows: speed depends on heat and power"
        observed = {None: "not visible here", True: "locked by a setting", False: free}[locked]
        checks.append(MachineCheck(f"{name} clocks", locked, observed, advice))
        throttled = nvml.throttled(gpu.uuid)
        observed = "not visible here" if throttled is None else ", ".join(throttled) or "not throttled"
        passed = None if throttled is None else not throttled
        checks.append(MachineCheck(f"{name} throttling", passed, observed, "cool it; raise its power limit"))
    return checks

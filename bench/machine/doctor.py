"""What on this machine will spoil a measurement, and what to do about it. Reads; changes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.machine import allocators, host, nvml

SAMPLE_SECONDS = 1.0
"""How long load and steal are watched."""
BUSY = 0.05
"""Share of all CPUs that others may use."""
STOLEN = 0.005


@dataclass(frozen=True)
class Symptom:
    """One finding: ``well`` None where this system does not show it."""

    what: str
    well: bool | None
    seen: str
    do: str = ""
    """What to do about it."""


@dataclass(frozen=True)
class Sight:
    """Where to look; another root and sampler in tests."""

    root: Path = Path("/")
    sleep: Callable[[float], None] = time.sleep

    def text(self, path: str) -> str | None:
        """Content of a file, stripped; None where there is none."""
        try:
            return (self.root / path).read_text().strip()
        except OSError:
            return None

    def ticks(self) -> list[int] | None:
        """The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal."""
        text = self.text("proc/stat")
        return None if text is None else [int(ticks) for ticks in text.splitlines()[0].split()[1:9]]


def examine(sight: Sight | None = None) -> list[Symptom]:
    """All checks, in the order in which they matter."""
    sight = sight or Sight()
    of_system = [check(sight) for check in (_quota, _governor, _turbo, _smt, _swap)]
    return [*_load(sight), *of_system, _memory(), _allocator(), *_gpus()]


def _invisible(what: str) -> Symptom:
    return Symptom(what, None, "not visible here")


def _load(sight: Sight) -> list[Symptom]:
    """Other load and steal over a second in which this process sleeps."""
    before = sight.ticks()
    sight.sleep(SAMPLE_SECONDS)
    after = sight.ticks()
    if before is None or after is None or len(after) < 8:
        return [_invisible("other load"), _invisible("steal")]
    passed = [new - old for old, new in zip(before, after, strict=True)]
    whole = max(1, sum(passed))
    busy, steal = (sum(passed[:3]) + sum(passed[5:7])) / whole, passed[7] / whole
    return [
        Symptom("other load", busy <= BUSY, f"others use {busy:.0%} of the CPUs", "stop other programs, or wait"),
        Symptom(
            "steal",
            steal <= STOLEN,
            f"the hypervisor took {steal:.1%} of the CPUs",
            "use a machine of your own (bare metal, dedicated host), and many rounds here",
        ),
    ]


def _quota(sight: Sight) -> Symptom:
    quota = host.cpu_quota(sight.root / "sys/fs/cgroup")
    cpus = len(host.available_cpus())
    if quota is None:
        return Symptom("container CPU quota", True, "none")
    advice = f"give the container at least {cpus} CPUs or none, or bind it to CPUs (docker --cpuset-cpus)"
    return Symptom("container CPU quota", quota >= cpus, f"{quota:g} of {cpus} CPUs; throttled when used up", advice)


def _governor(sight: Sight) -> Symptom:
    files = [f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor" for cpu in host.available_cpus()]
    governors = {sight.text(path) for path in files}
    known = sorted(governor for governor in governors if governor is not None)
    if not known:
        return _invisible("governor")
    return Symptom("governor", known == ["performance"], ", ".join(known), "sudo cpupower frequency-set -g performance")


def _turbo(sight: Sight) -> Symptom:
    no_turbo = sight.text("sys/devices/system/cpu/intel_pstate/no_turbo")
    boost = sight.text("sys/devices/system/cpu/cpufreq/boost")
    if no_turbo is None and boost is None:
        return _invisible("turbo")
    on = no_turbo == "0" if no_turbo is not None else boost == "1"
    switch = "1 > .../intel_pstate/no_turbo" if no_turbo is not None else "0 > .../cpufreq/boost"
    seen = "on: speed depends on heat and on other cores" if on else "off"
    return Symptom("turbo", not on, seen, f"as root: echo {switch} (in /sys/devices/system/cpu)")


def _smt(sight: Sight) -> Symptom:
    active = sight.text("sys/devices/system/cpu/smt/active")
    if active is None:
        return _invisible("SMT")
    advice = "pin to one CPU per core (--profile precise), keep the siblings idle, or echo off > .../cpu/smt/control"
    return Symptom("SMT", active == "0", "on: siblings share a core" if active == "1" else "off", advice)


def _swap(sight: Sight) -> Symptom:
    """Swap in use, from /proc/meminfo (kB)."""
    lines = (sight.text("proc/meminfo") or "").splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Swap")}
    if "SwapTotal" not in sizes:
        return _invisible("swap")
    used = sizes["SwapTotal"] - sizes["SwapFree"]
    seen = f"{used / 1e6:.1f} of {sizes['SwapTotal'] / 1e6:.1f} GB in use" if sizes["SwapTotal"] else "none"
    return Symptom("swap", used == 0, seen, "free memory, then sudo swapoff -a")


def _memory() -> Symptom:
    free = host.available_memory()
    advice = "stop other programs: with less, workers of a round cannot all be alive together"
    return Symptom("memory", free >= 4e9, f"{free / 1e9:.1f} GB available", advice)


def _allocator() -> Symptom:
    variables = (*allocators.ARENA_SETTINGS, "GLIBC_TUNABLES", "LD_PRELOAD")
    given = sorted(name for name in variables if os.environ.get(name))
    if given:
        return Symptom("allocator", False, f"{', '.join(given)} set here", "unset them; use --allocator instead")
    if not allocators.is_glibc():
        return _invisible("allocator")
    return Symptom("allocator", True, "glibc; page faults are counted, --allocator arena is tried where they cost")


def _gpus() -> list[Symptom]:
    found, why = nvml.gpus()
    if not found:
        return [Symptom("GPU", None, f"not visible here: {why}")]
    symptoms = []
    for gpu in found:
        name = f"GPU {gpu.index}"
        others = len(nvml.pids(gpu.uuid))
        advice = "stop them, or take another GPU (CUDA_VISIBLE_DEVICES)"
        symptoms.append(Symptom(f"{name} processes", others == 0, f"{others} computing", advice))
        held = nvml.clocks_held(gpu.uuid)
        advice = f"sudo nvidia-smi -i {gpu.index} --lock-gpu-clocks=MHZ,MHZ, with a clock it can hold"
        free = "no setting holds them, as far as NVML tells: speed depends on heat and power"
        seen = {None: "not visible here", True: "held by a setting", False: free}[held]
        symptoms.append(Symptom(f"{name} clocks", held, seen, advice))
        throttled = nvml.throttled(gpu.uuid)
        seen = "not visible here" if throttled is None else ", ".join(throttled) or "not throttled"
        well = None if throttled is None else not throttled
        symptoms.append(Symptom(f"{name} throttling", well, seen, "cool it; raise its power limit"))
    return symptoms

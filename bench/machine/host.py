"""This machine: its fingerprint, the cores available to this process, and the commit of the user's repository."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.machine import nvml
from bench.machine.nvml import Gpu


def resolve_devices(names: str) -> list[tuple[str, Gpu | None]]:
    """The devices of a list such as ``cpu,cuda:1``, each with its GPU. ``auto`` stays ``auto``, with the first GPU if
    there is one: each backend chooses the device that it supports.

    Raises:
        UsageError: an unknown device, or CUDA where there is no such GPU.
    """
    gpus, why = nvml.gpus()
    devices: list[tuple[str, Gpu | None]] = []
    for name in dict.fromkeys(part.strip() for part in names.split(",")):
        if name == "auto":
            devices.append(("auto", gpus[0] if gpus else None))
        elif name == "cpu":
            devices.append(("cpu", None))
        else:
            devices.append((name, _cuda(name, gpus, why)))
    return devices


def _cuda(name: str, gpus: list[Gpu], why: str) -> Gpu:
    kind, _, index = name.partition(":")
    if kind != "cuda" or (index and not index.isdigit()) or name.endswith(":"):
        raise UsageError(f"unknown device '{name}'; one of auto, cpu, cuda, cuda:N, or a list such as cpu,cuda")
    if not gpus:
        raise UsageError(f"no CUDA device on this machine ({why}); use --device cpu")
    if int(index or 0) >= len(gpus):
        raise UsageError(f"no device '{name}': this machine has cuda:0 to cuda:{len(gpus) - 1}")
    return gpus[int(index or 0)]


def available_cpus() -> list[int]:
    """The logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def physical_cores() -> list[list[int]]:
    """The available CPUs grouped by physical core (siblings of simultaneous multi-threading together)."""
    groups: dict[str, list[int]] = {}
    for cpu in available_cpus():
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            package = (topology / "physical_package_id").read_text().strip()
            core = f"{package}:{(topology / 'core_id').read_text().strip()}"
        except OSError:
            core = f"cpu{cpu}"
        groups.setdefault(core, []).append(cpu)
    if len(groups) == len(available_cpus()) and not Path("/sys/devices/system/cpu/cpu0/topology").exists():
        import psutil

        physical = psutil.cpu_count(logical=False) or len(groups)
        return list(groups.values())[:physical]
    return list(groups.values())


CGROUPS = Path("/sys/fs/cgroup")
GROUPS_OF_PROCESS = Path("/proc/self/cgroup")


def cpu_quota(root: Path = CGROUPS, groups: Path = GROUPS_OF_PROCESS) -> float | None:
    """CPUs that the quotas allow of this process's control group and of those around it (cgroup v2 ``cpu.max``, v1
    ``cpu.cfs_quota_us``); None: no limit."""
    quotas = [_quota((folder / "cpu.max",)) for folder in _groups(root, groups, "")]
    for folder in _groups(root / "cpu", groups, "cpu"):
        quotas.append(_quota((folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")))
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(files: Sequence[Path]) -> float | None:
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)


def _groups(root: Path, groups: Path, controller: str) -> list[Path]:
    """Folders of this process's control group and of all around it, up to the root (v2: no controller; cgroups(7))."""
    path = ""
    for line in (_content(str(groups)) or "").splitlines():
        _, controllers, own = line.split(":", 2)
        if controller in controllers.split(",") and ".." not in own:
            path = own.strip("/")
    folder = root / path
    return [folder, *(around for around in folder.parents if around.is_relative_to(root))] if path else [root]


def available_memory(root: Path = CGROUPS, groups: Path = GROUPS_OF_PROCESS) -> int:
    """Bytes that new processes may use: the system's available memory, within the limits of this process's control
    group and of those around it (cgroup v2 ``memory.max``, v1 ``memory.limit_in_bytes``)."""
    import psutil

    available = int(psutil.virtual_memory().available)
    for folders, limit, used in (
        (_groups(root, groups, ""), "memory.max", "memory.current"),
        (_groups(root / "memory", groups, "memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        for folder in folders:
            try:
                room = int((folder / limit).read_text()) - int((folder / used).read_text())
            except (OSError, ValueError):
                continue  # no such file, or "max"
            available = min(available, max(0, room))
    return available


@contextmanager
def pinned(cpus: Sequence[int] | None) -> Iterator[None]:
    """Pin this process to these CPUs until the end of the ``with`` block (None: change nothing)."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def default_threads() -> int:
    """Number of physical cores available to this process, at most its container's CPU quota."""
    cores, quota = len(physical_cores()), cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def fingerprint() -> dict[str, Any]:
    """Hardware and system facts of a record. ``id`` is a hash of those that determine speed."""
    import psutil

    gpus, _ = nvml.gpus()
    hashed = {
        "cpu": _cpu_model(),
        "cores": len(physical_cores()),
        "cpus": len(available_cpus()),
        "cpu_quota": cpu_quota(),
        "memory": psutil.virtual_memory().total,
        "gpus": [asdict(gpu) for gpu in gpus],
        "system": platform.system(),
        "architecture": platform.machine(),
    }
    digest = hashlib.sha256(repr(sorted(hashed.items())).encode()).hexdigest()[:12]
    return {
        "id": digest,
        **hashed,
        "kernel": platform.release(),
        "driver": nvml.driver() if gpus else None,
        "governor": _line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "hostname": platform.node(),
    }


def _cpu_model() -> str:
    for line in (_content("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _content(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except OSError:
        return None


def _line(path: str) -> str | None:
    content = _content(path)
    return None if content is None else content.strip()


def git_commit() -> str | None:
    """Commit of the current folder's repository, with ``+dirty`` if it has uncommitted changes. None: no repository."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    process = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10)
    return process.stdout.strip()

"""The installed backends, and the packages that the others miss. Imports no framework."""

from __future__ import annotations

from dataclasses import dataclass

import backends as adapters
from bench.machine.nvml import gpus


@dataclass(frozen=True)
class Entry:
    """A backend as ``bench list`` shows it. ``problem`` is empty if it is available."""

    name: str
    problem: str
    devices: tuple[str, ...] = ()
    """The devices that it supports and this machine has."""
    precisions: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()


def backends() -> list[Entry]:
    """All backends, third-party ones included."""
    has_gpu = bool(gpus()[0])
    ignored = [
        Entry(f"{name} ({point})", "the name is that of a built-in backend: it is ignored")
        for name, point in adapters.shadowing().items()
    ]
    return [*(_entry(name, has_gpu) for name in adapters.names()), *ignored]


def gpus_here() -> str:
    """The GPUs as text, ``cuda:0 NVIDIA H100``, or why there are none."""
    visible, why = gpus()
    return ", ".join(f"cuda:{i} {gpu.name}" for i, gpu in enumerate(visible)) or f"none ({why})"


def _entry(name: str, has_gpu: bool) -> Entry:
    try:
        adapter = adapters.describe(name)
    except ImportError as error:
        return Entry(name, f"cannot be imported: {error}")
    versions, missing = adapters.installed(adapter)
    devices = tuple(device for device in adapter.DEVICES if device == "cpu" or has_gpu)
    problem = adapters.missing_packages(adapter, missing) if missing else ""
    return Entry(name, problem, devices, adapter.PRECISIONS, adapter.MODES, tuple(versions.items()))

"""What there is to run here, and what is missing. Imports no framework."""

from __future__ import annotations

from dataclasses import dataclass

import backends as adapters
from bench.machine.nvml import gpus


@dataclass(frozen=True)
class Entry:
    """A backend as ``bench list`` shows it; ``problem`` empty: available."""

    name: str
    problem: str
    devices: tuple[str, ...] = ()
    """Of those that it supports, those that are here."""
    precisions: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()


def backends() -> list[Entry]:
    """All backends, third-party ones too."""
    has_gpu = bool(gpus()[0])
    return [_entry(name, has_gpu) for name in adapters.names()]


def gpus_here() -> str:
    """``cuda:0 NVIDIA H100``, or why there is none."""
    found, why = gpus()
    return ", ".join(f"cuda:{i} {gpu.name}" for i, gpu in enumerate(found)) or f"none ({why})"


def _entry(name: str, has_gpu: bool) -> Entry:
    try:
        adapter = adapters.load(name)
    except Exception as error:  # noqa: BLE001  (third-party code: the listing says what it raised)
        return Entry(name, f"cannot be imported: {type(error).__name__}: {error}")
    versions, missing = adapters.installed(adapter)
    devices = tuple(device for device in adapter.DEVICES if device == "cpu" or has_gpu)
    problem = adapters.missing_packages(adapter, missing) if missing else ""
    return Entry(name, problem, devices, adapter.PRECISIONS, adapter.MODES, tuple(versions.items()))

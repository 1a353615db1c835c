"""What a worker on a GPU finds out for ``bench gpu-check``. Runs in the worker."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backends.base import Backend
from bench.machine import nvml
from bench.worker import clock

ENERGY_SECONDS = 20.0


def facts(backend: Backend, step: Callable[[], object], uuid: str) -> dict[str, Any]:
    """Libraries, the adapter's own probe, memory by both accounts, and energy against power under load."""
    step()
    backend.synchronize()
    own = backend.gpu_probe()
    return {
        "libraries": cuda_libraries(Path("/proc/self/maps").read_text()),
        "probe": own,
        "energy": _energy(step, backend.synchronize, uuid),
        "framework_memory": backend.device_memory(),
    }


def cuda_libraries(maps: str) -> list[str]:
    """Names of the CUDA libraries that are mapped into a process, from the text of ``/proc/PID/maps``."""
    found = re.findall(r"/(lib(?:cudart|cublas|cublasLt|cudnn|cuda|nvrtc)[^/\s]*\.so[.\d]*)", maps)
    return sorted(set(found))


def _energy(step: Callable[[], object], fence: Callable[[], None], uuid: str) -> dict[str, Any]:
    """The energy counter over 20 s of load against the mean of the power readings, one a second."""
    powers, reasons = [], set[str]()
    before, begin = nvml.energy(uuid), clock.now()
    while clock.now() - begin < ENERGY_SECONDS:
        second = clock.now()
        while clock.now() - second < 1.0:
            step()
            fence()
        powers.append(nvml.power(uuid))
        reasons |= set(nvml.throttled(uuid) or [])
    seconds, after = clock.now() - begin, nvml.energy(uuid)
    read = [watts for watts in powers if watts is not None]
    return {
        "joules": None if before is None or after is None else after - before,
        "watts": sum(read) / len(read) if read else None,
        "seconds": seconds,
        "clock_mhz": nvml.clock(uuid),
        "throttled": sorted(reasons),
    }

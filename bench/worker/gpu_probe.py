"""What a worker on a GPU finds out for ``bench gpu-check``. Runs in the worker."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from backends.base import Backend
from bench.machine import nvml
from bench.machine.gpu_checks import Energy
from bench.worker import clock
from bench.worker.protocol import GpuFacts, WorkerReport

ENERGY_SECONDS = 20.0


def facts(backend: Backend, step: Callable[[], object], uuid: str, report: Callable[[], WorkerReport]) -> GpuFacts:
    """Libraries, the adapter's own probe, memory by both accounts, and energy against power under load."""
    step()
    backend.synchronize()
    probe = backend.gpu_probe()
    return GpuFacts(
        libraries=tuple(cuda_libraries(Path("/proc/self/maps").read_text())),
        probe=probe,
        energy=_energy(step, backend.synchronize, uuid),
        framework_memory=backend.device_memory(),
        report=report(),
    )


def cuda_libraries(maps: str) -> list[str]:
    """Names of the CUDA libraries that are mapped into a process, from the text of ``/proc/PID/maps``."""
    found = re.findall(r"/(lib(?:cudart|cublas|cublasLt|cudnn|cuda|nvrtc)[^/\s]*\.so[.\d]*)", maps)
    return sorted(set(found))


def _energy(step: Callable[[], object], fence: Callable[[], None], uuid: str) -> Energy:
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
    return Energy(
        joules=None if before is None or after is None else after - before,
        watts=sum(read) / len(read) if read else None,
        seconds=seconds,
        clock_mhz=nvml.clock(uuid),
        throttled=tuple(sorted(reasons)),
    )

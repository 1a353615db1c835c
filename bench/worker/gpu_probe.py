"""The facts that ``bench gpu-check`` needs, from a worker on a GPU. Runs in the worker."""

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


def collect_facts(
    backend: Backend, step: Callable[[], object], uuid: str, report: Callable[[], WorkerReport]
) -> GpuFacts:
    """Collect CUDA libraries, the adapter's probe, the framework's memory, and energy and power under load."""
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
    names = re.findall(r"/(lib(?:cudart|cublas|cublasLt|cudnn|cuda|nvrtc)[^/\s]*\.so[.\d]*)", maps)
    return sorted(set(names))


def _energy(step: Callable[[], object], fence: Callable[[], None], uuid: str) -> Energy:
    """Read the energy counter over 20 s of load, and the mean of one power reading per second."""
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
    known = [watts for watts in powers if watts is not None]
    return Energy(
        joules=None if before is None or after is None else after - before,
        watts=sum(known) / len(known) if known else None,
        seconds=seconds,
        clock_mhz=nvml.clock(uuid),
        throttled=tuple(sorted(reasons)),
    )

"""GPUs as NVML sees them: which there are, memory of a process, clocks, energy. A reading that a GPU does not give is
None, never 0.

NVML ignores ``CUDA_VISIBLE_DEVICES`` and numbers GPUs by PCI order; everything here goes by UUID.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """A GPU as NVML names it."""

    index: int
    uuid: str
    name: str
    memory: int
    """Bytes."""


def gpus() -> tuple[list[Gpu], str]:
    """The GPUs that CUDA programs may use here, in PCI order, and why there are none (else '').

    ``CUDA_VISIBLE_DEVICES`` is honoured; NVML itself does not know it.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        found = [
            Gpu(i, _text(pynvml.nvmlDeviceGetUUID(h)), _text(pynvml.nvmlDeviceGetName(h)), _total_memory(h))
            for i, h in enumerate(handles)
        ]
    except pynvml.NVMLError as error:
        return [], f"NVML: {error}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return found, ""
    wanted = [part.strip() for part in visible.split(",")]
    chosen = [gpu for part in wanted for gpu in found if part == str(gpu.index) or (part and gpu.uuid.startswith(part))]
    return chosen, "" if chosen else f"CUDA_VISIBLE_DEVICES={visible} hides them"


def driver() -> str:
    """Version of the NVIDIA driver. Raises pynvml.NVMLError where there is none."""
    import pynvml

    return _text(pynvml.nvmlSystemGetDriverVersion())


def process_memory(uuid: str) -> tuple[int | None, str]:
    """Bytes that this process holds on the GPU, by NVML, and how they were found.

    PIDs that NVML gives are the host's, so in a container the own PID may be missing; then a sole process on the
    GPU is taken for this one. None with the reason where neither can be told.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"
    own = [process for process in processes if process.pid == os.getpid()]
    chosen, method = (own, "NVML, own PID") if own else (processes, "NVML, the only process on the GPU")
    if len(chosen) != 1:
        return None, f"NVML lists {len(processes)} processes on the GPU and not this PID (a container)"
    if chosen[0].usedGpuMemory is None:
        return None, "NVML does not tell a process' memory here"
    return int(chosen[0].usedGpuMemory), method


def energy(uuid: str) -> float | None:
    """Joules of the whole board since the driver was loaded (Volta and later); differences over 10 s or more count."""
    millijoules = _reading(uuid, "nvmlDeviceGetTotalEnergyConsumption")
    return None if millijoules is None else millijoules / 1e3


def power(uuid: str) -> float | None:
    """Watts of the whole board, a mean over one second on most GPUs since Ampere."""
    milliwatts = _reading(uuid, "nvmlDeviceGetPowerUsage")
    return None if milliwatts is None else milliwatts / 1e3


def clock(uuid: str) -> float | None:
    """MHz of the streaming multiprocessors now."""
    import pynvml

    return _reading(uuid, "nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM)


REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of ``nvmlDeviceGetCurrentClocksEventReasons`` that mean slower than asked (nvmlClocksEventReasons)."""


def throttled(uuid: str) -> list[str] | None:
    """Why the clocks are held down now; empty: they are not."""
    bits = _reading(uuid, "nvmlDeviceGetCurrentClocksEventReasons")
    return None if bits is None else [text for bit, text in REASONS.items() if int(bits) & bit]


def _reading(uuid: str, function: str, *arguments: int) -> float | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        return float(getattr(pynvml, function)(pynvml.nvmlDeviceGetHandleByUUID(uuid), *arguments))
    except pynvml.NVMLError:
        return None  # not supported on this GPU, or not permitted here


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _total_memory(handle: Any) -> int:
    import pynvml

    return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)

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
    chosen = _chosen(visible, found)
    return chosen, "" if chosen else f"CUDA_VISIBLE_DEVICES={visible} hides them"


def _chosen(visible: str, found: list[Gpu]) -> list[Gpu]:
    """The GPUs of a ``CUDA_VISIBLE_DEVICES``: indices (in PCI order, as the workers are told), UUIDs or their
    beginnings, MIG instances by UUID; like CUDA it stops at the first entry that names none."""
    chosen: list[Gpu] = []
    for part in (part.strip() for part in visible.split(",")):
        match = [gpu for gpu in found if part == str(gpu.index) or (part and gpu.uuid.startswith(part))]
        if part.startswith("MIG-"):
            match = [Gpu(len(chosen), part, "MIG instance", 0)]
        if len(match) != 1:
            break
        chosen += match
    return chosen


def driver() -> str:
    """Version of the NVIDIA driver. Raises pynvml.NVMLError where there is none."""
    import pynvml

    return _text(pynvml.nvmlSystemGetDriverVersion())


def pids(uuid: str) -> frozenset[int]:
    """Processes that compute on the GPU, as the host numbers them; empty where NVML does not list them."""
    import pynvml

    try:
        pynvml.nvmlInit()
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError:
        return frozenset()
    return frozenset(process.pid for process in processes)


def process_memory(uuid: str, pid: int, came: frozenset[int], growth: int) -> tuple[int | None, str]:
    """Bytes that a worker holds on the GPU, and how they were found; None with the reason where it cannot be told.

    PIDs that NVML gives are the host's, so in a container the worker may be missing from its list: then the one
    process that appeared on the GPU with this worker (``came``) is taken for it. Where NVML lists nothing at all, the
    growth of the board's use during the worker's own turns is (``growth``), for no other worker runs then.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"
    own = [process for process in processes if process.pid == pid]
    new = [process for process in processes if process.pid in came]
    chosen, method = (own, "NVML, own PID") if own else (new, "NVML, the process that came with this worker")
    if len(chosen) == 1 and chosen[0].usedGpuMemory is not None:
        return int(chosen[0].usedGpuMemory), method
    if not processes and growth > 0:
        return growth, "NVML, growth of the board's use during this worker's turns"
    return None, f"NVML lists {len(processes)} processes on the GPU and cannot tell this one's memory"


def used_memory(uuid: str) -> int | None:
    """Bytes in use on the board, all processes together, driver's reserve left out (``nvmlMemory_v2``)."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).used)
    except pynvml.NVMLError:
        return None


def free_memory(uuid: str) -> int | None:
    """Bytes free on the board."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(uuid)).free)
    except pynvml.NVMLError:
        return None


def energy(uuid: str) -> float | None:
    """Joules of the whole board since the driver was loaded (Volta and later); differences over 10 s or more count."""
    millijoules = _reading(uuid, "nvmlDeviceGetTotalEnergyConsumption")
    return None if millijoules is None else millijoules / 1e3


def power(uuid: str) -> float | None:
    """Watts of the whole board, a mean over one second on most GPUs since Ampere."""
    milliwatts = _reading(uuid, "nvmlDeviceGetPowerUsage")
    return None if milliwatts is None else milliwatts / 1e3


NVML_CLOCK_SM = 1
"""nvmlClockType_t: streaming multiprocessors."""


def clock(uuid: str) -> float | None:
    """MHz of the streaming multiprocessors now."""
    return _reading(uuid, "nvmlDeviceGetClockInfo", NVML_CLOCK_SM)


REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of ``nvmlDeviceGetCurrentClocksEventReasons`` that mean slower than asked (nvmlClocksEventReasons)."""


HELD = 0x2
"""nvmlClocksEventReasonApplicationsClocksSetting: a setting of the user limits the clocks."""


def clocks_held(uuid: str) -> bool | None:
    """Whether a setting of the user holds the clocks now. NVML has no getter for locked clocks themselves."""
    bits = _reading(uuid, "nvmlDeviceGetCurrentClocksEventReasons")
    return None if bits is None else bool(int(bits) & HELD)


def throttled(uuid: str) -> list[str] | None:
    """Why the clocks are held down now; empty: they are not."""
    bits = _reading(uuid, "nvmlDeviceGetCurrentClocksEventReasons")
    return None if bits is None else [text for bit, text in REASONS.items() if int(bits) & bit]


def _reading(uuid: str, function: str, *arguments: int) -> float | None:
    """A reading, or None: not supported on this GPU, not permitted here, or (in a worker of another environment)
    no nvidia-ml-py."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return float(getattr(pynvml, function)(pynvml.nvmlDeviceGetHandleByUUID(uuid), *arguments))
    except pynvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _total_memory(handle: Any) -> int:
    import pynvml

    return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)

"""Readings from NVML: the GPUs, the memory of a process, clocks, energy. A reading that a GPU does not support is None,
never 0.

NVML ignores ``CUDA_VISIBLE_DEVICES`` and numbers GPUs by PCI order; the functions here name a GPU by its UUID.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """A GPU as NVML describes it."""

    index: int
    uuid: str
    name: str
    memory: int
    """Bytes."""


def gpus() -> tuple[list[Gpu], str]:
    """The GPUs that CUDA programs may use here, in PCI order, and the reason if there are none (else '').

    ``CUDA_VISIBLE_DEVICES`` is applied here, because NVML ignores it.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        gpus = [
            Gpu(i, _text(pynvml.nvmlDeviceGetUUID(h)), _text(pynvml.nvmlDeviceGetName(h)), _total_memory(h))
            for i, h in enumerate(handles)
        ]
    except pynvml.NVMLError as error:
        return [], f"NVML: {error}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus, ""
    chosen = _select(visible, gpus)
    return chosen, "" if chosen else f"CUDA_VISIBLE_DEVICES={visible} hides them"


def _select(visible: str, gpus: list[Gpu]) -> list[Gpu]:
    """The GPUs that ``CUDA_VISIBLE_DEVICES`` names: by index (in PCI order, which the workers use too), UUID or UUID
    prefix, or the UUID of a MIG instance. As in CUDA, the first entry that names no GPU ends the list."""
    chosen: list[Gpu] = []
    for part in (part.strip() for part in visible.split(",")):
        match = [gpu for gpu in gpus if part == str(gpu.index) or (part and gpu.uuid.startswith(part))]
        if part.startswith("MIG-"):
            match = [Gpu(len(chosen), part, "MIG instance", 0)]
        if len(match) != 1:
            break
        chosen += match
    return chosen


def driver() -> str:
    """Version of the NVIDIA driver.

    Raises:
        pynvml.NVMLError: there is no driver.
    """
    import pynvml

    return _text(pynvml.nvmlSystemGetDriverVersion())


def pids(uuid: str) -> frozenset[int]:
    """PIDs (of the host) of the processes that compute on the GPU; empty if NVML does not list them."""
    import pynvml

    try:
        pynvml.nvmlInit()
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError:
        return frozenset()
    return frozenset(process.pid for process in processes)


def process_memory(uuid: str, pid: int, appeared: frozenset[int], growth: int) -> tuple[int | None, str]:
    """Bytes that a worker uses on the GPU, and the method; None and the reason if they cannot be determined.

    NVML gives PIDs of the host, so in a container the worker's PID may be missing from its list. Then the memory of the
    one process that appeared on the GPU with this worker is taken (its PID is in ``appeared``). If NVML lists no
    process, the increase of the board's used memory during the worker's own slices is taken (``growth``): no other
    worker runs then.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"
    own = [process for process in processes if process.pid == pid]
    new = [process for process in processes if process.pid in appeared]
    chosen, method = (own, "NVML, own PID") if own else (new, "NVML, the process that appeared with this worker")
    if len(chosen) == 1 and chosen[0].usedGpuMemory is not None:
        return int(chosen[0].usedGpuMemory), method
    if not processes and growth > 0:
        return growth, "NVML, growth of the board's use during this worker's turns"
    return None, f"NVML lists {len(processes)} processes on the GPU and does not show which is this worker"


def used_memory(uuid: str) -> int | None:
    """Bytes in use on the board by all processes together, without the driver's reserve (``nvmlMemory_v2``)."""
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
    """Joules of the whole board since the driver was loaded (Volta and later). Take differences over 10 s or more."""
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
"""Bits of ``nvmlDeviceGetCurrentClocksEventReasons`` that mean a clock below the requested one
(nvmlClocksEventReasons)."""

HELD = 0x2
"""nvmlClocksEventReasonApplicationsClocksSetting: a user setting limits the clocks."""


def clocks_held(uuid: str) -> bool | None:
    """Whether a user setting limits the clocks now. NVML cannot read locked clocks themselves."""
    bits = _reading(uuid, "nvmlDeviceGetCurrentClocksEventReasons")
    return None if bits is None else bool(int(bits) & HELD)


def throttled(uuid: str) -> list[str] | None:
    """The reasons why the clocks are limited now; empty: they are not."""
    bits = _reading(uuid, "nvmlDeviceGetCurrentClocksEventReasons")
    return None if bits is None else [text for bit, text in REASONS.items() if int(bits) & bit]


def _reading(uuid: str, function: str, *arguments: int) -> float | None:
    """A reading. None: not supported on this GPU, not permitted here, or (in a worker of another environment)
    nvidia-ml-py is not installed."""
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

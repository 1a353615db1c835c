"""``bench gpu-check``: whether the CUDA figures of this machine can be trusted, check by check.

The adapters' ``gpu_probe`` gives, as far as the framework can: ``matmul_unfenced_s``, ``matmul_fenced_s`` and
``matmul_events_s`` (one 8192 x 8192 product: submitted, waited for, by the device's own events); ``tf32_on_error`` and
``tf32_off_error`` (relative L2 error of a convolution); ``implicit_fence_s`` and ``explicit_fence_s`` (a run without
and with an explicit fence behind it); ``output_on_gpu`` (1 or 0: where the logits lie).
A check whose facts a framework does not give is shown as not measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

MIN_DRIVER = 580
"""CUDA 13 needs it (docs.nvidia.com/deploy/cuda-compatibility)."""


Verdict: TypeAlias = tuple[bool | None, str]


@dataclass(frozen=True)
class Finding:
    """One check of one row; ``passed`` None: not measured, for the reason in ``detail``."""

    row: str
    check: str
    passed: bool | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Of the GPU under load; None: it gives no such reading."""

    joules: float | None
    watts: float | None
    seconds: float
    clock_mhz: float | None
    throttled: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that NVML sees of a worker (None: it cannot tell), how it was found, and the framework's own peak."""

    nvml: int | None
    method: str
    framework_peak: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found out about a row on the GPU."""

    libraries: Sequence[str]
    """CUDA libraries that are mapped into the worker."""
    settings: Mapping[str, Any]
    """What the framework says of itself."""
    probe: Mapping[str, float]
    """Of the adapter's ``gpu_probe``."""
    memory: Memory
    energy: Energy


class Check(Protocol):
    """A line of a parity certificate."""

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> float: ...

    @property
    def tolerance(self) -> float: ...

    @property
    def passed(self) -> bool: ...


def judge(row: str, facts: Facts, checks: Sequence[Check], refused: str) -> list[Finding]:
    """The checks of one row, in the order of the manual.

    ``checks`` is its parity certificate, ``refused`` the status of a worker that was told to use CUDA while no GPU was
    visible.
    """
    judged = {
        "CUDA libraries": _libraries(facts.libraries),
        "runs on the GPU": _nodes(facts.settings, facts.probe),
        "fence": _fence(facts.probe),
        "events": _events(facts.probe),
        "explicit fence": _explicit(facts.probe),
        "TF32 switch": _tf32(facts.probe),
        "hidden GPU refused": _refused(refused),
        "memory": _memory(facts.memory),
        "energy": _energy(facts.energy),
        "parity": _parity(checks),
    }
    return [Finding(row, name, *verdict) for name, verdict in judged.items()]


def driver(version: str) -> Verdict:
    """Whether the driver is new enough."""
    return int(version.split(".")[0]) >= MIN_DRIVER, f"{version}, at least {MIN_DRIVER} for CUDA 13"


def _libraries(names: Sequence[str]) -> Verdict:
    """cudart and cuBLAS carry CUDA's major version, and two of them in one process do not mix; a missing cuDNN is no
    error when a framework is loaded, only slow or failing convolutions later."""
    majors = {m[1] for name in names if (m := re.match(r"lib(?:cudart|cublas|cublasLt)\S*\.so\.(\d+)", name))}
    cudnn = any(name.startswith("libcudnn") for name in names)
    return len(majors) == 1 and cudnn, ", ".join(names) or "no CUDA library is mapped"


def _nodes(settings: Mapping[str, Any], probe: Mapping[str, float]) -> Verdict:
    nodes = settings.get("nodes_per_provider")
    if nodes is not None:
        return set(nodes) == {"CUDAExecutionProvider"}, str(nodes)
    if "output_on_gpu" not in probe:
        return None, "the framework does not tell where its logits lie"
    return probe["output_on_gpu"] == 1, f"logits {'' if probe['output_on_gpu'] == 1 else 'not '}on the GPU"


def _fence(probe: Mapping[str, float]) -> Verdict:
    if "matmul_fenced_s" not in probe:
        return None, "the runtime fences by itself"
    unfenced, fenced = probe["matmul_unfenced_s"], probe["matmul_fenced_s"]
    return unfenced < fenced / 10, f"submitted after {unfenced:.2e} s, done after {fenced:.2e} s"


def _events(probe: Mapping[str, float]) -> Verdict:
    if "matmul_events_s" not in probe:
        return None, "the framework has no device events"
    apart = abs(probe["matmul_events_s"] / probe["matmul_fenced_s"] - 1)
    return apart < 0.02, f"device events and host clock differ by {apart:.1%}, at most 2%"


def _explicit(probe: Mapping[str, float]) -> Verdict:
    if "explicit_fence_s" not in probe:
        return None, "the harness always fences this framework itself"
    implicit, explicit = probe["implicit_fence_s"], probe["explicit_fence_s"]
    return (
        implicit > 0.9 * explicit,
        f"a run takes {implicit:.2e} s without an explicit fence, {explicit:.2e} s with it",
    )


def _tf32(probe: Mapping[str, float]) -> Verdict:
    if "tf32_on_error" not in probe:
        return None, "TF32 cannot be switched at run time; it is set off when the session is made"
    on, off = probe["tf32_on_error"], probe["tf32_off_error"]
    return on > 10 * off, f"error {on:.1e} with TF32, {off:.1e} without (no change before Ampere)"


def _refused(status: str) -> Verdict:
    return status == "unavailable", f"with the GPU hidden the worker is {status}"


def _memory(memory: Memory) -> Verdict:
    if memory.nvml is None:
        return None, memory.method
    shown = f"NVML {memory.nvml:,} bytes ({memory.method}), framework {memory.framework_peak:,}"
    return memory.nvml >= memory.framework_peak, shown


def _energy(energy: Energy) -> Verdict:
    held = f"clock {energy.clock_mhz} MHz, held down by {', '.join(energy.throttled) or 'nothing'}"
    if energy.joules is None or energy.watts is None:
        return None, f"this GPU gives no energy or power; {held}"
    expected = energy.watts * energy.seconds
    apart = abs(energy.joules / expected - 1)
    return apart < 0.1, f"{energy.joules:.0f} J, power x time {expected:.0f} J ({apart:.0%} apart); {held}"


def _parity(checks: Sequence[Check]) -> Verdict:
    shown = ", ".join(f"{check.name} {check.value:.1e}/{check.tolerance:.0e}" for check in checks)
    return bool(checks) and all(check.passed for check in checks), shown

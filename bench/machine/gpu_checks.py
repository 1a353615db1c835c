"""``bench gpu-check``: whether the CUDA measurements of this machine can be trusted, check by check.

The adapters' ``gpu_probe`` returns, if the framework can measure it: ``matmul_unfenced_s``, ``matmul_fenced_s`` and
``matmul_events_s`` (seconds of one 8192 x 8192 product: until it is submitted, until it is done, and by the device's
own events); ``tf32_on_error`` and ``tf32_off_error`` (relative L2 error of a convolution);
``implicit_fence_s`` and ``explicit_fence_s`` (seconds of a run without and with an explicit fence after it);
``output_on_gpu`` (1 if the logits are on the GPU, else 0).
A check is shown as not measured if the framework does not give its values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

MIN_DRIVER = 580
"""The oldest driver for CUDA 13 (docs.nvidia.com/deploy/cuda-compatibility)."""

Verdict: TypeAlias = tuple[bool | None, str]


@dataclass(frozen=True)
class Finding:
    """One check of one row. ``passed`` None: not measured; ``detail`` has the reason."""

    row: str
    check: str
    passed: bool | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy and clocks of the GPU under load. None: the GPU does not have this reading."""

    joules: float | None
    watts: float | None
    seconds: float
    clock_mhz: float | None
    throttled: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of a worker by NVML (None: unknown), the method, and the framework's own peak."""

    nvml: int | None
    method: str
    framework_peak: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts that the checks of one row on the GPU need."""

    libraries: Sequence[str]
    """The CUDA libraries that are mapped into the worker."""
    settings: Mapping[str, Any]
    """The framework's settings, read back."""
    probe: Mapping[str, float]
    """The result of the adapter's ``gpu_probe``."""
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
    """Run the checks of one row, in the order of the manual.

    ``checks`` is its parity certificate. ``refused`` is the status of a worker that had to use CUDA while no GPU was
    visible.
    """
    verdicts = {
        "CUDA libraries": _libraries(facts.libraries),
        "runs on the GPU": _runs_on_gpu(facts.settings, facts.probe),
        "fence": _fence(facts.probe),
        "events": _events(facts.probe),
        "explicit fence": _explicit_fence(facts.probe),
        "TF32 switch": _tf32(facts.probe),
        "hidden GPU refused": _refused(refused),
        "memory": _memory(facts.memory),
        "energy": _energy(facts.energy),
        "parity": _parity(checks),
    }
    return [Finding(row, name, *verdict) for name, verdict in verdicts.items()]


def driver(version: str) -> Verdict:
    """Whether the driver is new enough."""
    return int(version.split(".")[0]) >= MIN_DRIVER, f"{version}, at least {MIN_DRIVER} for CUDA 13"


def _libraries(names: Sequence[str]) -> Verdict:
    """The names of cudart and cuBLAS contain CUDA's major version; one process must not mix two of them. A missing
    cuDNN is no error when a framework is loaded, but makes convolutions slow or fail later."""
    majors = {m[1] for name in names if (m := re.match(r"lib(?:cudart|cublas|cublasLt)\S*\.so\.(\d+)", name))}
    cudnn = any(name.startswith("libcudnn") for name in names)
    return len(majors) == 1 and cudnn, ", ".join(names) or "no CUDA library is mapped"


def _runs_on_gpu(settings: Mapping[str, Any], probe: Mapping[str, float]) -> Verdict:
    nodes = settings.get("nodes_per_provider")
    if nodes is not None:
        return set(nodes) == {"CUDAExecutionProvider"}, str(nodes)
    if "output_on_gpu" not in probe:
        return None, "the framework does not show where its logits are"
    return probe["output_on_gpu"] == 1, f"logits {'' if probe['output_on_gpu'] == 1 else 'not '}on the GPU"


def _fence(probe: Mapping[str, float]) -> Verdict:
    if "matmul_fenced_s" not in probe:
        return None, "the runtime waits for the device by itself"
    unfenced, fenced = probe["matmul_unfenced_s"], probe["matmul_fenced_s"]
    return unfenced < fenced / 10, f"submitted after {unfenced:.2e} s, done after {fenced:.2e} s"


def _events(probe: Mapping[str, float]) -> Verdict:
    if "matmul_events_s" not in probe:
        return None, "the framework has no device events"
    difference = abs(probe["matmul_events_s"] / probe["matmul_fenced_s"] - 1)
    return difference < 0.02, f"device events and host clock differ by {difference:.1%}, at most 2%"


def _explicit_fence(probe: Mapping[str, float]) -> Verdict:
    if "explicit_fence_s" not in probe:
        return None, "the harness always synchronizes this framework itself"
    implicit, explicit = probe["implicit_fence_s"], probe["explicit_fence_s"]
    return (
        implicit > 0.9 * explicit,
        f"a run takes {implicit:.2e} s without an explicit fence, {explicit:.2e} s with it",
    )


def _tf32(probe: Mapping[str, float]) -> Verdict:
    if "tf32_on_error" not in probe:
        return None, "TF32 cannot be switched at run time; it is off from the creation of the session"
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
    clocks = f"clock {energy.clock_mhz} MHz, limited by {', '.join(energy.throttled) or 'nothing'}"
    if energy.joules is None or energy.watts is None:
        return None, f"this GPU has no reading of energy or power; {clocks}"
    expected = energy.watts * energy.seconds
    difference = abs(energy.joules / expected - 1)
    return difference < 0.1, f"{energy.joules:.0f} J, power x time {expected:.0f} J ({difference:.0%} apart); {clocks}"


def _parity(checks: Sequence[Check]) -> Verdict:
    shown = ", ".join(f"{check.name} {check.value:.1e}/{check.tolerance:.0e}" for check in checks)
    return bool(checks) and all(check.passed for check in checks), shown

"""CUDA paths without a GPU: NVML faked at its border, devices and rows, verdicts of gpu-check on given facts.

What needs a GPU is marked ``cuda`` and says so when it is skipped.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from bench_command import Bench

from bench.errors import UsageError
from bench.machine import gpu_checks, nvml
from bench.machine.host import resolve_devices
from bench.runner import plan, planner
from bench.runner.judges.result import Result
from bench.runner.plan import Row
from bench.runner.worker_environment import worker_environment
from bench.worker.gpu_probe import cuda_libraries
from bench.worker.protocol import Job
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES, Workload

JOB = Job(backend="b", mode="m", model="article-keras", dataset="digits", recipe="article-keras", threads=2)
GPU = bool(nvml.gpus()[0])


class FakeNvml(types.ModuleType):
    """Two GPUs; what a test sets is what NVML answers, an exception is raised."""

    nvmlMemory_v2 = 2  # noqa: N815

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.processes: list[Any] = []
        self.used = 1_000
        self.answers: dict[str, Any] = {}

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return f"GPU-{index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return uuid

    def nvmlDeviceGetUUID(self, handle: str) -> str:  # noqa: N802
        return handle

    def nvmlDeviceGetName(self, handle: str) -> bytes:  # noqa: N802
        return b"Fake H100"

    def nvmlDeviceGetMemoryInfo(self, handle: str, version: int = 1) -> Any:  # noqa: N802
        return types.SimpleNamespace(total=80 * 10**9, used=self.used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:  # noqa: N802
        return self.processes

    def __getattr__(self, name: str) -> Any:
        def answer(*_: Any) -> Any:
            found = self.answers.get(name, self.NVMLError("Not Supported"))
            if isinstance(found, Exception):
                raise found
            return found

        if name.startswith("nvml"):
            return answer
        raise AttributeError(name)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    module = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return module


def names(devices: list[tuple[str, nvml.Gpu | None]]) -> list[tuple[str, str | None]]:
    return [(name, gpu and gpu.uuid) for name, gpu in devices]


def test_devices_by_name(fake: FakeNvml) -> None:
    assert names(resolve_devices("auto")) == [("auto", "GPU-0")]
    assert names(resolve_devices("cpu,cuda:1")) == [("cpu", None), ("cuda:1", "GPU-1")]
    with pytest.raises(UsageError, match="cuda:0 to cuda:1"):
        resolve_devices("cuda:2")


def test_rows_on_a_machine_with_gpus(fake: FakeNvml) -> None:
    workload = Workload(MODELS["article-keras"], "digits", RECIPES["article-keras"])

    def rows(devices: str) -> dict[str, tuple[str, str | None, str | None]]:
        made = planner.make_plan(plan.Request(("all",), workload, devices=devices))
        return {row.name: (row.job.device, row.gpu_uuid, row.problem and row.problem[0]) for row in made.rows}

    automatic = rows("auto")
    assert automatic["pytorch"] == ("cuda", "GPU-0", None)
    assert automatic["onnxruntime <- keras"] == ("cuda", "GPU-0", None)
    assert automatic["reference"] == ("cpu", None, None), "auto never asks a backend for what it cannot do"
    both = rows("cpu,cuda:1")
    assert both["keras cpu"] == ("cpu", None, None)
    assert both["keras cuda:1"] == ("cuda:1", "GPU-1", None)
    assert both["onnxruntime <- pytorch cuda:1"] == ("cuda:1", "GPU-1", None)
    assert both["reference cuda:1"] == ("cuda:1", "GPU-1", "unsupported")


@pytest.mark.parametrize(
    ("visible", "uuid"),
    [("1", "GPU-1"), ("GPU-1", "GPU-1"), ("1,0", "GPU-1"), ("1,-1,0", "GPU-1"), ("MIG-abc", "MIG-abc")],
)
def test_visible_devices_are_honoured(fake: FakeNvml, monkeypatch: pytest.MonkeyPatch, visible: str, uuid: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert names(resolve_devices("cuda")) == [("cuda", uuid)]


def test_hidden_devices_are_not_there(fake: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert names(resolve_devices("auto")) == [("auto", None)]
    with pytest.raises(UsageError, match="hides them"):
        resolve_devices("cuda")


def row(gpu_uuid: str | None) -> Row:
    return Row(JOB, "b", frozenset({"infer"}), sys.executable, gpu_uuid)


def test_a_worker_sees_one_gpu_or_none(tmp_path: Path) -> None:
    on_gpu = worker_environment(row("GPU-1"), tmp_path)
    assert on_gpu["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert worker_environment(row(None), tmp_path)["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_worker_inherits_nothing_that_overrules_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("driver", "cuda12"):
        (tmp_path / name).mkdir()
    (tmp_path / "driver" / "libcuda.so.1").touch()
    (tmp_path / "cuda12" / "libcudnn.so.9").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path / 'cuda12'}:{tmp_path / 'driver'}")
    environment = worker_environment(row("GPU-1"), tmp_path)
    assert environment["LD_LIBRARY_PATH"] == str(tmp_path / "driver")
    assert environment["NVIDIA_TF32_OVERRIDE"] is None
    assert environment["TF_CUDNN_USE_AUTOTUNE"] is None


def process(pid: int, used: int | None) -> Any:
    return types.SimpleNamespace(pid=pid, usedGpuMemory=used)


def test_memory_of_a_worker(fake: FakeNvml) -> None:
    fake.processes = [process(7, 100), process(8, 900)]
    assert nvml.process_memory("GPU-0", 7, frozenset(), 0) == (100, "NVML, own PID")
    fake.processes = [process(4711, 300)]  # a container: the host's PID
    method = "NVML, the process that appeared with this worker"
    assert nvml.process_memory("GPU-0", 7, frozenset({4711}), 0) == (300, method)
    fake.processes = [process(4711, 300), process(4712, 50)]  # another worker is alive on the GPU
    assert nvml.pids("GPU-0") == {4711, 4712}
    assert nvml.process_memory("GPU-0", 7, frozenset({4712}), 0) == (50, method)
    fake.processes = []  # a container whose list is empty
    method = "NVML, growth of the board's use during this worker's turns"
    assert nvml.process_memory("GPU-0", 7, frozenset(), 4_000) == (4_000, method)


@pytest.mark.parametrize("processes", [[], [process(1, 5), process(2, 6)], [process(1, None)]])
def test_memory_that_cannot_be_told_is_none_never_zero(fake: FakeNvml, processes: list[Any]) -> None:
    fake.processes = processes
    used, reason = nvml.process_memory("GPU-0", 7, frozenset(), 0)
    assert used is None
    assert reason


def test_readings(fake: FakeNvml) -> None:
    fake.answers = {
        "nvmlDeviceGetTotalEnergyConsumption": 5_000,
        "nvmlDeviceGetPowerUsage": 250_000,
        "nvmlDeviceGetCurrentClocksEventReasons": 0x44 | 0x1,
    }
    assert nvml.energy("GPU-0") == 5.0
    assert nvml.power("GPU-0") == 250.0
    assert nvml.throttled("GPU-0") == ["power cap", "hardware thermal slowdown"]
    assert nvml.clock("GPU-0") is None, "not supported is not 0 MHz"


def test_cuda_libraries_of_a_process() -> None:
    maps = (
        "7f r-xp 0 /x/nvidia/cu13/lib/libcudart.so.13\n7f r--p 0 /x/lib/libcudnn.so.9\n7f r-xp 0 /usr/lib/libc.so.6\n"
    )
    assert cuda_libraries(maps) == ["libcudart.so.13", "libcudnn.so.9"]


PLAIN: dict[str, Any] = {
    "libraries": ["libcublasLt.so.13", "libcudart.so.13", "libcudnn.so.9"],
    "settings": {"nodes_per_provider": {"CUDAExecutionProvider": 12}},
    "probe": {
        "matmul_unfenced_s": 1e-5,
        "matmul_fenced_s": 2e-2,
        "matmul_events_s": 1.99e-2,
        "tf32_on_error": 3e-4,
        "tf32_off_error": 2e-7,
        "implicit_fence_s": 1.01e-3,
        "explicit_fence_s": 1.02e-3,
        "output_on_gpu": 1.0,
    },
    "memory": {"nvml": 900, "method": "NVML, own PID", "framework_peak": 500},
    "energy": {"joules": 6000.0, "watts": 300.0, "seconds": 20.0, "clock_mhz": 1980.0, "throttled": ()},
}
CHECKS = [Result("logits", 1e-7, 1e-5)]


def facts_of(plain: dict[str, Any]) -> gpu_checks.Facts:
    memory, energy = gpu_checks.Memory(**plain["memory"]), gpu_checks.Energy(**plain["energy"])
    return gpu_checks.Facts(**{**plain, "memory": memory, "energy": energy})


def verdicts(facts: dict[str, Any], refused: str = "unavailable") -> dict[str, bool | None]:
    return {finding.check: finding.passed for finding in gpu_checks.judge("row", facts_of(facts), CHECKS, refused)}


def test_good_facts_pass_every_check() -> None:
    assert set(verdicts(PLAIN).values()) == {True}
    assert gpu_checks.driver("580.65.06")[0]
    assert not gpu_checks.driver("570.10")[0]


@pytest.mark.parametrize(
    ("check", "part", "change"),
    [
        ("CUDA libraries", "libraries", ["libcudart.so.12", "libcudart.so.13", "libcudnn.so.9"]),
        ("CUDA libraries", "libraries", ["libcudart.so.13"]),
        ("CUDA libraries", "libraries", []),
        (
            "runs on the GPU",
            "settings",
            {"nodes_per_provider": {"CUDAExecutionProvider": 9, "CPUExecutionProvider": 3}},
        ),
        ("fence", "probe", {**PLAIN["probe"], "matmul_unfenced_s": 1.9e-2}),
        ("events", "probe", {**PLAIN["probe"], "matmul_events_s": 1.5e-2}),
        ("explicit fence", "probe", {**PLAIN["probe"], "implicit_fence_s": 1e-5}),
        ("TF32 switch", "probe", {**PLAIN["probe"], "tf32_off_error": 3e-4}),
        ("memory", "memory", {**PLAIN["memory"], "nvml": 400}),
        ("energy", "energy", {**PLAIN["energy"], "joules": 3000.0}),
    ],
)
def test_each_bad_fact_fails_its_check(check: str, part: str, change: Any) -> None:
    found = verdicts({**PLAIN, part: change})
    assert found.pop(check) is False
    assert set(found.values()) == {True}


def test_logits_on_the_host_fail_where_nodes_are_not_told() -> None:
    there = {**PLAIN, "settings": {}}
    assert verdicts(there)["runs on the GPU"] is True
    assert verdicts({**there, "probe": {**PLAIN["probe"], "output_on_gpu": 0.0}})["runs on the GPU"] is False


def test_facts_that_are_not_given_are_not_measured() -> None:
    bare = {
        **PLAIN,
        "settings": {},
        "probe": {},
        "memory": {"nvml": None, "method": "a container", "framework_peak": 0},
        "energy": {**PLAIN["energy"], "joules": None},
    }
    found = verdicts(bare)
    unknown = {check for check, passed in found.items() if passed is None}
    assert unknown == {"runs on the GPU", "fence", "events", "explicit fence", "TF32 switch", "memory", "energy"}
    assert verdicts(PLAIN, refused="ok")["hidden GPU refused"] is False


@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.skipif(not GPU, reason=f"no GPU here: {nvml.gpus()[1]}")
def test_gpu_check_on_a_gpu(bench: Bench) -> None:
    del bench.environment["CUDA_VISIBLE_DEVICES"]
    done = bench("gpu-check", "--backend", "pytorch", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr

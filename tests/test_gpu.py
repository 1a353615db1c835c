"""CUDA paths without a GPU: NVML faked at its border, refusals for real, verdicts of gpu-check on given facts.

What needs a GPU is marked ``cuda`` and says so when it is skipped.
"""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from conftest import Bench

from bench import gpu_check, nvml, plan
from bench.child import Child, WorkerError, worker_environment
from bench.errors import UsageError
from bench.gpu_probe import cuda_libraries
from bench.machine import resolve_devices
from bench.workloads import MODELS, RECIPES, Workload

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
        made = plan.make(plan.Request(("all",), workload, devices=devices))
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


def test_a_worker_sees_one_gpu_or_none(tmp_path: Path) -> None:
    on_gpu = worker_environment(sys.executable, 2, "GPU-1", tmp_path)
    assert on_gpu["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert worker_environment(sys.executable, 2, None, tmp_path)["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_worker_inherits_nothing_that_overrules_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("driver", "cuda12"):
        (tmp_path / name).mkdir()
    (tmp_path / "driver" / "libcuda.so.1").touch()
    (tmp_path / "cuda12" / "libcudnn.so.9").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path / 'cuda12'}:{tmp_path / 'driver'}")
    environment = worker_environment(sys.executable, 2, "GPU-1", tmp_path)
    assert environment["LD_LIBRARY_PATH"] == str(tmp_path / "driver")
    assert environment["NVIDIA_TF32_OVERRIDE"] is None
    assert environment["TF_CUDNN_USE_AUTOTUNE"] is None


def process(pid: int, used: int | None) -> Any:
    return types.SimpleNamespace(pid=pid, usedGpuMemory=used)


def test_memory_of_a_worker(fake: FakeNvml) -> None:
    fake.processes = [process(7, 100), process(8, 900)]
    assert nvml.process_memory("GPU-0", 7, None) == (100, "NVML, own PID")
    fake.processes = [process(4711, 300)]  # a container: the host's PID
    assert nvml.process_memory("GPU-0", 7, None) == (300, "NVML, the only process on the GPU")
    fake.processes = []  # a container whose list is empty
    fake.used = 5_000
    assert nvml.process_memory("GPU-0", 7, 1_000) == (4_000, "NVML, growth of the board's use")


@pytest.mark.parametrize("processes", [[], [process(1, 5), process(2, 6)], [process(1, None)]])
def test_memory_that_cannot_be_told_is_none_never_zero(fake: FakeNvml, processes: list[Any]) -> None:
    fake.processes = processes
    used, reason = nvml.process_memory("GPU-0", 7, 1_000)
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


FACTS: dict[str, Any] = {
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
    "memory": {"nvml": 900, "method": "NVML, own PID", "framework": {"peak_reserved": 500}},
    "energy": {"joules": 6000.0, "watts": 300.0, "seconds": 20.0, "clock_mhz": 1980.0, "throttled": []},
}
CHECKS = [{"name": "logits", "value": 1e-7, "tolerance": 1e-5, "passed": True}]


def verdicts(facts: dict[str, Any], refused: str = "unavailable") -> dict[str, bool | None]:
    return {finding.check: finding.passed for finding in gpu_check.judge("row", facts, CHECKS, refused)}


def test_good_facts_pass_every_check() -> None:
    assert set(verdicts(FACTS).values()) == {True}
    assert gpu_check.driver("580.65.06")[0]
    assert not gpu_check.driver("570.10")[0]


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
        ("fence", "probe", {**FACTS["probe"], "matmul_unfenced_s": 1.9e-2}),
        ("events", "probe", {**FACTS["probe"], "matmul_events_s": 1.5e-2}),
        ("explicit fence", "probe", {**FACTS["probe"], "implicit_fence_s": 1e-5}),
        ("TF32 switch", "probe", {**FACTS["probe"], "tf32_off_error": 3e-4}),
        ("memory", "memory", {**FACTS["memory"], "nvml": 400}),
        ("energy", "energy", {**FACTS["energy"], "joules": 3000.0}),
    ],
)
def test_each_bad_fact_fails_its_check(check: str, part: str, change: Any) -> None:
    found = verdicts({**FACTS, part: change})
    assert found.pop(check) is False
    assert set(found.values()) == {True}


def test_logits_on_the_host_fail_where_nodes_are_not_told() -> None:
    there = {**FACTS, "settings": {}}
    assert verdicts(there)["runs on the GPU"] is True
    assert verdicts({**there, "probe": {**FACTS["probe"], "output_on_gpu": 0.0}})["runs on the GPU"] is False


def test_facts_that_are_not_given_are_not_measured() -> None:
    bare = {
        **FACTS,
        "settings": {},
        "probe": {},
        "memory": {"nvml": None, "method": "a container", "framework": {}},
        "energy": {**FACTS["energy"], "joules": None},
    }
    found = verdicts(bare)
    unknown = {check for check, passed in found.items() if passed is None}
    assert unknown == {"runs on the GPU", "fence", "events", "explicit fence", "TF32 switch", "memory", "energy"}
    assert verdicts(FACTS, refused="ok")["hidden GPU refused"] is False


def request_on_cuda(backend: str, mode: str, folder: Path) -> dict[str, Any]:
    return {
        "backend": backend,
        "device": "cuda",
        "precision": "fp32",
        "mode": mode,
        "threads": 1,
        "seed": 0,
        "model": MODELS["article-pytorch"].to_dict(),
        "onnx": str(folder / "model.onnx"),
        "data": str(folder),
    }


@pytest.mark.skipif(GPU, reason="there is a GPU: nothing to refuse")
@pytest.mark.parametrize(("backend", "mode"), [("pytorch", "eager"), ("keras", "graph")])
def test_a_framework_without_a_gpu_refuses_for_real(tmp_path: Path, backend: str, mode: str) -> None:
    environment = worker_environment(sys.executable, 1, None, tmp_path)
    with (
        Child(sys.executable, environment, tmp_path / "log") as child,
        pytest.raises(WorkerError, match="sees no") as caught,
    ):
        child.ask("prepare", 120, **request_on_cuda(backend, mode, tmp_path))
    assert caught.value.status == "unavailable"


@pytest.mark.skipif(GPU, reason="there is a GPU: nothing to refuse")
def test_onnxruntime_never_falls_back_to_the_cpu(tmp_path: Path) -> None:
    import numpy as np

    write_onnx(tmp_path / "model.onnx")
    np.save(tmp_path / "sample_x.npy", np.zeros((1, 32, 32, 3), np.float32))
    np.save(tmp_path / "sample_y.npy", np.zeros(1, np.int64))
    environment = worker_environment(sys.executable, 1, None, tmp_path)
    with Child(sys.executable, environment, tmp_path / "log") as child, pytest.raises(WorkerError) as caught:
        child.ask("prepare", 120, **request_on_cuda("onnxruntime", "all-optimizations", tmp_path))
    assert caught.value.status == "unavailable", caught.value.reason
    assert "CPU" in caught.value.reason or "no CUDA" in caught.value.reason


def write_onnx(path: Path) -> None:
    """A ReLU with a free batch dimension, written in a process of its own (protobuf warns in ours)."""
    code = (
        "import sys, onnx; from onnx import TensorProto as T, helper as h\n"
        "shape = ['batch', 32, 32, 3]\n"
        "graph = h.make_graph([h.make_node('Relu', ['x'], ['y'])], 'g',\n"
        "  [h.make_tensor_value_info('x', T.FLOAT, shape)], [h.make_tensor_value_info('y', T.FLOAT, shape)])\n"
        "onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid('', 18)], ir_version=10), sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


class FakeOnnxRuntime(types.ModuleType):
    """Records what a CUDA row asks of ONNX Runtime; its sessions compute nothing."""

    def __init__(self) -> None:
        super().__init__("onnxruntime")
        self.calls: list[str] = []
        self.sessions: list[tuple[dict[str, Any], Any]] = []
        fake = self

        class Options:
            def __init__(self) -> None:
                self.set: dict[str, Any] = {}

            def add_session_config_entry(self, key: str, value: str) -> None:
                self.set[key] = value

            def add_free_dimension_override_by_name(self, name: str, size: int) -> None:
                self.set[f"dimension {name}"] = size

        class Value:
            @staticmethod
            def ortvalue_from_numpy(x: Any, device: str, number: int) -> str:
                fake.calls.append(f"copy to {device}")
                return "value"

            @staticmethod
            def ortvalue_from_shape_and_type(shape: list[int], dtype: Any, device: str, number: int) -> str:
                return f"{shape} on {device}"

        class Binding:
            def __getattr__(self, name: str) -> Any:
                return lambda *_: fake.calls.append(name)

        class Session:
            def __init__(self, path: str, options: Options, providers: list[Any]) -> None:
                fake.sessions.append((options.set, providers))
                self.providers = [p if isinstance(p, str) else p[0] for p in providers]

            def get_inputs(self) -> list[Any]:
                return [types.SimpleNamespace(name="x", shape=["batch", 3, 32, 32])]

            def get_outputs(self) -> list[Any]:
                return [types.SimpleNamespace(name="y", shape=["batch", 10])]

            def get_providers(self) -> list[str]:
                return self.providers

            def disable_fallback(self) -> None:
                fake.calls.append("disable_fallback")

            def io_binding(self) -> Binding:
                return Binding()

            def run_with_iobinding(self, binding: Binding) -> None:
                fake.calls.append("run_with_iobinding")

        self.SessionOptions, self.OrtValue, self.InferenceSession = Options, Value, Session
        self.GraphOptimizationLevel = types.SimpleNamespace(ORT_DISABLE_ALL=0)
        self.capi = types.SimpleNamespace(onnxruntime_pybind11_state=types.SimpleNamespace(Fail=RuntimeError))

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def preload_dlls(self) -> None:
        self.calls.append("preload_dlls")


def test_onnxruntime_on_cuda_at_its_border(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from backends.onnxruntime import Adapter

    fake = FakeOnnxRuntime()
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    adapter = Adapter("cuda", "fp32", "all-optimizations", 2, 0)
    adapter.load(Path("model.onnx"))
    bound, _ = adapter.to_device(np.zeros((128, 32, 32, 3), np.float32))
    adapter.forward(bound)
    declaration, *sessions = fake.sessions
    assert declaration[1] == ["CPUExecutionProvider"], "reads the declaration, runs nothing"
    assert [options["dimension batch"] for options, _ in sessions] == [1, 128], "static shapes, one session each"
    for options, providers in sessions:
        ((name, settings),) = providers  # a second provider would be a fall-back
        assert name == "CUDAExecutionProvider"
        assert settings["use_tf32"] == "0"
        assert settings["cudnn_conv_algo_search"] == "EXHAUSTIVE"
        assert options["session.disable_cpu_ep_fallback"] == "1"
    assert fake.calls[0] == "preload_dlls"
    assert fake.calls.count("disable_fallback") == 2
    assert fake.calls[-7:] == [
        "disable_fallback",
        "copy to cuda",
        "bind_ortvalue_input",
        "bind_ortvalue_output",
        "synchronize_inputs",
        "run_with_iobinding",
        "synchronize_outputs",
    ]


PYTORCH_BORDER = """
import json, torch
from types import SimpleNamespace
calls = []
torch.cuda.synchronize = lambda *a: calls.append('synchronize')
torch.cuda.max_memory_allocated = lambda *a: 10
torch.cuda.max_memory_reserved = lambda *a: 20
from backends.pytorch import Adapter
adapter = Adapter('cpu', 'fp32', 'eager', 1, 0)
adapter.synchronize()
before = list(calls)
adapter._device = SimpleNamespace(type='cuda')
adapter.synchronize()
print(json.dumps({
    'cpu_calls': before, 'cuda_calls': calls, 'memory': adapter.device_memory(),
    'tf32': torch.backends.cudnn.allow_tf32, 'matmul': torch.get_float32_matmul_precision(),
    'conv': torch.backends.cudnn.conv.fp32_precision, 'autotuning': torch.backends.cudnn.benchmark,
}))
"""

KERAS_BORDER = """
import json
from backends.keras import Adapter
adapter = Adapter('cpu', 'fp32', 'graph', 1, 0)
import tensorflow as tf
calls = []
tf.test.experimental.sync_devices = lambda: calls.append('sync_devices')
adapter.synchronize()
before = list(calls)
adapter._device = '/GPU:0'
adapter.synchronize()
try:
    adapter.to_device(__import__('numpy').zeros((1, 2, 2, 3), 'float32'))
    placed = 'ran on the CPU'
except Exception as error:
    placed = type(error).__name__
print(json.dumps({
    'cpu_calls': before, 'cuda_calls': calls, 'placed': placed,
    'tf32': tf.config.experimental.tensor_float_32_execution_enabled(),
}))
"""


def told(code: str) -> dict[str, Any]:
    """What a script prints last, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_pytorch_fences_on_cuda_only_and_states_tf32() -> None:
    found = told(PYTORCH_BORDER)
    assert (found["cpu_calls"], found["cuda_calls"]) == ([], ["synchronize"])
    assert found["memory"] == {"peak_allocated": 10, "peak_reserved": 20}
    assert (found["tf32"], found["matmul"], found["autotuning"]) == (False, "highest", True)
    assert found["conv"] in ("none", "ieee"), "the getter works after the switch, and says: not TF32"


@pytest.mark.skipif(GPU, reason="there is a GPU: the placement would succeed")
def test_keras_fences_on_cuda_only_and_never_places_softly() -> None:
    found = told(KERAS_BORDER)
    assert (found["cpu_calls"], found["cuda_calls"]) == ([], ["sync_devices"])
    assert found["placed"] == "InvalidArgumentError"
    assert found["tf32"] is False


@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.skipif(not GPU, reason=f"no GPU here: {nvml.gpus()[1]}")
def test_gpu_check_on_a_gpu(bench: Bench) -> None:
    del bench.environment["CUDA_VISIBLE_DEVICES"]
    done = bench("gpu-check", "--backend", "pytorch", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr

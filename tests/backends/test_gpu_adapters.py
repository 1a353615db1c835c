"""Adapters on CUDA without a GPU: refusals for real, frameworks faked or patched at their border, order of calls."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bench.machine import nvml
from bench.runner.plan import Row
from bench.runner.worker_environment import worker_environment
from bench.runner.worker_process import WorkerError, WorkerProcess
from bench.worker.protocol import Job, Prepare, Work
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES

JOB = Job(backend="b", mode="m", model="article-pytorch", dataset="digits", recipe="article-keras", threads=1)
GPU = bool(nvml.gpus()[0])


def on_cuda(backend: str, mode: str, folder: Path) -> Prepare:
    return Prepare(
        work=Work(
            job=replace(JOB, backend=backend, device="cuda", mode=mode),
            model=MODELS["article-pytorch"].to_dict(),
            recipe=asdict(RECIPES["article-pytorch"]),
            data=folder,
            file=folder / "model.onnx",
        )
    )


@pytest.mark.usefixtures("process")
@pytest.mark.skipif(GPU, reason="there is a GPU: nothing to refuse")
@pytest.mark.parametrize(("backend", "mode"), [("pytorch", "eager"), ("keras", "graph")])
def test_a_framework_without_a_gpu_refuses_for_real(tmp_path: Path, backend: str, mode: str) -> None:
    environment = worker_environment(Row(JOB, "b", frozenset(), sys.executable, None), tmp_path)
    with (
        WorkerProcess(sys.executable, environment, tmp_path / "log") as worker,
        pytest.raises(WorkerError, match="sees no") as caught,
    ):
        worker.ask(on_cuda(backend, mode, tmp_path), 120)
    assert caught.value.status == "unavailable"


@pytest.mark.usefixtures("process")
@pytest.mark.skipif(GPU, reason="there is a GPU: nothing to refuse")
def test_onnxruntime_never_falls_back_to_the_cpu(tmp_path: Path) -> None:
    import numpy as np

    write_onnx(tmp_path / "model.onnx")
    np.save(tmp_path / "sample_x.npy", np.zeros((1, 32, 32, 3), np.float32))
    np.save(tmp_path / "sample_y.npy", np.zeros(1, np.int64))
    environment = worker_environment(Row(JOB, "b", frozenset(), sys.executable, None), tmp_path)
    with WorkerProcess(sys.executable, environment, tmp_path / "log") as worker, pytest.raises(WorkerError) as caught:
        worker.ask(on_cuda("onnxruntime", "all-optimizations", tmp_path), 120)
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
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=300)


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
                return [types.SimpleNamespace(name="y", shape=["batch", 10], type="tensor(float)")]

            def get_providers(self) -> list[str]:
                return self.providers

            def disable_fallback(self) -> None:
                fake.calls.append("disable_fallback")

            def io_binding(self) -> Binding:
                return Binding()

            def run_with_iobinding(self, binding: Binding) -> None:
                fake.calls.append("run_with_iobinding")

        self.SessionOptions, self.OrtValue, self.InferenceSession = Options, Value, Session
        self.GraphOptimizationLevel = types.SimpleNamespace(ORT_DISABLE_ALL=0, ORT_ENABLE_ALL=99)
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
adapter._engine._device, adapter._engine.on_gpu = '/GPU:0', True
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.usefixtures("process")
def test_pytorch_fences_on_cuda_only_and_states_tf32() -> None:
    found = told(PYTORCH_BORDER)
    assert (found["cpu_calls"], found["cuda_calls"]) == ([], ["synchronize"])
    assert found["memory"] == {"peak_allocated": 10, "peak_reserved": 20}
    assert (found["tf32"], found["matmul"], found["autotuning"]) == (False, "highest", True)
    assert found["conv"] in ("none", "ieee"), "the getter works after the switch, and says: not TF32"


@pytest.mark.usefixtures("process")
@pytest.mark.skipif(GPU, reason="there is a GPU: the placement would succeed")
def test_keras_fences_on_cuda_only_and_never_places_softly() -> None:
    found = told(KERAS_BORDER)
    assert (found["cpu_calls"], found["cuda_calls"]) == ([], ["sync_devices"])
    assert found["placed"] == "InvalidArgumentError"
    assert found["tf32"] is False


@pytest.mark.usefixtures("process")
def test_pytorchs_running_statistics_are_read_where_they_are_now() -> None:
    """``Module.to`` puts new tensors in the place of buffers, on a GPU as here in another precision."""
    code = """
import json
import numpy as np
from backends.model import BatchNorm, Dense, Flatten, ModelSpec
from backends.pytorch import Adapter
spec = ModelSpec('one', (1, 1, 4), (Flatten(), BatchNorm(), Dense(2)))
weights = spec.initial_weights(0)
adapter = Adapter('cpu', 'bf16', 'eager', 1, 0)
adapter.build(spec, weights, None)
apart = {name: float(np.abs(value - weights[name]).max()) for name, value in adapter.weights().items()}
print(json.dumps(apart))
"""
    apart = told(code)
    assert set(apart) >= {"batch_norm_1.gamma", "batch_norm_1.mean", "batch_norm_1.variance"}
    assert all(0 < difference < 5e-3 for difference in apart.values()), "what is read has been rounded to bfloat16"


def test_a_kernel_counts_once_for_the_operator_that_launched_it() -> None:
    """torch.profiler lists a kernel beside its operator, whose device time is the kernel's."""
    from backends.torch_profile import by_layer

    def event(name: str, kind: str, device_us: float, parent: Any = None, sequence: int = -1) -> Any:
        return types.SimpleNamespace(
            name=name, device_type=types.SimpleNamespace(name=kind), self_device_time_total=device_us,
            self_cpu_time_total=9.0, cpu_parent=parent, sequence_nr=sequence,
        )  # fmt: skip

    layer = event("layer:dense_1", "CPU", 0.0)
    forward = event("aten::addmm", "CPU", 30.0, layer, sequence=4)
    engine = event("autograd::engine::evaluate_function: AddmmBackward0", "CPU", 0.0, sequence=4)
    backward = event("aten::mm", "CPU", 50.0, engine)
    kernels = [event("sm90_gemm", "CUDA", 30.0), event("sm90_gemm", "CUDA", 50.0)]
    found = by_layer([layer, forward, engine, backward, *kernels], 2, on_gpu=True)
    assert {(o.name, o.layer, o.backward, round(1e6 * o.seconds, 3)) for o in found} == {
        ("aten::addmm", "dense_1", False, 15.0),
        ("aten::mm", "dense_1", True, 25.0),
    }

"""OpenVINO: it runs the ONNX file that another backend exported, on the CPU.

Precision is never left to the plugin: with its defaults it computes float32 models in bfloat16 where the processor has
it. Each row sets ``INFERENCE_PRECISION_HINT`` and reads it back from the compiled model. A model is compiled for each
batch size, as OpenVINO's manual advises: with a free batch dimension its kernels are chosen at run time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np

from backends import onnx_converter
from backends.base import Backend, Images, Labels, Operator, Unsupported

Shapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
"""The name and shape of every input."""

_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
"""Precision to inference precision. int8: that of the nodes that are not quantized."""
_CAPABILITIES = {"bf16": "BF16", "fp16": "FP16", "int8": "INT8"}
"""Precision to what the plugin must say of the processor."""
_KINDS = {"Convolution": "Conv", "GroupConvolution": "Conv", "FullyConnected": "Gemm"}
"""The plugin's names of operators to those of a file's nodes, where they differ and hold a kernel."""
_NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


class Part(NamedTuple):
    """A share of a batch, with the request that computes it."""

    request: Any
    inputs: dict[str, Any]
    output: Any
    """Where the request writes its first output; None: it allocates it."""


class Placed(NamedTuple):
    """A batch as inputs of one request for each stream, with the array that all of them write to."""

    parts: tuple[Part, ...]
    output: Any


class Adapter(Backend):
    TASKS: ClassVar[frozenset[str]] = frozenset({"infer"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu",)
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16", "int8")
    MODES: ClassVar[tuple[str, ...]] = ("latency", "throughput")
    READS: ClassVar[tuple[str, ...]] = ("onnx",)
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (("openvino",),)
    EXTRA: ClassVar[str | None] = "openvino"

    def __init__(self, device: str, precision: str, mode: str, threads: int, seed: int) -> None:
        import openvino

        self._ov, self._core = openvino, openvino.Core()
        self._precision, self._mode, self._threads, self._counts = precision, mode, threads, False
        needed, has = _CAPABILITIES.get(precision), self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if needed is not None and needed not in has:
            raise Unsupported(f"OpenVINO has no {precision} on this processor; it names {', '.join(has)}")

    def versions(self) -> dict[str, str]:
        return {"openvino": self._ov.__version__.partition("-")[0]}

    def settings(self) -> dict[str, Any]:
        compiled = next(iter(self._compiled.values()), None)
        if compiled is None:
            compiled = self._core.compile_model(self._core.read_model(self._path), "CPU", self._properties())
        read = compiled.get_property
        precision, streams = read("INFERENCE_PRECISION_HINT").get_type_name(), read("NUM_STREAMS")
        return {
            "threads": read("INFERENCE_NUM_THREADS"),
            "streams": streams,
            "fast_path": f"{self._mode} hint, streams: {streams}; compiled for each batch size",
            "computes_in": _NAMES.get(precision, precision),
            "computes_in_by": "INFERENCE_PRECISION_HINT",
            "denormals": "flushed" if read("CPU_DENORMALS_OPTIMIZATION") else "kept",
            "execution_devices": ", ".join(read("EXECUTION_DEVICES")),
            "visible_devices": ", ".join(self._core.available_devices),
        }

    def convert(self, path: Path, out: Path, calibration: Images, largest_batch: int) -> None:
        """int8: a file in QDQ form. bf16 and fp16: the file as it is, because the plugin converts it by its hint."""
        if self._precision == "int8":
            self.load(path)
            onnx_converter.to_int8(path, out, self._layout(calibration))
        else:
            shutil.copyfile(path, out)

    def load(self, path: Path) -> None:
        self._path = str(path)
        self._compiled: dict[Shapes, Any] = {}
        self._requests: dict[Shapes, dict[int, Any]] = {}
        self._counts = False
        model = self._core.read_model(self._path)
        self._inputs = {each.get_any_name(): each.partial_shape for each in model.inputs}
        self._outputs = [each.get_any_name() if each.get_names() else str(n) for n, each in enumerate(model.outputs)]
        self._input = next(iter(self._inputs), None)

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Placed, Labels | None]:
        if isinstance(x, dict):
            shares = [{name: np.ascontiguousarray(each) for name, each in x.items()}]
        else:
            images = self._layout(x)
            streams = self._threads if self._mode == "throughput" else 1
            shares = [{self._input: share} for share in np.array_split(images, min(streams, len(images)))]
        compiled = [self._compile(_shapes_of(share)) for share in shares]
        if compiled[0].output(0).partial_shape.is_dynamic:  # the request allocates its outputs, and keeps them
            return Placed((Part(compiled[0].create_infer_request(), self._tensors(shares[0]), None),), None), y
        shapes = [tuple(each.output(0).shape) for each in compiled]
        rows = [shape[:1] or (1,) for shape in shapes]
        out = np.empty((sum(n for (n,) in rows), *shapes[0][1:]), compiled[0].output(0).element_type.to_dtype())
        parts, begin = [], 0
        for number, (share, (count,)) in enumerate(zip(shares, rows, strict=True)):
            free = self._requests.setdefault(_shapes_of(share), {})
            if number not in free:
                free[number] = compiled[number].create_infer_request()
            into = self._ov.Tensor(out[begin : begin + count].reshape(shapes[number]), shared_memory=True)
            parts.append(Part(free[number], self._tensors(share), into))
            begin += count
        return Placed(tuple(parts), out.reshape(shapes[0]) if len(parts) == 1 else out), y

    def _tensors(self, named: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._ov.Tensor(np.asarray(each)) for name, each in named.items()}

    def forward(self, x: Placed) -> Placed:
        for part in x.parts:
            for name, tensor in part.inputs.items():
                part.request.set_tensor(name, tensor)
            if part.output is not None:
                part.request.set_output_tensor(0, part.output)
            if len(x.parts) == 1:
                part.request.infer()
            else:
                part.request.start_async()
        for part in x.parts if len(x.parts) > 1 else ():
            part.request.wait()
        return x

    def outputs(self, x: Mapping[str, Any]) -> dict[str, Any]:
        compiled = self._compile(_shapes_of(x))
        values = compiled.create_infer_request().infer(dict(x), share_inputs=False)
        return {name: np.array(values[number]) for number, name in enumerate(self._outputs)}

    def roof_kernels(self, size: int, length: int) -> dict[str, Callable[[], Any]]:
        file = onnx_converter.product(size) if self._precision != "int8" else None
        if file is None:
            return {}
        # By all threads, whatever the mode.
        whole = {**self._properties(), "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        request = self._core.compile_model(self._core.read_model(file), "CPU", whole).create_infer_request()
        request.set_input_tensor(self._ov.Tensor(np.ones((size, size), np.float32)))
        return {"product": request.infer}

    def synchronize(self) -> None:
        """Nothing to do: ``forward`` waits for its requests."""

    def to_numpy(self, tensor: Placed) -> Any:
        (part, *_) = tensor.parts
        return np.array(part.request.get_output_tensor(0).data) if tensor.output is None else tensor.output

    def _compile(self, shapes: Shapes) -> Any:
        """The model, compiled for inputs of these shapes."""
        if shapes not in self._compiled:
            model = self._core.read_model(self._path)
            fixed = {name: list(shape) for name, shape in shapes}
            if any(model.input(name).partial_shape.is_dynamic for name in fixed):
                model.reshape(fixed)
            self._compiled[shapes] = self._core.compile_model(model, "CPU", self._properties())
        return self._compiled[shapes]

    def operators(self, make_step: Callable[[], Callable[[], object]], steps: int) -> list[Operator]:
        """By OpenVINO's performance counts of a model that is compiled with them."""
        compiled, requests = self._compiled, self._requests
        self._compiled, self._requests, self._counts = {}, {}, True
        try:
            step, spent = make_step(), dict[tuple[str, str, str], float]()
            step()
            for _ in range(steps):
                step()
                for request in (each for free in self._requests.values() for each in free.values()):
                    for node in request.get_profiling_info():
                        note = "fell to a reference implementation" if node.exec_type.startswith("ref") else ""
                        note = note or (
                            "inserted by the runtime: another layout" if node.node_type == "Reorder" else ""
                        )
                        key = (node.node_name, node.node_type, note)
                        spent[key] = spent.get(key, 0.0) + node.real_time.total_seconds() / steps
        finally:
            self._compiled, self._requests, self._counts = compiled, requests, False
        return [
            Operator(name, _KINDS.get(kind, kind), "", False, seconds, note)
            for (name, kind, note), seconds in spent.items()
        ]

    def _properties(self) -> dict[str, Any]:
        return {
            **({"PERF_COUNT": True} if self._counts else {}),
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
            "PERFORMANCE_HINT": self._mode.upper(),
            "NUM_STREAMS": self._threads if self._mode == "throughput" else 1,
            "INFERENCE_NUM_THREADS": self._threads,
            "CPU_DENORMALS_OPTIMIZATION": True,
            "ENABLE_CPU_PINNING": False,  # the harness sets the CPUs of the process
        }

    def _layout(self, x: Images) -> Images:
        """The images in the layout of the declared input: channels first if the file has it."""
        sides = self._inputs[self._input]
        declared = tuple(side.get_length() if side.is_static else None for side in sides)[1:]
        channels_first = x.ndim == 4 and declared == (x.shape[3], *x.shape[1:3]) and declared != x.shape[1:]
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if channels_first else x)


def _shapes_of(named: Mapping[str, Any]) -> Shapes:
    return tuple((name, np.asarray(each).shape) for name, each in named.items())

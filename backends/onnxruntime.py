"""ONNX Runtime: it runs the ONNX file that another backend exported. Device-resident inference uses I/O binding.

On CUDA, the fall-back to the CPU is disabled (``session.disable_cpu_ep_fallback``, one provider listed). The batch
dimension is fixed per session, so that shape arithmetic is constant instead of running on the CPU.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from backends import onnx_converter
from backends.base import Backend, Images, Labels, Operator, Unavailable, Unsupported, build_of
from backends.model import ModelSpec
from backends.script import FILE, Script

_LEVELS = {
    "all-optimizations": "ORT_ENABLE_ALL",
    "extended-optimizations": "ORT_ENABLE_EXTENDED",
    "basic-optimizations": "ORT_ENABLE_BASIC",
    "no-optimizations": "ORT_DISABLE_ALL",
    "openvino-provider": "ORT_DISABLE_ALL",
}
"""Mode to graph optimization level; OpenVINO optimizes the graph itself."""
_PROVIDERS = {"openvino-provider": ("OpenVINOExecutionProvider", "onnxruntime-openvino")}
"""Mode to an execution provider on the CPU, and the package that has it."""


class Bound(NamedTuple):
    """A batch on the device, bound to a session's input and to its own output."""

    session: Any
    binding: Any
    input: Any
    """A reference to the arrays: on the CPU, the bound value uses their memory."""
    output: Any


class Adapter(Backend):
    TASKS: ClassVar[frozenset[str]] = frozenset({"infer"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "int8")
    MODES: ClassVar[tuple[str, ...]] = tuple(_LEVELS)
    READS: ClassVar[tuple[str, ...]] = ("onnx",)
    UNOPTIMIZED_MODE: ClassVar[str | None] = "no-optimizations"
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (("onnxruntime-gpu", "onnxruntime", "onnxruntime-openvino"),)
    EXTRA: ClassVar[str | None] = "onnx"

    def __init__(self, device: str, precision: str, mode: str, threads: int, seed: int) -> None:
        import onnxruntime

        if precision == "int8" and device == "cuda":
            raise Unsupported(
                "static int8 in QDQ form is fast on the CPU and in TensorRT; the CUDA provider would convert it back"
            )
        provider, package = _PROVIDERS.get(mode, ("CPUExecutionProvider", ""))
        if package and (device == "cuda" or precision == "fp16"):
            raise Unsupported(f"the mode {mode} is for fp32 and int8 on the CPU")
        if provider not in onnxruntime.get_available_providers():
            raise Unavailable(
                f"this build of ONNX Runtime has no {provider}: pip install {package} into an environment of its own,"
                " and name it (--python onnxruntime=PATH)"
            )
        self._ort, self._provider = onnxruntime, provider
        self._device, self._profile = device, ""
        self._precision, self._mode = precision, mode
        self._threads = threads
        if device == "cuda":
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                raise Unavailable("this build of ONNX Runtime has no CUDA: pip install onnxruntime-gpu")
            onnxruntime.preload_dlls()  # finds the CUDA libraries among the installed packages

    @classmethod
    def script(
        cls, model: ModelSpec, device: str, precision: str, mode: str, threads: int, source: Script | None = None
    ) -> Script:
        if source is None or not source.export or device != "cpu" or precision != "fp32" or mode in _PROVIDERS:
            raise Unsupported("plain code of ONNX Runtime is for fp32 files on the CPU, with its own provider")
        level = f"onnxruntime.GraphOptimizationLevel.{_LEVELS[mode]}"
        session = (
            "options = onnxruntime.SessionOptions()",
            f"options.intra_op_num_threads, options.inter_op_num_threads = {threads}, 1",
            f"options.graph_optimization_level = {level}",
            'options.add_session_config_entry("session.set_denormal_as_zero", "1")',
            f'session = onnxruntime.InferenceSession("{FILE}", options, providers=["CPUExecutionProvider"])',
            "((name, shape),) = ((each.name, tuple(each.shape[1:])) for each in session.get_inputs())",
        )
        infer = (
            "def infer(x):",
            "    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if shape != x.shape[1:] else x",
            "    return session.run(None, {name: x})[0]",
        )
        return Script(
            packages=(*source.packages, *source.exporter, "onnxruntime"),
            imports=("import onnxruntime", *source.imports),
            settings=(),
            model=(*source.model, *source.export, *session),
            infer=infer,
        )

    def versions(self) -> dict[str, str]:
        cuda = "CUDAExecutionProvider" in self._ort.get_available_providers()
        build = f"CUDA {getattr(self._ort, 'cuda_version', '')}".strip() if cuda else "CPU"
        # Several packages hold this module: the one whose version it has is the one that was imported.
        names = [name for name in self.REQUIRES[0] if _version(name) == self._ort.__version__]
        return {next(iter(names), "onnxruntime"): self._ort.__version__, build_of("onnxruntime"): build}

    def settings(self) -> dict[str, Any]:
        options = self._any_session().get_session_options()
        settings = {
            "threads": options.intra_op_num_threads,
            "inter_op_threads": options.inter_op_num_threads,
            "fast_path": f"sequential execution, {self._mode.replace('-', ' ')}; device-resident by I/O binding",
            "graph_optimization_level": options.graph_optimization_level.name,
            "nodes_per_provider": self.nodes_per_provider(),
        }
        if self._device == "cuda":
            chosen = self._any_session().get_provider_options()["CUDAExecutionProvider"]
            settings |= {"tf32": chosen.get("use_tf32"), "autotuning": chosen.get("cudnn_conv_algo_search")}
        return settings

    def convert(self, path: Path, out: Path, calibration: Images, largest_batch: int) -> None:
        if self._precision == "fp16":
            onnx_converter.to_fp16(path, out)
        else:
            self.load(path)
            onnx_converter.to_int8(path, out, self._layout(calibration))

    def load(self, path: Path) -> None:
        self._path = str(path)
        self._sessions: dict[tuple[int, ...], Any] = {}
        session = self._declaration() if self._device == "cuda" else self._session({})
        self._inputs, self._outputs = session.get_inputs(), session.get_outputs()
        self._input, self._output = (self._inputs or [None])[0], self._outputs[0]
        if self._device == "cuda" and len(self._open_sides()) == 1 and len(self._inputs) == 1:
            self._session_of((1,))  # create the session now and not at the first call

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Bound, Labels | None]:
        named = self._named(x)
        size = len(next(iter(named.values()))) if y is not None or not isinstance(x, dict) else 0
        session = self._session(named)
        binding = session.io_binding()
        placed = {name: self._ort.OrtValue.ortvalue_from_numpy(each, self._device, 0) for name, each in named.items()}
        for name, value in placed.items():
            binding.bind_ortvalue_input(name, value)
        output, shape = None, [size, *self._output.shape[1:]]
        fixed = size and all(isinstance(side, int) for side in shape) and self._output.type == "tensor(float)"
        if fixed:
            output = self._ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, self._device, 0)
            binding.bind_ortvalue_output(self._output.name, output)
        for each in self._outputs[1:] if fixed else self._outputs:  # the sizes are known only after the run
            binding.bind_output(each.name, self._device if each.type.startswith("tensor(") else "cpu")
        binding.synchronize_inputs()
        return Bound(session, binding, (placed, named), output), y

    def forward(self, x: Bound) -> Bound:
        x.session.run_with_iobinding(x.binding)
        if self._device == "cuda":
            x.binding.synchronize_outputs()
        return x

    def infer(self, x: Images) -> Any:
        named = self._named(x)
        return self._session(named).run(None, named)[0]

    def outputs(self, x: Mapping[str, Any]) -> dict[str, Any]:
        values = self._session(dict(x)).run(None, dict(x))
        return dict(zip((each.name for each in self._outputs), values, strict=True))

    def _named(self, x: Images | dict[str, Images]) -> dict[str, Images]:
        """Arrays by input. A single input is in canonical layout; several are as the file declares them."""
        return x if isinstance(x, dict) else {self._input.name: self._layout(x)}

    def synchronize(self) -> None:
        """Nothing to do: ``forward`` synchronizes its outputs before it returns."""

    def to_numpy(self, tensor: Bound) -> Any:
        return tensor.binding.copy_outputs_to_cpu()[0] if tensor.output is None else tensor.output.numpy()

    def nodes_per_provider(self) -> dict[str, int]:
        """Number of graph nodes that each execution provider runs, counted when they are assigned: after the basic
        optimizations and before the fusions of the higher levels."""
        assignment = self._any_session().get_provider_graph_assignment_info()
        counts: dict[str, int] = {}
        for subgraph in assignment:
            counts[subgraph.ep_name] = counts.get(subgraph.ep_name, 0) + len(subgraph.get_nodes())
        return counts

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError) or "Failed to allocate memory" in str(error)

    def roof_kernels(self, size: int, length: int) -> dict[str, Callable[[], Any]]:
        """A product on the CPU: libraries for it differ by a factor of two there."""
        file = onnx_converter.product(size) if (self._device, self._precision) == ("cpu", "fp32") else None
        if file is None:
            return {}
        session = self._ort.InferenceSession(file, self._options(), providers=["CPUExecutionProvider"])
        a = np.ones((size, size), np.float32)
        return {"product": lambda: session.run(None, {"a": a})}

    def operators(self, make_step: Callable[[], Callable[[], object]], steps: int) -> list[Operator]:
        """By ONNX Runtime's own profile of a session with the same options."""
        sessions, self._sessions = self._sessions, {}
        with tempfile.TemporaryDirectory() as folder:
            self._profile = str(Path(folder) / "profile")
            try:
                step = make_step()
                for _ in range(1 + steps):
                    step()
                self.synchronize()
                files = [session.end_profiling() for session in self._sessions.values()]
            finally:
                self._profile, self._sessions = "", sessions
            nodes = [
                event
                for file in files
                for event in json.loads(Path(file).read_text())
                if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
            ]
        calls: dict[str, list[dict[str, Any]]] = {}
        for node in nodes:
            calls.setdefault(node["name"].removesuffix("_kernel_time"), []).append(node)
        return [self._operator(name, called, steps) for name, called in calls.items()]

    def _operator(self, name: str, called: list[dict[str, Any]], steps: int) -> Operator:
        per_step = max(1, len(called) // (steps + 1))
        seconds = sum(node["dur"] for node in called[per_step:]) / 1e6 / steps  # without the first step
        kind, provider = called[0]["args"]["op_name"], called[0]["args"]["provider"]
        note = "inserted by the runtime: another layout" if kind.startswith("Reorder") else ""
        if provider != (self._provider if isinstance(self._provider, str) else self._provider[0]):
            note = f"fell to {provider}"
        return Operator(name, kind, "", False, seconds, note)

    def gpu_probe(self) -> dict[str, float]:
        """Median seconds of a bound run without and with an explicit fence after it."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((128, *self._input.shape[1:])).astype(np.float32)
        bound, _ = self.to_device(x)
        seconds: dict[str, list[float]] = {"implicit_fence_s": [], "explicit_fence_s": []}
        for turn in range(40):
            name = ("implicit_fence_s", "explicit_fence_s")[turn % 2]
            begin = time.perf_counter()
            bound.session.run_with_iobinding(bound.binding)
            if name == "explicit_fence_s":
                bound.binding.synchronize_outputs()
            seconds[name].append(time.perf_counter() - begin)
            bound.binding.synchronize_outputs()
        return {name: float(np.median(values)) for name, values in seconds.items()}

    def _layout(self, x: Images) -> Images:
        """The images in the layout of the declared input: channels first if the file has it."""
        declared = tuple(self._input.shape[1:])
        channels_first = x.ndim == 4 and declared == (x.shape[3], *x.shape[1:3]) and declared != x.shape[1:]
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2) if channels_first else x)

    def _declaration(self) -> Any:
        """A session that is only used to read the declared inputs and outputs; the others fix the batch size."""
        options = self._ort.SessionOptions()
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        return self._ort.InferenceSession(self._path, options, providers=["CPUExecutionProvider"])

    def _any_session(self) -> Any:
        return (
            next(iter(self._sessions.values())) if self._sessions else self._session_of((1,) * len(self._open_sides()))
        )

    def _open_sides(self) -> dict[str, tuple[str, int]]:
        """The symbols of sides that the inputs leave open, each with an input and the side's number."""
        return {
            side: (each.name, number)
            for each in self._inputs
            for number, side in enumerate(each.shape)
            if isinstance(side, str)
        }

    def _session(self, named: Mapping[str, Any]) -> Any:
        """The session for these inputs: the CPU has one for all, CUDA has one for the lengths of the open sides."""
        if self._device != "cuda":
            return self._session_of(())
        return self._session_of(tuple(named[name].shape[number] for name, number in self._open_sides().values()))

    def _options(self) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.set_denormal_as_zero", "1")  # it would keep them for its threads
        return options

    def _session_of(self, key: tuple[int, ...]) -> Any:
        if key not in self._sessions:
            options = self._options()
            if self._profile:
                options.enable_profiling, options.profile_file_prefix = True, self._profile
            options.graph_optimization_level = getattr(self._ort.GraphOptimizationLevel, _LEVELS[self._mode])
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
            provider: Any = self._provider
            if provider == "OpenVINOExecutionProvider":
                provider = (provider, {"device_type": "CPU", "precision": "FP32", "num_of_threads": str(self._threads)})
            if self._device == "cuda":
                for symbol, length in zip(self._open_sides(), key, strict=True):
                    options.add_free_dimension_override_by_name(symbol, length)
                options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
                provider = (
                    "CUDAExecutionProvider",
                    {
                        "use_tf32": "0",
                        "cudnn_conv_algo_search": "EXHAUSTIVE",
                        "arena_extend_strategy": "kSameAsRequested",
                    },
                )
            self._sessions[key] = self._open(options, provider)
        return self._sessions[key]

    def _open(self, options: Any, provider: Any) -> Any:
        try:
            session = self._ort.InferenceSession(self._path, options, providers=[provider])
        except self._ort.capi.onnxruntime_pybind11_state.Fail as error:
            if self._device == "cuda" and "CPU EP" in str(error):
                raise Unavailable(
                    "ONNX Runtime would have run on the CPU: no GPU, or no CUDA 13 and cuDNN 9"
                ) from error
            raise
        session.disable_fallback()
        actual = session.get_providers()[0]
        requested = provider if isinstance(provider, str) else provider[0]
        if actual != requested:
            raise Unavailable(f"requested {requested} from ONNX Runtime, got {actual}")
        return session


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

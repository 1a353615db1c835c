"""What the three engines of Keras 3 do differently: threads, the loop of training, waiting, memory.

Each follows Keras' guide for its engine: "Writing a training loop from scratch in TensorFlow", "in JAX", "in PyTorch".
The modules of engines are imported in ``__init__`` only.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from backends import torch_profile, xla_profile, xplane
from backends.base import OUTSIDE, ImageFiles, InputPipeline, Operator, Spread, Unavailable, Unsupported, build_of
from backends.grain_loader import GrainLoader
from backends.jax import SHARDED, Sharding, start, versions
from backends.pytorch import set_tf32
from backends.tf_data import TfData
from backends.torch_loader import TorchLoader

if TYPE_CHECKING:
    from backends.keras import Adapter


def leave_out_tensorflow() -> None:
    """Keras imports TensorFlow on its other engines too, where it is installed. A row would start seconds later and
    hold hundreds of MB more because of a package that it does not use."""
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # its import fails as if it were not there


class Compiled(NamedTuple):
    """The functions of a built model, of the engine's own tensors: images, labels, masks of dropout by layer or
    None."""

    forward: Callable[[Any], Any]
    step: Callable[[Any, Any, Any], Any]
    gradients: Callable[[Any, Any, Any], list[Any]]


class TensorFlow:
    """``tf.function`` around forward, loss, gradient and update. ``jit_compile`` is always passed explicitly: Keras'
    "auto" means XLA if a GPU is visible and no XLA on the CPU."""

    NAME, MODES = "tensorflow", ("graph", "xla", "eager")

    def __init__(self, device: str, precision: str, mode: str, threads: int) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        if device == "cpu" and precision == "fp16":
            raise Unsupported("fp16 needs CUDA (TensorFlow computes it on the CPU without fast kernels); bf16 has them")
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.set_soft_device_placement(False)  # else /GPU:0 runs on the CPU if there is no GPU
        tf.config.experimental.enable_tensor_float_32_execution(False)
        gpus = tf.config.list_physical_devices("GPU")
        if device == "cuda" and not gpus:
            raise Unavailable(
                "TensorFlow sees no GPU (the package tensorflow has no CUDA; install the extra keras-cuda)"
            )
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)  # else it reserves the whole GPU memory
        self._tf, self._mode, self.on_gpu = tf, mode, device == "cuda"
        self._device = "/GPU:0" if self.on_gpu else "/CPU:0"

    def versions(self) -> dict[str, str]:
        built = self._tf.sysconfig.get_build_info()
        cuda = f"CUDA {built.get('cuda_version', '')}".strip()
        return {
            "tensorflow": self._tf.__version__,
            build_of("tensorflow"): cuda if built["is_cuda_build"] else "CPU",
            **{name: version(name) for name in ("onnx", "tf2onnx")},
        }

    def settings(self) -> dict[str, Any]:
        config = self._tf.config
        settings = {
            "threads": config.threading.get_intra_op_parallelism_threads(),
            "inter_op_threads": config.threading.get_inter_op_parallelism_threads(),
            "fast_path": self._describe_mode(),
        }
        if self.on_gpu:
            settings["tf32"] = config.experimental.tensor_float_32_execution_enabled()
            settings["autotuning"] = os.environ.get("TF_CUDNN_USE_AUTOTUNE", "1") != "0"
            gpu = config.list_physical_devices("GPU")[0]
            settings["device"] = config.experimental.get_device_details(gpu).get("device_name", "unknown")
        return settings

    def _describe_mode(self) -> str:
        if self._mode == "eager":
            return "eager, operation by operation"
        return f"tf.function, jit_compile={self._mode == 'xla'}, one graph for forward, loss, backward, update"

    def scope(self) -> Any:
        """The device on which everything is made and run."""
        return self._tf.device(self._device)

    def compile(self, adapter: Adapter) -> Compiled:
        tf, optimizer, trained = self._tf, adapter.optimizer, adapter.trained_variables
        fp16 = adapter.precision == "fp16"
        scale = optimizer.scale_loss if optimizer is not None and fp16 else lambda value: value

        def loss_and_gradients(x: Any, y: Any, masks: Any, scale: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = adapter.loss(y, adapter.logits(x, masks))
                scaled = scale(loss)
            return loss, tape.gradient(scaled, trained)

        def step(x: Any, y: Any, masks: Any = None) -> Any:
            loss, gradients = loss_and_gradients(x, y, masks, scale)
            if adapter.decay:
                gradients = [g + scale(adapter.decay * v) for g, v in zip(gradients, trained, strict=True)]
            optimizer.apply(gradients, trained)
            return loss

        def gradients(x: Any, y: Any, masks: Any = None) -> Any:
            return loss_and_gradients(x, y, masks, lambda value: value)[1]

        if self._mode == "eager":
            return Compiled(lambda x: adapter.native(x, training=False), step, gradients)
        compile_ = tf.function(jit_compile=self._mode == "xla")
        return Compiled(*map(compile_, (lambda x: adapter.native(x, training=False), step, gradients)))

    def tensor(self, array: Any) -> Any:
        value = self._tf.constant(array)
        return self._tf.identity(value) if self.on_gpu else value  # a constant from a host array may be on the host

    def training_tensor(self, array: Any) -> Any:
        return self.tensor(array)

    def to_numpy(self, tensor: Any) -> Any:
        return tensor.numpy()

    def write_back(self) -> None:
        """Nothing to do: the variables hold what was trained."""

    def operators(self, adapter: Adapter, make_step: Callable[[], Callable[[], object]], steps: int) -> list[Operator]:
        """By TensorFlow's profiler, whose operators have the path of their layer."""
        model = adapter.model
        if self._mode == "xla":
            raise Unsupported("XLA fuses layers: TensorFlow's profiler names no operators of them")
        from tensorflow.tsl.profiler.protobuf import xplane_pb2

        step = make_step()
        step()
        with tempfile.TemporaryDirectory() as folder:
            options = self._tf.profiler.experimental.ProfilerOptions(python_tracer_level=0)
            self._tf.profiler.experimental.start(folder, options=options)
            for _ in range(steps):
                step()
            self.synchronize()
            self._tf.profiler.experimental.stop()
            space = xplane_pb2.XSpace.FromString(xplane.profile_file(Path(folder)).read_bytes())
        wanted = "/device:GPU" if self.on_gpu else "/host:CPU"
        events = [
            xplane.Event(plane.event_metadata[event.metadata_id].name, event.duration_ps / 1e12)
            for plane in space.planes
            if plane.name.startswith(wanted)
            for line in plane.lines
            for event in line.events
        ]

        def place(name: str) -> xplane.Place | None:
            path, colon, kind = name.rpartition(":")
            if not colon or not re.fullmatch(r"_?[A-Z]\w*", kind) or "::" in name or " " in name:
                return None
            backward = path.startswith("gradient_tape")
            layer = xplane.layer_in(path, model) or xplane.outside(path)
            return xplane.Place(layer if backward else xplane.with_kernel(layer, kind, model), backward)

        return xplane.by_name(events, steps, place)

    def compiled(self, function: Callable[..., Any]) -> Any:
        """The function as the engine's users compile it."""
        return self._tf.function(function, jit_compile=self._mode == "xla")

    def synchronize(self) -> None:
        if self.on_gpu:
            self._tf.test.experimental.sync_devices()

    def flops(self, native: Any, shape: tuple[int, ...]) -> int | None:
        """FLOPs of one image by TensorFlow's profiler, of convolutions and matrix products only."""
        tf = self._tf
        one = tf.TensorSpec((1, *shape), tf.float32)
        graph = tf.function(lambda x: native(x, training=False)).get_concrete_function(one).graph
        builder = tf.compat.v1.profiler.ProfileOptionBuilder(
            tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
        )
        options = (
            builder.with_accounted_types(["Conv2D", "DepthwiseConv2dNative", "MatMul"]).with_empty_output().build()
        )
        with graph.as_default():
            return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops

    def input_pipeline(self, files: ImageFiles, batch_size: int, workers: int) -> InputPipeline:
        def finish(x: Any, y: Any) -> tuple[Any, Any]:
            if not self.on_gpu:
                return x, y
            with self.scope():
                return self._tf.identity(x), self._tf.identity(y)

        return TfData(self._tf, files, batch_size, workers, finish)

    def device_memory(self) -> dict[str, int]:
        if not self.on_gpu:
            return {}
        return {"peak_allocated": self._tf.config.experimental.get_memory_info("GPU:0")["peak"]}

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, self._tf.errors.ResourceExhaustedError)

    def gpu_probe(self, output: Any) -> dict[str, float]:
        """See ``Backend.gpu_probe``; ``output``: of a forward pass."""
        tf = self._tf
        with tf.device("/GPU:0"):
            a = tf.random.normal((8192, 8192))
            tf.matmul(a, a)
            self.synchronize()
            begin = time.perf_counter()
            product = tf.matmul(a, a)
            unfenced = time.perf_counter() - begin
            self.synchronize()
            probe = {"matmul_unfenced_s": unfenced, "matmul_fenced_s": time.perf_counter() - begin}
            devices = product.backing_device, output.backing_device
            probe["output_on_gpu"] = float(all("GPU:0" in device for device in devices))
            image, kernel = tf.random.normal((8, 32, 32, 64)), tf.random.normal((3, 3, 64, 64))
            exact = tf.nn.conv2d(tf.cast(image, tf.float64), tf.cast(kernel, tf.float64), 1, "VALID").numpy()
            for on in (True, False):
                tf.config.experimental.enable_tensor_float_32_execution(on)
                actual = tf.nn.conv2d(image, kernel, 1, "VALID").numpy()
                error = np.linalg.norm(actual - exact) / np.linalg.norm(exact)
                probe[f"tf32_{'on' if on else 'off'}_error"] = float(error)
        return probe


class Jax:
    """One jitted function for forward, loss, gradient and update; the state is donated to it. Keras' variables get it
    back when weights are asked for."""

    NAME, MODES = "jax", ("jit",)

    def __init__(self, device: str, precision: str, mode: str, threads: int, spread: Spread | None = None) -> None:
        leave_out_tensorflow()
        self._spread, count = spread, 1 if spread is None else spread.count
        self._jax, self._threads, self.on_gpu = start(device, threads, count), threads, device == "cuda"
        if spread is not None:
            import keras

            self._whole, self._split = Sharding.over(self._jax, count)
            devices = keras.distribution.list_devices()[:count]
            keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
        self._stale, self._state, self._last = False, None, None

    def versions(self) -> dict[str, str]:
        return versions(self._jax)

    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "threads": self._threads,
            "fast_path": "jax.jit, one computation for forward, loss, backward, update; the state is donated",
        }
        if self._spread is not None:
            settings["data_parallel"] = f"keras.distribution.DataParallel: {SHARDED.format(self._spread.count)}"
        if self.on_gpu:
            settings["tf32"] = self._jax.config.jax_default_matmul_precision != "highest"
            settings["device"] = self._jax.devices()[0].device_kind
        return settings

    def scope(self) -> Any:
        return nullcontext() if self._spread is not None else self._jax.default_device(self._jax.devices()[0])

    def compile(self, adapter: Adapter) -> Compiled:
        import keras

        jax, optimizer, native = self._jax, adapter.optimizer, adapter.native
        trained = adapter.trained_variables
        rest = [v for v in native.variables if all(v is not each for each in trained)]
        slots = [] if optimizer is None else [v for v in optimizer.variables if v is not optimizer.learning_rate]
        self._variables, self._state = (trained, rest, slots), [[v.value for v in vs] for vs in (trained, rest, slots)]
        self._stale = False

        def loss_of(weights: Any, others: Any, x: Any, y: Any, masks: Any) -> Any:
            mapping = [*zip(trained, weights, strict=True), *zip(rest, others, strict=True)]
            with keras.StatelessScope(state_mapping=mapping) as scope:
                loss = adapter.loss(y, adapter.logits(x, masks))
            return loss, [scope.get_current_value(v) for v in rest]

        def forward(weights: Any, others: Any, x: Any) -> Any:
            mapping = [*zip(trained, weights, strict=True), *zip(rest, others, strict=True)]
            with keras.StatelessScope(state_mapping=mapping):
                return native(x, training=False)

        def step(weights: Any, others: Any, held: Any, rate: Any, x: Any, y: Any, masks: Any) -> Any:
            (loss, others), slopes = jax.value_and_grad(loss_of, has_aux=True)(weights, others, x, y, masks)
            if adapter.decay:
                slopes = [g + adapter.decay * v for g, v in zip(slopes, weights, strict=True)]
            mapping = [*zip(trained, weights, strict=True), *zip(slots, held, strict=True)]
            with keras.StatelessScope(state_mapping=[*mapping, (optimizer.learning_rate, rate)]) as scope:
                optimizer.apply(slopes, trained)
            now = scope.get_current_value
            return loss, [now(v) for v in trained], others, [now(v) for v in slots]

        self._run, slope = jax.jit(forward), jax.jit(jax.grad(loss_of, has_aux=True))
        self._advance = jax.jit(step, donate_argnums=(0, 1, 2))

        def one_step(x: Any, y: Any, masks: Any = None) -> Any:
            rate = np.float32(adapter.learning_rate or 0.0)
            loss, *self._state = self._advance(*self._state, rate, x, y, masks)
            self._stale = True
            return loss

        def gradients(x: Any, y: Any, masks: Any = None) -> Any:
            return slope(self._state[0], self._state[1], x, y, masks)[0]

        def logits(x: Any) -> Any:
            self._last = self._run(self._state[0], self._state[1], x)
            return self._last

        return Compiled(logits, one_step, gradients)

    def tensor(self, array: Any) -> Any:
        place = None if self._spread is None else self._whole
        return self._jax.device_put(array, place).block_until_ready()

    def training_tensor(self, array: Any) -> Any:
        if self._spread is None:
            return self.tensor(array)
        return self._jax.device_put(array, self._split).block_until_ready()

    def to_numpy(self, tensor: Any) -> Any:
        return np.asarray(tensor)

    def write_back(self) -> None:
        """Copy the state into Keras' variables; it stays the engine's, whose next step donates it."""
        if self._stale:
            for variables, values in zip(self._variables, self._state, strict=True):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(np.asarray(value))
            self._stale = False

    def operators(self, adapter: Adapter, make_step: Callable[[], Callable[[], object]], steps: int) -> list[Operator]:
        """See ``backends.xla_profile``: Keras' layers have scopes of their names."""
        names = ("_run", "_advance")
        return xla_profile.profiled(self._jax, self, names, make_step, steps, self.synchronize, adapter.model)

    def compiled(self, function: Callable[..., Any]) -> Any:
        """The function as the engine's users compile it."""
        jitted = self._jax.jit(function)

        def run(*given: Any) -> Any:
            self._last = jitted(*given)
            return self._last

        return run

    def synchronize(self) -> None:
        self._jax.block_until_ready((self._state, self._last))

    def flops(self, native: Any, shape: tuple[int, ...]) -> int | None:
        """None: XLA counts the operations after its fusions, not the model's."""
        return None

    def input_pipeline(self, files: ImageFiles, batch_size: int, workers: int) -> InputPipeline:
        place = self._jax.devices()[0]
        put = self._jax.device_put
        return GrainLoader(files, batch_size, workers, lambda x, y: (put(x, place), put(y, place)))

    def device_memory(self) -> dict[str, int]:
        statistics = self._jax.devices()[0].memory_stats() if self.on_gpu else None
        return {"peak_allocated": int(statistics["peak_bytes_in_use"])} if statistics else {}

    def out_of_memory(self, error: BaseException) -> bool:
        return "RESOURCE_EXHAUSTED" in str(error)

    def gpu_probe(self, output: Any) -> dict[str, float]:
        raise Unsupported("Keras on JAX has no GPU probe")


class Torch:
    """Keras' layers as PyTorch modules, eager. Keras keeps channels last and transposes around each convolution."""

    NAME, MODES = "torch", ("eager",)

    def __init__(self, device: str, precision: str, mode: str, threads: int) -> None:
        leave_out_tensorflow()
        os.environ["KERAS_TORCH_DEVICE"] = device
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise Unavailable("PyTorch sees no CUDA device (a CPU build of torch, or no driver)")
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        set_tf32(torch, False)
        torch.backends.cudnn.benchmark = True
        self._torch, self._device, self.on_gpu = torch, device, device == "cuda"

    def versions(self) -> dict[str, str]:
        cuda = self._torch.version.cuda
        return {"torch": self._torch.__version__, build_of("torch"): f"CUDA {cuda}" if cuda else "CPU"}

    def settings(self) -> dict[str, Any]:
        torch = self._torch
        settings: dict[str, Any] = {
            "threads": torch.get_num_threads(),
            "inter_op_threads": torch.get_num_interop_threads(),
            "fast_path": "eager, layer by layer; images are transposed around each convolution",
        }
        if self.on_gpu:
            settings["tf32"] = torch.backends.cudnn.allow_tf32
            settings["autotuning"] = torch.backends.cudnn.benchmark
            settings["device"] = torch.cuda.get_device_name()
        return settings

    def scope(self) -> Any:
        """Nothing: ``KERAS_TORCH_DEVICE`` says it. In ``keras.device`` parameters would be copies without gradients."""
        return nullcontext()

    def compile(self, adapter: Adapter) -> Compiled:
        torch, native, optimizer, trained = self._torch, adapter.native, adapter.optimizer, adapter.trained_variables
        values = [variable.value for variable in trained]

        def forward(x: Any) -> Any:
            with torch.no_grad():
                return native(x, training=False)

        def gradients(x: Any, y: Any, masks: Any = None) -> Any:
            return list(torch.autograd.grad(adapter.loss(y, adapter.logits(x, masks)), values))

        def step(x: Any, y: Any, masks: Any = None) -> Any:
            native.zero_grad()
            loss = adapter.loss(y, adapter.logits(x, masks))
            loss.backward()
            with torch.no_grad():
                slopes = [value.grad + adapter.decay * value if adapter.decay else value.grad for value in values]
                optimizer.apply(slopes, trained)
            return loss.detach()

        return Compiled(forward, step, gradients)

    def tensor(self, array: Any) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def training_tensor(self, array: Any) -> Any:
        return self.tensor(array)

    def to_numpy(self, tensor: Any) -> Any:
        tensor = tensor.detach()
        return (tensor.float() if tensor.dtype == self._torch.bfloat16 else tensor).cpu().numpy()

    def write_back(self) -> None:
        """Nothing to do: the variables hold what was trained."""

    def operators(self, adapter: Adapter, make_step: Callable[[], Callable[[], object]], steps: int) -> list[Operator]:
        """By torch.profiler: what a layer's ``call`` runs is marked with its name."""
        marked = {name: layer for name, layer in adapter.layers.items() if layer is not None}
        calls, loss, optimizer = {name: layer.call for name, layer in marked.items()}, adapter.loss, adapter.optimizer
        apply = None if optimizer is None else optimizer.apply
        step = make_step()
        try:
            for name, layer in marked.items():
                layer.call = torch_profile.tagged(self._torch, name, layer.call)
            adapter.loss = torch_profile.tagged(self._torch, OUTSIDE["loss"], loss)
            if optimizer is not None:
                optimizer.apply = torch_profile.tagged(self._torch, OUTSIDE["optimizer"], apply)
            step()
            return torch_profile.profiled(self._torch, step, steps, self.on_gpu)
        finally:
            adapter.loss = loss
            for name, layer in marked.items():
                layer.call = calls[name]
            if optimizer is not None:
                optimizer.apply = apply

    def compiled(self, function: Callable[..., Any]) -> Any:
        """The function as the engine's users run it, without gradients."""
        return self._torch.no_grad()(function)

    def synchronize(self) -> None:
        if self.on_gpu:
            self._torch.cuda.synchronize()

    def flops(self, native: Any, shape: tuple[int, ...]) -> int | None:
        """FLOPs of one image by PyTorch's counter."""
        from torch.utils.flop_counter import FlopCounterMode

        counter = FlopCounterMode(display=False)
        with counter, self._torch.no_grad():
            native(self.tensor(np.zeros((1, *shape), np.float32)), training=False)
        return int(counter.get_total_flops())

    def input_pipeline(self, files: ImageFiles, batch_size: int, workers: int) -> InputPipeline:
        def finish(x: Any, y: Any) -> tuple[Any, Any]:
            return x.to(self._device, non_blocking=True), y.to(self._device, non_blocking=True)

        return TorchLoader(files, workers, finish, channels_first=False, pinned=self.on_gpu)

    def device_memory(self) -> dict[str, int]:
        if not self.on_gpu:
            return {}
        cuda = self._torch.cuda
        return {"peak_allocated": cuda.max_memory_allocated(), "peak_reserved": cuda.max_memory_reserved()}

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, self._torch.OutOfMemoryError) or "can't allocate memory" in str(error)

    def gpu_probe(self, output: Any) -> dict[str, float]:
        raise Unsupported("Keras on PyTorch has no GPU probe; pytorch has")

"""Keras 3 on TensorFlow: a ``keras.Sequential``, training step and forward compiled by ``tf.function``.

The step is the one of Keras' guide "Writing a training loop from scratch in TensorFlow": forward, loss, gradient,
``optimizer.apply``, in one graph. ``jit_compile`` is always passed explicitly: Keras' "auto" means XLA once a GPU is
visible and no XLA on the CPU.
"""

from __future__ import annotations

import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from backends.base import Backend, Images, Labels, Optimizer, Unavailable, Unsupported
from backends.model import Conv2D, Dense, Flatten, Layer, MaxPool2D, ModelSpec, ReLU, Weights


class Adapter(Backend):
    TASKS: ClassVar[frozenset[str]] = frozenset({"train", "infer", "fit", "export"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32",)
    MODES: ClassVar[tuple[str, ...]] = ("graph",)
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("tensorflow", "tensorflow-cpu"),
        ("keras",),
        ("onnx",),
        ("tf2onnx",),
    )
    EXTRA: ClassVar[str | None] = "keras"

    def __init__(self, device: str, precision: str, mode: str, threads: int, seed: int) -> None:
        os.environ["KERAS_BACKEND"] = "tensorflow"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.set_soft_device_placement(False)  # else /GPU:0 runs on the CPU where there is no GPU
        tf.config.experimental.enable_tensor_float_32_execution(False)
        gpus = tf.config.list_physical_devices("GPU")
        if device == "cuda" and not gpus:
            raise Unavailable("TensorFlow sees no GPU (plain tensorflow brings no CUDA: the extra is keras-cuda)")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)  # else it takes the whole GPU
        import keras

        keras.utils.set_random_seed(seed)
        self._tf, self._keras = tf, keras
        self._device = "/GPU:0" if device == "cuda" else "/CPU:0"
        self._jit_compile = False

    def versions(self) -> dict[str, str]:
        return {
            "keras": self._keras.__version__,
            "tensorflow": self._tf.__version__,
            **{name: version(name) for name in ("onnx", "tf2onnx")},
        }

    def settings(self) -> dict[str, Any]:
        config = self._tf.config
        found = {
            "threads": config.threading.get_intra_op_parallelism_threads(),
            "inter_op_threads": config.threading.get_inter_op_parallelism_threads(),
            "fast_path": f"tf.function, jit_compile={self._jit_compile}, one graph for forward, loss, backward, update",
        }
        if self._device == "/GPU:0":
            found["tf32"] = config.experimental.tensor_float_32_execution_enabled()
            found["autotuning"] = os.environ.get("TF_CUDNN_USE_AUTOTUNE", "1") != "0"
            gpu = config.list_physical_devices("GPU")[0]
            found["device"] = config.experimental.get_device_details(gpu).get("device_name", "unknown")
        return found

    def build(self, model: ModelSpec, weights: Weights, optimizer: Optimizer | None) -> None:
        keras = self._keras
        self._model = model
        with self._tf.device(self._device):
            placed = list(model.placed())
            layers = [_layer(keras, p.layer, p.name) for p in placed]
            self._sequential = keras.Sequential([keras.Input(model.input_shape), *layers])
            for p, layer in zip(placed, layers, strict=True):
                if p.weight_shapes:
                    layer.set_weights([weights[name] for name in p.weight_shapes])
            self._loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            self._optimizer = _optimizer(keras, optimizer)
            if self._optimizer is not None:
                self._optimizer.build(self._sequential.trainable_variables)
        self._learning_rate: float | None = None
        self._compile()

    def _compile(self) -> None:
        tf, model = self._tf, self._sequential

        def loss_and_gradients(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = self._loss(y, model(x, training=True))
            return loss, tape.gradient(loss, model.trainable_variables)

        def step(x: Any, y: Any) -> Any:
            loss, gradients = loss_and_gradients(x, y)
            self._optimizer.apply(gradients, model.trainable_variables)
            return loss

        compile_ = tf.function(jit_compile=self._jit_compile)
        self._forward = compile_(lambda x: model(x, training=False))
        self._step = compile_(step)
        self._gradients = compile_(lambda x, y: loss_and_gradients(x, y)[1])

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Any, Any]:
        with self._tf.device(self._device):
            images = self._tf.constant(x)
            if self._device == "/GPU:0":
                images = self._tf.identity(images)  # a constant made of a host array may still be on the host
            return images, None if y is None else self._tf.constant(y)

    def forward(self, x: Any) -> Any:
        with self._tf.device(self._device):
            return self._forward(x)

    def train_step(self, x: Any, y: Any, learning_rate: float) -> Any:
        if self._optimizer is None:
            raise Unsupported("built for inference only")
        with self._tf.device(self._device):
            if learning_rate != self._learning_rate:
                self._optimizer.learning_rate.assign(learning_rate)
                self._learning_rate = learning_rate
            return self._step(x, y)

    def gradients(self, x: Any, y: Any) -> Weights:
        with self._tf.device(self._device):
            found = self._gradients(x, y)
        return {name: gradient.numpy() for name, gradient in zip(self._model.weight_shapes, found, strict=True)}

    def weights(self) -> Weights:
        variables = self._sequential.trainable_variables
        return {
            name: np.asarray(variable.numpy())
            for name, variable in zip(self._model.weight_shapes, variables, strict=True)
        }

    def synchronize(self) -> None:
        if self._device == "/GPU:0":
            self._tf.test.experimental.sync_devices()

    def to_numpy(self, tensor: Any) -> Any:
        return tensor.numpy()

    def export_onnx(self, path: Path) -> None:
        self.infer(np.zeros((1, *self._model.input_shape), np.float32))  # the exporter refuses a model never called
        self._sequential.export(str(path), format="onnx", verbose=False)

    def counts(self) -> dict[str, int]:
        return {"parameters": self._sequential.count_params(), "flops": self._flops()}

    def _flops(self) -> int:
        """TensorFlow's profiler over the graph of one image, convolutions and matrix products only."""
        tf = self._tf
        one = tf.TensorSpec((1, *self._model.input_shape), tf.float32)
        graph = tf.function(lambda x: self._sequential(x, training=False)).get_concrete_function(one).graph
        builder = tf.compat.v1.profiler.ProfileOptionBuilder(
            tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
        )
        options = builder.with_accounted_types(["Conv2D", "MatMul"]).with_empty_output().build()
        with graph.as_default():
            return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops

    def device_memory(self) -> dict[str, int]:
        if self._device != "/GPU:0":
            return {}
        return {"peak_allocated": self._tf.config.experimental.get_memory_info("GPU:0")["peak"]}

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError | self._tf.errors.ResourceExhaustedError)

    def gpu_probe(self) -> dict[str, float]:
        tf = self._tf
        with tf.device("/GPU:0"):
            a = tf.random.normal((8192, 8192))
            tf.matmul(a, a)
            self.synchronize()
            begin = time.perf_counter()
            product = tf.matmul(a, a)
            unfenced = time.perf_counter() - begin
            self.synchronize()
            found = {"matmul_unfenced_s": unfenced, "matmul_fenced_s": time.perf_counter() - begin}
            one = np.zeros((1, *self._model.input_shape), np.float32)
            devices = product.backing_device, self.forward(self.to_device(one)[0]).backing_device
            found["output_on_gpu"] = float(all("GPU:0" in device for device in devices))
            image, kernel = tf.random.normal((8, 32, 32, 64)), tf.random.normal((3, 3, 64, 64))
            exact = tf.nn.conv2d(tf.cast(image, tf.float64), tf.cast(kernel, tf.float64), 1, "VALID").numpy()
            for on in (True, False):
                tf.config.experimental.enable_tensor_float_32_execution(on)
                got = tf.nn.conv2d(image, kernel, 1, "VALID").numpy()
                error = np.linalg.norm(got - exact) / np.linalg.norm(exact)
                found[f"tf32_{'on' if on else 'off'}_error"] = float(error)
        return found


def _layer(keras: Any, layer: Layer, name: str) -> Any:
    layers = keras.layers
    match layer:
        case Conv2D(filters, kernel):
            return layers.Conv2D(filters, kernel, padding="valid", name=name)
        case Dense(units):
            return layers.Dense(units, name=name)
        case ReLU():
            return layers.ReLU(name=name)
        case MaxPool2D(size):
            return layers.MaxPooling2D(size, name=name)
        case Flatten():
            return layers.Flatten(name=name)
    raise Unsupported(f"no layer {type(layer).__name__} in the Keras adapter")


def _optimizer(keras: Any, options: Optimizer | None) -> Any:
    match options:
        case None:
            return None
        case Optimizer("sgd", momentum):
            return keras.optimizers.SGD(learning_rate=0.0, momentum=momentum)
        case Optimizer("adam", _, beta1, beta2, epsilon):
            return keras.optimizers.Adam(learning_rate=0.0, beta_1=beta1, beta_2=beta2, epsilon=epsilon)
    raise Unsupported(f"no optimizer {options.name} in the Keras adapter")

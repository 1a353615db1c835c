"""Keras 3 on TensorFlow: a functional ``keras.Model``, training step and forward compiled by ``tf.function``.

The training step follows Keras' guide "Writing a training loop from scratch in TensorFlow": forward, loss, gradient
and ``optimizer.apply`` in one graph. ``jit_compile`` is always passed explicitly: Keras' "auto" means XLA if a GPU is
visible and no XLA on the CPU.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from backends.base import Backend, Images, Labels, Optimizer, Training, Unavailable, Unsupported, build_of
from backends.model import (
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool,
    Layer,
    MaxPool2D,
    ModelSpec,
    Placed,
    ReLU,
    Residual,
    Weights,
    ZeroPadShortcut,
)


class Adapter(Backend):
    TASKS: ClassVar[frozenset[str]] = frozenset({"train", "infer", "fit", "export"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16")
    MODES: ClassVar[tuple[str, ...]] = ("graph", "xla", "eager")
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
        import keras

        # Stated here, because ~/.keras/keras.json of the user may say something else.
        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
        keras.config.set_epsilon(1e-7)
        keras.utils.set_random_seed(seed)
        self._tf, self._keras = tf, keras
        self._device = "/GPU:0" if device == "cuda" else "/CPU:0"
        self._mode, self._precision = mode, precision
        self._policy = {"fp32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}[precision]

    def versions(self) -> dict[str, str]:
        built = self._tf.sysconfig.get_build_info()
        return {
            "keras": self._keras.__version__,
            "tensorflow": self._tf.__version__,
            build_of("tensorflow"): f"CUDA {built.get('cuda_version', '')}".strip()
            if built["is_cuda_build"]
            else "CPU",
            **{name: version(name) for name in ("onnx", "tf2onnx")},
        }

    def settings(self) -> dict[str, Any]:
        config = self._tf.config
        settings = {
            "threads": config.threading.get_intra_op_parallelism_threads(),
            "inter_op_threads": config.threading.get_inter_op_parallelism_threads(),
            "fast_path": f"{self._describe_mode()}; dtype policy {self._policy}",
        }
        if self._device == "/GPU:0":
            settings["tf32"] = config.experimental.tensor_float_32_execution_enabled()
            settings["autotuning"] = os.environ.get("TF_CUDNN_USE_AUTOTUNE", "1") != "0"
            gpu = config.list_physical_devices("GPU")[0]
            settings["device"] = config.experimental.get_device_details(gpu).get("device_name", "unknown")
        return settings

    def _describe_mode(self) -> str:
        """How this row runs, as text."""
        if self._mode == "eager":
            return "eager, operation by operation"
        return f"tf.function, jit_compile={self._mode == 'xla'}, one graph for forward, loss, backward, update"

    def build(self, model: ModelSpec, weights: Weights, training: Training | None) -> None:
        keras = self._keras
        self._model, self._training = model, training
        frozen = frozenset() if training is None else training.frozen
        with self._tf.device(self._device):
            self._layers = {p.name: _layer(keras, p.layer, p.name, self._policy) for p in model.walk()}
            for placed in model.walk():
                if placed.trained and placed.trained[0] in frozen:
                    self._layers[placed.name].trainable = False  # then it also uses its running statistics
            images = keras.Input(model.input_shape)
            logits = self._run_layers(model.placed(), images)
            if self._precision != "fp32":
                logits = keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
            self._native = keras.Model(images, logits)
            self._variables = {}
            """Canonical name to variable."""
            for placed in model.walk():
                names = list(placed.weight_shapes)
                self._variables |= dict(zip(names, self._layers[placed.name].weights, strict=True) if names else ())
            for name, variable in self._variables.items():
                variable.assign(weights[name])
            self._trained = [name for name in model.trained if name not in frozen]
            self._loss = _loss(keras, 0.0 if training is None else training.label_smoothing, model.classes)
            self._optimizer = None if training is None else _optimizer(keras, training.optimizer)
            if self._optimizer is not None:
                if self._precision == "fp16":
                    self._optimizer = keras.optimizers.LossScaleOptimizer(self._optimizer)
                self._optimizer.build([self._variables[name] for name in self._trained])
        self._learning_rate: float | None = None
        self._compile()

    def _run_layers(self, placed: Sequence[Placed], x: Any, masks: Any = None) -> Any:
        """Apply the layers in order: to symbols, or (``masks``) in training to tensors, with these masks of dropout."""
        ops = self._keras.ops
        for layer in placed:
            mode = {} if masks is None else {"training": True}
            match layer.layer:
                case Residual():
                    x = ops.add(self._run_layers(layer.body, x, masks), self._run_layers(layer.shortcut, x, masks))
                case ZeroPadShortcut(filters, stride):
                    extra = filters - layer.input_shape[-1]
                    x = ops.pad(x[:, ::stride, ::stride, :], [[0, 0], [0, 0], [0, 0], [0, extra]])
                case Dropout() if masks is not None:
                    x = x * ops.cast(masks[layer.name], x.dtype)
                case _:
                    x = self._layers[layer.name](x, **mode)
        return x

    def _compile(self) -> None:
        tf, optimizer = self._tf, self._optimizer
        trained = [self._variables[name] for name in self._trained]
        decay = self._coupled_decay()

        scale = optimizer.scale_loss if optimizer is not None and self._precision == "fp16" else lambda value: value

        def loss_and_gradients(x: Any, y: Any, masks: Any, scale: Any) -> Any:
            with tf.GradientTape() as tape:
                if masks is None:
                    logits = self._native(x, training=True)
                else:
                    logits = tf.cast(self._run_layers(self._model.placed(), x, masks), tf.float32)
                loss = self._loss(y, logits)
                scaled = scale(loss)
            return loss, tape.gradient(scaled, trained)

        def step(x: Any, y: Any, masks: Any = None) -> Any:
            loss, gradients = loss_and_gradients(x, y, masks, scale)
            if decay:
                gradients = [g + scale(decay * v) for g, v in zip(gradients, trained, strict=True)]
            optimizer.apply(gradients, trained)
            return loss

        if self._mode == "eager":
            compile_ = lambda function: function  # noqa: E731
        else:
            compile_ = tf.function(jit_compile=self._mode == "xla")
        self._forward = compile_(lambda x: self._native(x, training=False))
        self._step = compile_(step)
        self._gradients = compile_(lambda x, y, masks=None: loss_and_gradients(x, y, masks, lambda value: value)[1])

    def _coupled_decay(self) -> float:
        """Weight decay that is added to the gradient; Keras' optimizers would subtract it from the weight instead."""
        optimizer = None if self._training is None else self._training.optimizer
        return 0.0 if optimizer is None or optimizer.name == "adamw" else optimizer.weight_decay

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Any, Any]:
        with self._tf.device(self._device):
            images = self._tf.constant(x)
            if self._device == "/GPU:0":
                images = self._tf.identity(images)  # a constant from a host array may still be on the host
            return images, None if y is None else self._tf.constant(y)

    def forward(self, x: Any) -> Any:
        with self._tf.device(self._device):
            return self._forward(x)

    def train_step(self, x: Any, y: Any, learning_rate: float, dropout_masks: Weights | None = None) -> Any:
        if self._optimizer is None:
            raise Unsupported("built for inference only")
        with self._tf.device(self._device):
            if learning_rate != self._learning_rate:
                self._optimizer.learning_rate = learning_rate
                self._learning_rate = learning_rate
            return self._step(x, y) if dropout_masks is None else self._step(x, y, self._masks(dropout_masks))

    def gradients(self, x: Any, y: Any, dropout_masks: Weights | None = None) -> Weights:
        statistics = [self._variables[name] for name in self._variables if name not in self._model.trained]
        before = [variable.numpy() for variable in statistics]
        with self._tf.device(self._device):
            gradients = (
                self._gradients(x, y) if dropout_masks is None else self._gradients(x, y, self._masks(dropout_masks))
            )
            for variable, value in zip(statistics, before, strict=True):
                variable.assign(value)
        return {name: gradient.numpy() for name, gradient in zip(self._trained, gradients, strict=True)}

    def _masks(self, masks: Weights) -> Any:
        return {name: self._tf.constant(mask) for name, mask in masks.items()}

    def weights(self) -> Weights:
        return {name: np.asarray(variable.numpy()) for name, variable in self._variables.items()}

    def synchronize(self) -> None:
        if self._device == "/GPU:0":
            self._tf.test.experimental.sync_devices()

    def to_numpy(self, tensor: Any) -> Any:
        return tensor.numpy()

    def export_onnx(self, path: Path) -> None:
        self.infer(np.zeros((1, *self._model.input_shape), np.float32))  # the exporter needs a model that was called
        self._native.export(str(path), format="onnx", verbose=False)

    def counts(self) -> dict[str, int]:
        return {
            "parameters": sum(int(np.prod(self._variables[name].shape)) for name in self._model.trained),
            "flops": self._flops(),
        }

    def _flops(self) -> int:
        """FLOPs of one image by TensorFlow's profiler, of convolutions and matrix products only."""
        tf = self._tf
        one = tf.TensorSpec((1, *self._model.input_shape), tf.float32)
        graph = tf.function(lambda x: self._native(x, training=False)).get_concrete_function(one).graph
        builder = tf.compat.v1.profiler.ProfileOptionBuilder(
            tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
        )
        options = (
            builder.with_accounted_types(["Conv2D", "DepthwiseConv2dNative", "MatMul"]).with_empty_output().build()
        )
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
            probe = {"matmul_unfenced_s": unfenced, "matmul_fenced_s": time.perf_counter() - begin}
            one = np.zeros((1, *self._model.input_shape), np.float32)
            devices = product.backing_device, self.forward(self.to_device(one)[0]).backing_device
            probe["output_on_gpu"] = float(all("GPU:0" in device for device in devices))
            image, kernel = tf.random.normal((8, 32, 32, 64)), tf.random.normal((3, 3, 64, 64))
            exact = tf.nn.conv2d(tf.cast(image, tf.float64), tf.cast(kernel, tf.float64), 1, "VALID").numpy()
            for on in (True, False):
                tf.config.experimental.enable_tensor_float_32_execution(on)
                actual = tf.nn.conv2d(image, kernel, 1, "VALID").numpy()
                error = np.linalg.norm(actual - exact) / np.linalg.norm(exact)
                probe[f"tf32_{'on' if on else 'off'}_error"] = float(error)
        return probe


def _layer(keras: Any, layer: Layer, name: str, policy: str) -> Any:
    """The native layer; None for what ``_run_layers`` computes itself."""
    layers, common = keras.layers, {"name": name, "dtype": policy}
    match layer:
        case Conv2D(filters, kernel, stride, padding, bias):
            return layers.Conv2D(filters, kernel, stride, padding, use_bias=bias, **common)
        case DepthwiseConv2D(kernel, stride, padding, bias):
            return layers.DepthwiseConv2D(kernel, stride, padding, use_bias=bias, **common)
        case Dense(units, bias):
            return layers.Dense(units, use_bias=bias, **common)
        case BatchNorm(momentum, epsilon):
            return layers.BatchNormalization(momentum=momentum, epsilon=epsilon, **common)
        case ReLU():
            return layers.ReLU(**common)
        case Dropout(rate):
            return layers.Dropout(rate, **common)
        case MaxPool2D(size):
            return layers.MaxPooling2D(size, layer.step, **common)
        case AveragePool2D(size):
            return layers.AveragePooling2D(size, layer.step, **common)
        case GlobalAveragePool():
            return layers.GlobalAveragePooling2D(**common)
        case Flatten():
            return layers.Flatten(**common)
        case ZeroPadShortcut() | Residual():
            return None
    raise Unsupported(f"no layer {type(layer).__name__} in the Keras adapter")


def _loss(keras: Any, smoothing: float, classes: int) -> Any:
    """The loss function of labels and logits. Keras smooths only one-hot targets."""
    if not smoothing:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    smoothed = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    return lambda labels, logits: smoothed(keras.ops.one_hot(labels, classes), logits)


def _optimizer(keras: Any, options: Optimizer) -> Any:
    settings = {"beta_1": options.beta1, "beta_2": options.beta2, "epsilon": options.epsilon}
    match options.name:
        case "sgd":
            return keras.optimizers.SGD(0.0, options.momentum, options.nesterov)
        case "adam":
            return keras.optimizers.Adam(0.0, **settings)
        case "adamw":
            return keras.optimizers.AdamW(0.0, options.weight_decay, **settings)
    raise Unsupported(f"no optimizer {options.name} in the Keras adapter")

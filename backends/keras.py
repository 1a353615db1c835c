"""Keras 3: a functional ``keras.Model``, on each of its engines (``backends.keras_engines``).

One backend per engine: ``keras`` (TensorFlow), ``keras-jax``, ``keras-torch``. Channels stay last on all of them. Only
``keras`` exports: the files of the others would hold the same model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from backends import keras_engines, keras_script
from backends.base import DEVICES as SEVERAL_DEVICES
from backends.base import (
    Backend,
    ImageFiles,
    Images,
    InputPipeline,
    Labels,
    Operator,
    Optimizer,
    Spread,
    Training,
    Unsupported,
    roof_convolution,
)
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
from backends.script import Script


class Adapter(Backend):
    TASKS: ClassVar[frozenset[str]] = frozenset({"train", "infer", "fit", "input"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16")
    WRITES: ClassVar[tuple[str, ...]] = ("onnx", "litert")
    ENGINE: ClassVar[Any] = keras_engines.TensorFlow
    MODES: ClassVar[tuple[str, ...]] = keras_engines.TensorFlow.MODES
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("tensorflow", "tensorflow-cpu"),
        ("keras",),
        ("onnx",),
        ("tf2onnx",),
    )
    EXTRA: ClassVar[str | None] = "keras"
    NOT_SCALED: ClassVar[str] = (
        "keras.distribution trains on JAX only, and MultiWorkerMirroredStrategy does not work with Keras 3"
        " (tensorflow#72388); keras-jax trains on several devices"
    )

    def __init__(
        self, device: str, precision: str, mode: str, threads: int, seed: int, spread: Spread | None = None
    ) -> None:
        os.environ["KERAS_BACKEND"] = self.ENGINE.NAME
        several = {} if spread is None else {"spread": spread}
        self._engine = self.ENGINE(device, precision, mode, threads, **several)
        self._device = device
        import keras

        # Stated here, because ~/.keras/keras.json of the user may say something else.
        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
        keras.config.set_epsilon(1e-7)
        keras.utils.set_random_seed(seed)
        self._keras, self.precision = keras, precision
        self._policy = {"fp32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}[precision]

    @classmethod
    def script(
        cls, model: ModelSpec, device: str, precision: str, mode: str, threads: int, source: Script | None = None
    ) -> Script:
        return keras_script.script(model, device, precision, mode, threads)

    def versions(self) -> dict[str, str]:
        return {"keras": self._keras.__version__, **self._engine.versions()}

    def settings(self) -> dict[str, Any]:
        settings = self._engine.settings()
        return {**settings, "fast_path": f"{settings['fast_path']}; dtype policy {self._policy}"}

    def build(self, model: ModelSpec, weights: Weights, training: Training | None) -> None:
        keras = self._keras
        self.model, self._training = model, training
        frozen = frozenset() if training is None else training.frozen
        with self._engine.scope():
            self.layers = {p.name: _layer(keras, p.layer, p.name, self._policy) for p in model.walk()}
            for placed in model.walk():
                if placed.trained and placed.trained[0] in frozen:
                    self.layers[placed.name].trainable = False  # then it also uses its running statistics
            images = keras.Input(model.input_shape)
            logits = self._run_layers(model.placed(), images)
            if self.precision != "fp32":
                logits = keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
            self.native = keras.Model(images, logits)
            self._variables = {}
            """Canonical name to variable."""
            for placed in model.walk():
                names = list(placed.weight_shapes)
                self._variables |= dict(zip(names, self.layers[placed.name].weights, strict=True) if names else ())
            for name, variable in self._variables.items():
                variable.assign(weights[name])
            self._trained = [name for name in model.trained if name not in frozen]
            self.trained_variables = [self._variables[name] for name in self._trained]
            self.loss = _loss(keras, 0.0 if training is None else training.label_smoothing, model.classes)
            self.optimizer = None if training is None else _optimizer(keras, training.optimizer)
            if self.optimizer is not None:
                if self.precision == "fp16":
                    self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer)
                self.optimizer.build(self.trained_variables)
            self.learning_rate: float | None = None
            self._compiled = self._engine.compile(self)

    def logits(self, x: Any, masks: Any) -> Any:
        """In training mode; ``masks`` None: the layers of dropout draw their own."""
        if masks is None:
            return self.native(x, training=True)
        return self._keras.ops.cast(self._run_layers(self.model.placed(), x, masks), "float32")

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
                    x = self.layers[layer.name](x, **mode)
        return x

    @property
    def decay(self) -> float:
        """Weight decay that is added to the gradient; Keras' optimizers would subtract it from the weight instead."""
        optimizer = None if self._training is None else self._training.optimizer
        return 0.0 if optimizer is None or optimizer.name == "adamw" else optimizer.weight_decay

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Any, Any]:
        with self._engine.scope():
            if y is None:
                return self._engine.tensor(x), None
            return self._engine.training_tensor(x), self._engine.training_tensor(y)

    def forward(self, x: Any) -> Any:
        with self._engine.scope():
            return self._compiled.forward(x)

    def train_step(self, x: Any, y: Any, learning_rate: float, dropout_masks: Weights | None = None) -> Any:
        if self.optimizer is None:
            raise Unsupported("built for inference only")
        with self._engine.scope():
            if learning_rate != self.learning_rate:
                self.optimizer.learning_rate = learning_rate
                self.learning_rate = learning_rate
            return self._compiled.step(x, y, *self._masks(dropout_masks))

    def gradients(self, x: Any, y: Any, dropout_masks: Weights | None = None) -> Weights:
        statistics = [self._variables[name] for name in self._variables if name not in self.model.trained]
        self._engine.write_back()
        with self._engine.scope():
            before = [np.array(self._host(variable)) for variable in statistics]
            gradients = self._compiled.gradients(x, y, *self._masks(dropout_masks))
            for variable, value in zip(statistics, before, strict=True):
                variable.assign(value)
        values = map(self._engine.to_numpy, gradients)
        return dict(zip(self._trained, values, strict=True))

    def _masks(self, masks: Weights | None) -> tuple[Any, ...]:
        return () if masks is None else ({name: self._engine.tensor(mask) for name, mask in masks.items()},)

    def _host(self, variable: Any) -> Any:
        return self._engine.to_numpy(variable.value)

    def weights(self) -> Weights:
        self._engine.write_back()
        return {name: np.array(self._host(variable)) for name, variable in self._variables.items()}

    def synchronize(self) -> None:
        self._engine.synchronize()

    def to_numpy(self, tensor: Any) -> Any:
        return self._engine.to_numpy(tensor)

    def export(self, path: Path, format_name: str) -> None:
        self.infer(np.zeros((1, *self.model.input_shape), np.float32))  # the exporter needs a model that was called
        self.native.export(str(path), format=format_name, verbose=False)

    def counts(self) -> dict[str, int]:
        parameters = sum(int(np.prod(self._variables[name].shape)) for name in self.model.trained)
        flops = self._engine.flops(self.native, self.model.input_shape)
        return {"parameters": parameters, **({} if flops is None else {"flops": flops})}

    def roof_kernels(self, size: int, length: int) -> dict[str, Callable[[], Any]]:
        ops, precision = self._keras.ops, {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[self.precision]
        with self._engine.scope():
            a, x, y = ops.ones((size, size), precision), ops.ones(length), ops.ones(length)
            product = self._engine.compiled(lambda a: ops.matmul(a, a))
            triad = self._engine.compiled(lambda x, y: x + 1.5 * y)
            shapes = roof_convolution(size) if self._device == "cpu" else ()
            convolved = tuple(ops.ones(shape, precision) for shape in shapes)
            convolution = self._engine.compiled(lambda x, w: ops.conv(x, w, data_format="channels_last"))

        def run(kernel: Any, *given: Any) -> Any:
            with self._engine.scope():
                return kernel(*given)

        kernels = {"product": lambda: run(product, a), "triad": lambda: run(triad, x, y)}
        return kernels | ({"convolution": lambda: run(convolution, *convolved)} if convolved else {})

    def operators(self, make_step: Callable[[], Callable[[], object]], steps: int) -> list[Operator]:
        return self._engine.operators(self, make_step, steps)

    def input_pipeline(self, files: ImageFiles, batch_size: int, workers: int) -> InputPipeline:
        return self._engine.input_pipeline(files, batch_size, workers)

    def device_memory(self) -> dict[str, int]:
        return self._engine.device_memory()

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError) or self._engine.out_of_memory(error)

    def gpu_probe(self) -> dict[str, float]:
        one = np.zeros((1, *self.model.input_shape), np.float32)
        return self._engine.gpu_probe(self.forward(self.to_device(one)[0]))


class _OnAnother(Adapter):
    @classmethod
    def script(
        cls, model: ModelSpec, device: str, precision: str, mode: str, threads: int, source: Script | None = None
    ) -> Script:
        raise Unsupported("plain code of Keras is for TensorFlow")


class OnJax(_OnAnother):
    TASKS: ClassVar[frozenset[str]] = frozenset({"train", "infer", "fit", "input"})
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    WRITES: ClassVar[tuple[str, ...]] = ()
    ENGINE: ClassVar[Any] = keras_engines.Jax
    MODES: ClassVar[tuple[str, ...]] = keras_engines.Jax.MODES
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (("keras",), ("jax",))
    EXTRA: ClassVar[str | None] = "keras-jax"
    SCALES_BY: ClassVar[str] = SEVERAL_DEVICES


class OnTorch(_OnAnother):
    TASKS: ClassVar[frozenset[str]] = frozenset({"train", "infer", "fit", "input"})
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    WRITES: ClassVar[tuple[str, ...]] = ()
    ENGINE: ClassVar[Any] = keras_engines.Torch
    MODES: ClassVar[tuple[str, ...]] = keras_engines.Torch.MODES
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (("keras",), ("torch",))
    EXTRA: ClassVar[str | None] = "keras-torch"


ADAPTERS = {"keras": Adapter, "keras-jax": OnJax, "keras-torch": OnTorch}


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

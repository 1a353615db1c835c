"""JAX: plain ``jax.lax`` functions, one jitted computation for forward, loss, gradient and update.

The state (weights, statistics, optimizer) is donated to each step. Convolutions keep channels last (NHWC, HWIO), which
is the canonical layout. It exports nothing: jax2onnx 0.17.1 was tried; it traces these functions in float64 and stops,
and requires the package onnxruntime, whose files overwrite those of onnxruntime-gpu.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar, NamedTuple

import numpy as np

from backends import xla_profile
from backends.base import DEVICES as DEVICES_
from backends.base import (
    Backend,
    ImageFiles,
    Images,
    InputPipeline,
    Labels,
    Operator,
    Spread,
    Training,
    Unavailable,
    Unsupported,
    build_of,
    roof_convolution,
)
from backends.grain_loader import GrainLoader
from backends.model import (
    AveragePool2D,
    BatchNorm,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool,
    MaxPool2D,
    ModelSpec,
    Placed,
    ReLU,
    Residual,
    Weights,
    ZeroPadShortcut,
)

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def start(device: str, threads: int, devices: int = 1) -> Any:
    """The module ``jax``, with a client of so many of these devices and so many threads for each. Float32 products are
    exact (no TF32).

    Raises:
        Unavailable: JAX sees no GPU.
    """
    if device == "cpu":
        os.environ["PJRT_NPROC"] = os.environ["NPROC"] = str(threads * devices)  # read when the client is made
        if devices > 1:
            flags = os.environ.get("XLA_FLAGS", "")
            os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}".strip()
        os.environ["JAX_PLATFORMS"] = "cpu"
    else:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # else it reserves three quarters of the memory
    import jax

    if device == "cuda":
        try:
            jax.devices("cuda")
        except RuntimeError as error:
            raise Unavailable("JAX sees no GPU: pip install 'jax[cuda13]'") from error
    jax.config.update("jax_default_matmul_precision", "highest")
    return jax


class Sharding(NamedTuple):
    """Where arrays are placed of a ``Spread`` of devices."""

    whole: Any
    """A copy on every device."""
    split: Any
    """The first axis in equal parts."""

    @classmethod
    def over(cls, jax: Any, count: int) -> Sharding:
        """The first ``count`` devices.

        Raises:
            Unavailable: there are fewer.
        """
        devices = jax.devices()[:count]
        if len(devices) < count:
            raise Unavailable(f"JAX sees {len(devices)} devices, not {count}")
        mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
        spec, named = jax.sharding.PartitionSpec, jax.sharding.NamedSharding
        return cls(named(mesh, spec()), named(mesh, spec("batch")))


SHARDED = "one jit over {} devices, the batch sharded; batch normalization over the whole batch"
"""How training on several devices runs, as text."""


def versions(jax: Any) -> dict[str, str]:
    """See ``Backend.versions``."""
    platform = "CUDA" if jax.default_backend() == "gpu" else "CPU"
    return {"jax": jax.__version__, build_of("jax"): platform, "jaxlib": version("jaxlib")}


class State(NamedTuple):
    """What a training step changes, all by canonical name."""

    weights: dict[str, Any]
    """Also of frozen layers, and running statistics."""
    first: dict[str, Any]
    """SGD: the velocity; Adam: the first moment."""
    second: dict[str, Any]
    """Adam: the second moment."""
    steps: Any


class Adapter(Backend):
    TASKS: ClassVar[frozenset[str]] = frozenset({"train", "infer", "fit", "input"})
    DEVICES: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    MODES: ClassVar[tuple[str, ...]] = ("jit",)
    REQUIRES: ClassVar[tuple[tuple[str, ...], ...]] = (("jax",),)
    EXTRA: ClassVar[str | None] = "jax"
    SCALES_BY: ClassVar[str] = DEVICES_

    def __init__(
        self, device: str, precision: str, mode: str, threads: int, seed: int, spread: Spread | None = None
    ) -> None:
        self._spread = spread
        jax = start(device, threads, 1 if spread is None else spread.count)
        self._jax, self._device, self._threads = jax, device, threads
        self._place = self._split = jax.devices()[0]
        if spread is not None:
            self._place, self._split = Sharding.over(jax, spread.count)
        self._compute = jax.numpy.bfloat16 if precision == "bf16" else jax.numpy.float32
        self._key = jax.random.key(seed)
        self._last: Any = None

    def versions(self) -> dict[str, str]:
        return versions(self._jax)

    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {
            "threads": self._threads,
            "threads_by": "PJRT_NPROC" if self._device == "cpu" else "not of the GPU",
            "fast_path": f"jax.jit, state donated; computes in {np.dtype(self._compute).name}",
        }
        if self._spread is not None:
            settings["data_parallel"] = SHARDED.format(self._spread.count)
        if self._device == "cuda":
            settings["tf32"] = self._jax.config.jax_default_matmul_precision != "highest"
            settings["device"] = self._jax.devices()[0].device_kind
        return settings

    def build(self, model: ModelSpec, weights: Weights, training: Training | None) -> None:
        jax = self._jax
        self._model, self._training = model, training
        frozen = frozenset() if training is None else training.frozen
        self._trained = [name for name in model.trained if name not in frozen]
        placed = {name: jax.device_put(np.asarray(value, np.float32), self._place) for name, value in weights.items()}
        zeros = {name: jax.numpy.zeros_like(placed[name]) for name in self._trained} if training is not None else {}
        moments = training is not None and training.optimizer.name != "sgd"
        second = {name: jax.numpy.zeros_like(value) for name, value in zeros.items()} if moments else {}
        self._state = State(placed, zeros, second, jax.numpy.zeros((), np.int32))
        self._run = jax.jit(lambda weights, x: self._logits(weights, x, None)[0])
        self._step = jax.jit(self._train, donate_argnums=0)
        self._slopes = jax.jit(lambda *given: self._gradients_of(*given)[1])

    def _logits(self, weights: Mapping[str, Any], x: Any, masks: Any) -> tuple[Any, dict[str, Any]]:
        """The logits in float32, and the new running statistics; ``masks`` None: in evaluation mode."""
        statistics: dict[str, Any] = {}
        y = self._run_layers(self._model.placed(), weights, x.astype(self._compute), masks, statistics)
        return y.astype(np.float32), statistics

    def _run_layers(
        self, layers: Sequence[Placed], weights: Mapping[str, Any], x: Any, masks: Any, statistics: dict[str, Any]
    ) -> Any:
        for placed in layers:
            with self._jax.named_scope(placed.name):
                x = self._run_layer(placed, weights, x, masks, statistics)
        return x

    def _run_layer(
        self, placed: Placed, weights: Mapping[str, Any], x: Any, masks: Any, statistics: dict[str, Any]
    ) -> Any:
        lax, jnp, training = self._jax.lax, self._jax.numpy, masks is not None
        parts = {name.rpartition(".")[2]: weights[name].astype(x.dtype) for name in placed.weight_shapes}
        match placed.layer:
            case Conv2D(_, _, stride, padding, _):
                x = lax.conv_general_dilated(
                    x, parts["kernel"], (stride, stride), padding.upper(), dimension_numbers=_LAYOUT
                )
            case DepthwiseConv2D(_, stride, padding, _):
                channels = x.shape[-1]
                kernel = parts["kernel"].reshape(*parts["kernel"].shape[:2], 1, channels)
                x = lax.conv_general_dilated(
                    x, kernel, (stride, stride), padding.upper(), dimension_numbers=_LAYOUT,
                    feature_group_count=channels,
                )  # fmt: skip
            case Dense():
                x = x @ parts["kernel"]
            case BatchNorm():
                x = self._normalize(placed, weights, x, training, statistics)
            case ReLU():
                x = jnp.maximum(x, 0)
            case Dropout():
                x = x * masks[placed.name].astype(x.dtype) if training else x
            case MaxPool2D(size):
                x = self._pool(x, lax.max, -np.inf, size, placed.layer.step)
            case AveragePool2D(size):
                x = self._pool(x, lax.add, 0.0, size, placed.layer.step) / (size * size)
            case GlobalAveragePool():
                x = x.mean(axis=(1, 2))
            case Flatten():
                x = x.reshape(len(x), -1)
            case ZeroPadShortcut(filters, stride):
                extra = filters - placed.input_shape[-1]
                x = jnp.pad(x[:, ::stride, ::stride, :], ((0, 0), (0, 0), (0, 0), (0, extra)))
            case Residual():
                x = self._run_layers(placed.body, weights, x, masks, statistics) + self._run_layers(
                    placed.shortcut, weights, x, masks, statistics
                )
            case _:
                raise Unsupported(f"no layer {type(placed.layer).__name__} in the JAX adapter")
        if "bias" in parts:
            x = x + parts["bias"]
        return x

    def _normalize(
        self, placed: Placed, weights: Mapping[str, Any], x: Any, training: bool, statistics: dict[str, Any]
    ) -> Any:
        """In float32, also where the rest is not. The variance that runs along is the population's."""
        layer, name, jnp = placed.layer, placed.name, self._jax.numpy
        gamma, beta, mean, variance = (weights[f"{name}.{part}"] for part in ("gamma", "beta", "mean", "variance"))
        values = x.astype(np.float32)
        if training and f"{name}.gamma" in self._trained:
            axes = tuple(range(x.ndim - 1))
            now, spread = values.mean(axes), values.var(axes)
            statistics[f"{name}.mean"] = layer.momentum * mean + (1 - layer.momentum) * now
            statistics[f"{name}.variance"] = layer.momentum * variance + (1 - layer.momentum) * spread
            mean, variance = now, spread
        return ((values - mean) * (gamma / jnp.sqrt(variance + layer.epsilon)) + beta).astype(x.dtype)

    def _pool(self, x: Any, reduce: Any, start: float, size: int, step: int) -> Any:
        window, strides = (1, size, size, 1), (1, step, step, 1)
        return self._jax.lax.reduce_window(x, np.asarray(start, x.dtype), reduce, window, strides, "VALID")

    def _loss(self, trained: Any, others: Any, x: Any, y: Any, masks: Any) -> tuple[Any, dict[str, Any]]:
        """The mean cross-entropy, and the new running statistics."""
        jax = self._jax
        logits, statistics = self._logits({**others, **trained}, x, masks)
        classes, smoothing = logits.shape[-1], self._training.label_smoothing
        targets = (1 - smoothing) * jax.nn.one_hot(y, classes) + smoothing / classes
        return -(targets * jax.nn.log_softmax(logits)).sum(-1).mean(), statistics

    def _gradients_of(self, weights: Any, x: Any, y: Any, masks: Any) -> Any:
        trained = {name: weights[name] for name in self._trained}
        others = {name: value for name, value in weights.items() if name not in trained}
        return self._jax.value_and_grad(self._loss, has_aux=True)(trained, others, x, y, masks)

    def _train(self, state: State, key: Any, rate: Any, x: Any, y: Any, masks: Any) -> tuple[State, Any, Any]:
        if masks is None:
            key, own = self._jax.random.split(key)
            masks = self._draw_masks(own, len(x))
        (loss, statistics), gradients = self._gradients_of(state.weights, x, y, masks)
        weights, first, second = {**state.weights, **statistics}, dict(state.first), dict(state.second)
        steps = state.steps + 1
        for name, gradient in gradients.items():
            weights[name], first[name], moment = self._update(
                state.weights[name], gradient, state.first[name], state.second.get(name), steps, rate
            )
            if moment is not None:
                second[name] = moment
        return State(weights, first, second, steps), key, loss

    def _update(self, weight: Any, gradient: Any, first: Any, second: Any, steps: Any, rate: Any) -> tuple[Any, ...]:
        """One weight's step (``backends.optimizers``, forms ``rate-outside`` and ``corrected``)."""
        assert self._training is not None
        options, jnp = self._training.optimizer, self._jax.numpy
        if options.name != "adamw" and options.weight_decay:
            gradient = gradient + options.weight_decay * weight
        if second is None:
            first = options.momentum * first + gradient
            step = gradient + options.momentum * first if options.nesterov else first
            return weight - rate * step, first, None
        if options.name == "adamw":
            weight = weight * (1 - rate * options.weight_decay)
        first = options.beta1 * first + (1 - options.beta1) * gradient
        second = options.beta2 * second + (1 - options.beta2) * gradient**2
        m, v = first / (1 - options.beta1**steps), second / (1 - options.beta2**steps)
        return weight - rate * m / (jnp.sqrt(v) + options.epsilon), first, second

    def _draw_masks(self, key: Any, images: int) -> dict[str, Any]:
        """Own random masks of the layers of dropout, scaled by 1 / (1 - rate)."""
        random, masks = self._jax.random, {}
        for placed in self._model.walk():
            if isinstance(placed.layer, Dropout):
                key, own = random.split(key)
                keep = 1 - placed.layer.rate
                masks[placed.name] = random.bernoulli(own, keep, (images, *placed.input_shape)) / keep
        return masks

    def to_device(self, x: Images, y: Labels | None = None) -> tuple[Any, Any]:
        placed = self._jax.device_put(x, self._place if y is None else self._split)
        labels = None if y is None else self._jax.device_put(y.astype(np.int32), self._split)
        return self._jax.block_until_ready((placed, labels))

    def forward(self, x: Any) -> Any:
        self._last = self._run(self._state.weights, x)
        return self._last

    def train_step(self, x: Any, y: Any, learning_rate: float, dropout_masks: Weights | None = None) -> Any:
        if self._training is None:
            raise Unsupported("built for inference only")
        rate, masks = np.float32(learning_rate), self._masks(dropout_masks)
        self._state, self._key, self._last = self._step(self._state, self._key, rate, x, y, masks)
        return self._last

    def gradients(self, x: Any, y: Any, dropout_masks: Weights | None = None) -> Weights:
        masks = self._masks(dropout_masks)
        masks = self._draw_masks(self._key, len(x)) if masks is None else masks
        gradients = self._slopes(self._state.weights, x, y, masks)
        return {name: np.asarray(gradients[name]) for name in self._trained}

    def _masks(self, masks: Weights | None) -> Any:
        return None if masks is None else {name: self._jax.device_put(mask) for name, mask in masks.items()}

    def weights(self) -> Weights:
        return {name: np.array(self._state.weights[name]) for name in self._model.weight_shapes}

    def synchronize(self) -> None:
        self._jax.block_until_ready((self._state, self._last))

    def to_numpy(self, tensor: Any) -> Any:
        return np.asarray(tensor)

    def operators(self, make_step: Callable[[], Callable[[], object]], steps: int) -> list[Operator]:
        """See ``backends.xla_profile``."""
        return xla_profile.profiled(self._jax, self, ("_run", "_step"), make_step, steps, self.synchronize, self._model)

    def roof_kernels(self, size: int, length: int) -> dict[str, Callable[[], Any]]:
        jax, ones = self._jax, self._jax.numpy.ones
        a, x, y = ones((size, size), self._compute), ones(length, np.float32), ones(length, np.float32)
        product, triad = jax.jit(lambda a, b: a @ b), jax.jit(lambda x, y: x + 1.5 * y)

        def kept(kernel: Any, *given: Any) -> Any:
            self._last = kernel(*given)
            return self._last

        kernels = {"product": lambda: kept(product, a, a), "triad": lambda: kept(triad, x, y)}
        if self._device != "cpu":
            return kernels
        images, weight = (ones(shape, self._compute) for shape in roof_convolution(size))
        layout = ("NHWC", "HWIO", "NHWC")
        convolution = jax.jit(
            lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=layout)
        )
        return {**kernels, "convolution": lambda: kept(convolution, images, weight)}

    def counts(self) -> dict[str, int]:
        return {"parameters": sum(int(np.prod(self._state.weights[name].shape)) for name in self._model.trained)}

    def input_pipeline(self, files: ImageFiles, batch_size: int, workers: int) -> InputPipeline:
        put = self._jax.device_put
        return GrainLoader(
            files, batch_size, workers, lambda x, y: (put(x, self._place), put(y.astype(np.int32), self._place))
        )

    def device_memory(self) -> dict[str, int]:
        statistics = self._place.memory_stats() if self._device == "cuda" else None
        return {"peak_allocated": int(statistics["peak_bytes_in_use"])} if statistics else {}

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)

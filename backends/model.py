"""A model as a sequence of layers: shapes, parameter and FLOP counts, and weights drawn from a seed.

Adapters build native layers from ``ModelSpec``; each framework's own counts are compared with those here. Only a
residual block contains other layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

Shape: TypeAlias = tuple[int, ...]
Weights: TypeAlias = dict[str, npt.NDArray[Any]]
Padding: TypeAlias = Literal["valid", "same"]

STATISTICS = ("mean", "variance")
"""The last part of the names of weights that are not trained: the running statistics of batch normalization."""


def margins(size: int, window: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Number of rows (or columns) of zeros before and after. ``same`` is TensorFlow's rule (SAME_UPPER in ONNX): there
    are ceil(size / stride) outputs, and an odd number of zeros puts the extra one after. PyTorch's ``padding=1`` would
    put it before."""
    if padding == "valid":
        return 0, 0
    total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def _windowed(shape: Shape, window: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Height and width of the output of a window that moves over ``(H, W, C)``."""
    _require_image(shape)
    height, width = ((size + sum(margins(size, window, stride, padding)) - window) // stride + 1 for size in shape[:2])
    return height, width


def _require_image(shape: Shape) -> None:
    if len(shape) != 3:
        raise ValueError(f"it needs height, width and channels, got {shape}; put it before flatten")


@dataclass(frozen=True)
class Layer:
    """The interface of all layers. Shapes are without the batch dimension.

    Raises:
        ValueError: a count below 1, or a share outside 0 to 1.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}
    """pydantic's settings to check a user's file against a layer (``bench.workloads.toml_files``)."""

    def __post_init__(self) -> None:
        for each in fields(cast(Any, self)):  # every layer is a dataclass
            name, value = each.name, getattr(self, each.name)
            if each.type == "float" and isinstance(value, int | float):
                object.__setattr__(self, name, float(value))  # 0 is as good as 0.0
                if not 0 <= value < 1:
                    raise ValueError(f"'{name}' must be 0 or more and below 1, not {value:g}")
            elif isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ValueError(f"'{name}' must be 1 or more, not {value}")

    def output_shape(self, shape: Shape) -> Shape:
        """The output's shape for an input of this shape."""
        return shape

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Shapes by part (``kernel``, ``bias``, ...), trained parts first."""
        return {}

    def multiply_accumulates(self, shape: Shape) -> int:
        """Number of multiply-accumulates of one image's forward pass."""
        return 0

    def fans(self, shape: Shape) -> tuple[int, int]:
        """Fan-in and fan-out: inputs of one output value, and outputs that depend on one input value."""
        return 1, 1


def _with_bias(kernel: Shape, units: int, bias: bool) -> dict[str, Shape]:
    return {"kernel": kernel, **({"bias": (units,)} if bias else {})}


@dataclass(frozen=True)
class Conv2D(Layer):
    """Convolution (as in all frameworks: cross-correlation) with a square kernel."""

    filters: int
    kernel: int
    stride: int = 1
    padding: Padding = "valid"
    bias: bool = True

    def output_shape(self, shape: Shape) -> Shape:
        return *_windowed(shape, self.kernel, self.stride, self.padding), self.filters

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        return _with_bias((self.kernel, self.kernel, shape[2], self.filters), self.filters, self.bias)

    def multiply_accumulates(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * self.kernel**2 * shape[2]

    def fans(self, shape: Shape) -> tuple[int, int]:
        return self.kernel**2 * shape[2], self.kernel**2 * self.filters


@dataclass(frozen=True)
class DepthwiseConv2D(Layer):
    """One square kernel per channel (Howard et al. 2017, section 3.1); followed by a ``conv2d`` of kernel 1, it is a
    depthwise separable convolution. Kernel ``(kh, kw, C, 1)``."""

    kernel: int
    stride: int = 1
    padding: Padding = "valid"
    bias: bool = True

    def output_shape(self, shape: Shape) -> Shape:
        return *_windowed(shape, self.kernel, self.stride, self.padding), shape[2]

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        return _with_bias((self.kernel, self.kernel, shape[2], 1), shape[2], self.bias)

    def multiply_accumulates(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * self.kernel**2

    def fans(self, shape: Shape) -> tuple[int, int]:
        return self.kernel**2, self.kernel**2


@dataclass(frozen=True)
class Dense(Layer):
    """Fully connected layer."""

    units: int
    bias: bool = True

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(f"dense needs a flat input, got {shape}; put flatten before it")
        return (self.units,)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        return _with_bias((shape[0], self.units), self.units, self.bias)

    def multiply_accumulates(self, shape: Shape) -> int:
        return shape[0] * self.units

    def fans(self, shape: Shape) -> tuple[int, int]:
        return shape[0], self.units


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalization over all axes but the last (Ioffe & Szegedy 2015, algorithm 1). Training uses the batch's
    mean and biased variance, evaluation the running ones.

    ``momentum`` is the weight of the old running value (Keras' convention; PyTorch's is one minus it).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epsilon == 0:
            raise ValueError("'epsilon' must be above 0: PyTorch refuses 0")

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        return dict.fromkeys(("gamma", "beta", *STATISTICS), shape[-1:])


@dataclass(frozen=True)
class ReLU(Layer):
    """max(0, x)."""


@dataclass(frozen=True)
class Dropout(Layer):
    """In training, each value is set to zero with probability ``rate``; the others are divided by (1 - ``rate``)."""

    rate: float


@dataclass(frozen=True)
class _Pool2D(Layer):
    """Pooling over ``size`` x ``size`` windows, ``stride`` (default: ``size``) apart; incomplete ones are dropped."""

    size: int = 2
    stride: int | None = None

    @property
    def step(self) -> int:
        """The stride, ``size`` if not given."""
        return self.stride or self.size

    def output_shape(self, shape: Shape) -> Shape:
        return *_windowed(shape, self.size, self.step, "valid"), shape[2]


@dataclass(frozen=True)
class MaxPool2D(_Pool2D):
    """Maximum of each window."""


@dataclass(frozen=True)
class AveragePool2D(_Pool2D):
    """Mean of each window."""


@dataclass(frozen=True)
class GlobalAveragePool(Layer):
    """``(H, W, C)`` to the mean of every channel, ``(C,)``."""

    def output_shape(self, shape: Shape) -> Shape:
        _require_image(shape)
        return shape[2:]


@dataclass(frozen=True)
class Flatten(Layer):
    """``(H, W, C)`` to ``(H*W*C,)`` in that order."""

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


@dataclass(frozen=True)
class ZeroPadShortcut(Layer):
    """A shortcut without parameters (He et al. 2016, section 3.3, option A): every ``stride``-th row and column,
    with channels of zeros appended up to ``filters``."""

    filters: int
    stride: int = 1

    def output_shape(self, shape: Shape) -> Shape:
        _require_image(shape)
        if self.filters < shape[2]:
            raise ValueError(f"zero_pad_shortcut cannot make {self.filters} channels from {shape[2]}")
        return -(-shape[0] // self.stride), -(-shape[1] // self.stride), self.filters


@dataclass(frozen=True)
class Residual(Layer):
    """body(x) + shortcut(x) (He et al. 2016, section 3.2). An empty shortcut is the identity, one with a convolution is
    a projection. The activation after the sum is a separate layer."""

    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()

    def output_shape(self, shape: Shape) -> Shape:
        body, shortcut = _output_shape(self.body, shape), _output_shape(self.shortcut, shape)
        if body != shortcut:
            raise ValueError(f"residual cannot add {body} (body) and {shortcut} (shortcut)")
        return body


def _output_shape(layers: Sequence[Layer], shape: Shape) -> Shape:
    for layer in layers:
        shape = layer.output_shape(shape)
    return shape


LAYERS: dict[str, type[Layer]] = {
    "conv2d": Conv2D,
    "depthwise_conv2d": DepthwiseConv2D,
    "batch_norm": BatchNorm,
    "relu": ReLU,
    "dropout": Dropout,
    "max_pool2d": MaxPool2D,
    "average_pool2d": AveragePool2D,
    "global_average_pool": GlobalAveragePool,
    "flatten": Flatten,
    "dense": Dense,
    "zero_pad_shortcut": ZeroPadShortcut,
    "residual": Residual,
}
KINDS = {layer: kind for kind, layer in LAYERS.items()}


@dataclass(frozen=True)
class Placed:
    """A layer of a model with its name (``conv2d_1``, ...), and its shapes without the batch dimension."""

    name: str
    layer: Layer
    input_shape: Shape
    output_shape: Shape
    body: tuple[Placed, ...] = ()
    """Only in a residual block."""
    shortcut: tuple[Placed, ...] = ()

    @property
    def weight_shapes(self) -> dict[str, Shape]:
        """Shapes by canonical weight name (``conv2d_1.kernel``), of this layer only."""
        return {f"{self.name}.{part}": s for part, s in self.layer.weight_shapes(self.input_shape).items()}

    @property
    def trained(self) -> list[str]:
        """Names of the weights that have gradients."""
        return [name for name in self.weight_shapes if is_trained(name)]


def is_trained(name: str) -> bool:
    """Whether the optimizer changes a weight; it does not change running statistics."""
    return name.rpartition(".")[2] not in STATISTICS


@dataclass(frozen=True)
class ModelSpec:
    """A feed-forward classifier; the last layer computes the logits.

    Raises:
        ValueError: a layer does not fit its input.
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        for placed in self.walk():
            if min(placed.output_shape) < 1:
                raise ValueError(f"{placed.name} makes {placed.output_shape} from {placed.input_shape}")

    def placed(self) -> list[Placed]:
        """The layers in order, with names and shapes; a residual block counts as one layer."""
        return _place(self.layers, self.input_shape, dict.fromkeys(LAYERS, 0))

    def walk(self) -> Iterator[Placed]:
        """All layers; those inside a residual block (body, then shortcut) come before the block."""
        yield from _walk(self.placed())

    @property
    def classes(self) -> int:
        """Number of logits."""
        return _output_shape(self.layers, self.input_shape)[0]

    @property
    def head(self) -> str:
        """Name of the last dense layer, which fine-tuning trains from new weights."""
        return [placed.name for placed in self.walk() if isinstance(placed.layer, Dense)][-1]

    @property
    def weight_shapes(self) -> dict[str, Shape]:
        """Shapes by canonical name, in the order of ``walk``, with the running statistics."""
        return {name: shape for placed in self.walk() for name, shape in placed.weight_shapes.items()}

    @property
    def trained(self) -> list[str]:
        """Names of the weights that the optimizer changes."""
        return [name for name in self.weight_shapes if is_trained(name)]

    @property
    def normalizes(self) -> bool:
        """Whether, in training, the output for an image depends on the other images of the batch."""
        return any(isinstance(placed.layer, BatchNorm) for placed in self.walk())

    @property
    def parameters(self) -> int:
        """Number of trained values."""
        shapes = self.weight_shapes
        return sum(math.prod(shapes[name]) for name in self.trained)

    @property
    def flops(self) -> int:
        """Floating-point operations of one image's forward pass: 2 per multiply-accumulate of convolutions and
        dense layers. Biases, activations, normalization, additions and pooling do not count (as in He et al. 2016)."""
        return sum(2 * placed.layer.multiply_accumulates(placed.input_shape) for placed in self.walk())

    def initial_weights(self, seed: int) -> Weights:
        """Float32 weights from a seed: kernels Glorot uniform (Glorot & Bengio 2010, eq. 16), biases uniform within
        1/sqrt(fan-in), as in PyTorch. Biases are not zero, so that a missing bias changes the logits. For the same
        reason the weights of batch normalization are within 0.1 of the usual 1, 0, 0, 1."""
        rng = np.random.default_rng(seed)
        weights: Weights = {}
        for placed in self.walk():
            fan_in, fan_out = placed.layer.fans(placed.input_shape)
            limits = {"kernel": math.sqrt(6 / (fan_in + fan_out)), "bias": 1 / math.sqrt(fan_in)}
            for name, shape in placed.weight_shapes.items():
                part = name.rpartition(".")[2]
                limit, center = limits.get(part, 0.1), float(part in ("gamma", "variance"))
                weights[name] = (center + rng.uniform(-limit, limit, shape)).astype(np.float32)
        return weights

    def dropout_masks(self, images: int, seed: int) -> Weights:
        """Masks ``(N, ...)`` by layer name, float32: factors of the layer's input, 0 or 1 / (1 - rate)."""
        rng = np.random.default_rng([seed, images])
        return {
            placed.name: (rng.random((images, *placed.input_shape)) >= placed.layer.rate).astype(np.float32)
            / np.float32(1 - placed.layer.rate)
            for placed in self.walk()
            if isinstance(placed.layer, Dropout)
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them."""
        layers = [_to_dict(layer) for layer in self.layers]
        return {"name": self.name, "input_shape": list(self.input_shape), "layers": layers}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> ModelSpec:
        """The spec that ``to_dict`` wrote."""
        return cls(plain["name"], tuple(plain["input_shape"]), _layers(plain["layers"]))


def _place(layers: Sequence[Layer], shape: Shape, counts: dict[str, int]) -> list[Placed]:
    placed = []
    for layer in layers:
        kind = KINDS[type(layer)]
        counts[kind] += 1
        name = f"{kind}_{counts[kind]}"
        inside: tuple[tuple[Placed, ...], tuple[Placed, ...]] = ((), ())
        if isinstance(layer, Residual):
            inside = tuple(_place(layer.body, shape, counts)), tuple(_place(layer.shortcut, shape, counts))
        placed.append(Placed(name, layer, shape, layer.output_shape(shape), *inside))
        shape = placed[-1].output_shape
    return placed


def _walk(layers: Sequence[Placed]) -> Iterator[Placed]:
    for placed in layers:
        yield from _walk(placed.body)
        yield from _walk(placed.shortcut)
        yield placed


def _to_dict(layer: Layer) -> dict[str, Any]:
    plain = {"kind": KINDS[type(layer)], **asdict(layer)}
    if isinstance(layer, Residual):
        plain |= {part: [_to_dict(inner) for inner in getattr(layer, part)] for part in ("body", "shortcut")}
    return plain


def _layers(plain: Sequence[dict[str, Any]]) -> tuple[Layer, ...]:
    return tuple(_layer(dict(layer)) for layer in plain)


def _layer(plain: dict[str, Any]) -> Layer:
    kind = LAYERS[plain.pop("kind")]
    if kind is Residual:
        plain = {part: _layers(inner) for part, inner in plain.items()}
    return kind(**plain)

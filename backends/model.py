"""A model as a frozen list of layers; its shapes, parameter and FLOP counts, and weights drawn from a seed.

Adapters build native layers from ``ModelSpec``; the counts here are checked against each framework's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Shape: TypeAlias = tuple[int, ...]
Weights: TypeAlias = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Conv2D:
    """Convolution (cross-correlation, as frameworks have it), stride 1, valid padding, with bias."""

    filters: int
    kernel: int

    def output_shape(self, shape: Shape) -> Shape:
        height, width, _ = shape
        return height - self.kernel + 1, width - self.kernel + 1, self.filters

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"kernel": (self.kernel, self.kernel, shape[2], self.filters), "bias": (self.filters,)}

    def multiply_accumulates(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * self.kernel**2 * shape[2]


@dataclass(frozen=True)
class Dense:
    """Fully connected layer with bias."""

    units: int

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(f"dense needs a flat input, got {shape}; put flatten before it")
        return (self.units,)

    def weight_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"kernel": (shape[0], self.units), "bias": (self.units,)}

    def multiply_accumulates(self, shape: Shape) -> int:
        return shape[0] * self.units


@dataclass(frozen=True)
class ReLU:
    """max(0, x)."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape


@dataclass(frozen=True)
class MaxPool2D:
    """Maximum over ``size`` x ``size`` windows, stride ``size``; rows and columns left over are dropped."""

    size: int = 2

    def output_shape(self, shape: Shape) -> Shape:
        height, width, channels = shape
        return height // self.size, width // self.size, channels


@dataclass(frozen=True)
class Flatten:
    """``(H, W, C)`` to ``(H*W*C,)`` in that order."""

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


Layer: TypeAlias = Conv2D | Dense | ReLU | MaxPool2D | Flatten
LAYERS: dict[str, type[Layer]] = {
    "conv2d": Conv2D,
    "relu": ReLU,
    "max_pool2d": MaxPool2D,
    "flatten": Flatten,
    "dense": Dense,
}
_KIND = {layer: kind for kind, layer in LAYERS.items()}


@dataclass(frozen=True)
class Placed:
    """A layer at its place in the model: its name (``conv2d_1``, ...), and shapes without the batch dimension."""

    name: str
    layer: Layer
    input_shape: Shape
    output_shape: Shape

    @property
    def weight_shapes(self) -> dict[str, Shape]:
        """Canonical weight name (``conv2d_1.kernel``) to shape; empty for layers without weights."""
        if not isinstance(self.layer, Conv2D | Dense):
            return {}
        return {f"{self.name}.{part}": s for part, s in self.layer.weight_shapes(self.input_shape).items()}


@dataclass(frozen=True)
class ModelSpec:
    """A feed-forward classifier; the last layer gives the logits.

    Raises:
        ValueError: a layer does not fit its input.
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        for placed in self.placed():
            if min(placed.output_shape) < 1:
                raise ValueError(f"{self.name}: {placed.name} makes {placed.output_shape} of {placed.input_shape}")

    def placed(self) -> Iterator[Placed]:
        """The layers in order, with names and shapes."""
        shape, seen = self.input_shape, dict.fromkeys(LAYERS, 0)
        for layer in self.layers:
            kind = _KIND[type(layer)]
            seen[kind] += 1
            placed = Placed(f"{kind}_{seen[kind]}", layer, shape, layer.output_shape(shape))
            yield placed
            shape = placed.output_shape

    @property
    def classes(self) -> int:
        """Number of logits."""
        return list(self.placed())[-1].output_shape[0]

    @property
    def weight_shapes(self) -> dict[str, Shape]:
        """Canonical name to shape, in the order of the layers."""
        return {name: shape for placed in self.placed() for name, shape in placed.weight_shapes.items()}

    @property
    def parameters(self) -> int:
        """Number of trained values."""
        return sum(math.prod(shape) for shape in self.weight_shapes.values())

    @property
    def flops(self) -> int:
        """Floating-point operations of one image's forward pass: 2 per multiply-accumulate of convolutions and
        dense layers; biases, activations and pooling are not counted (He et al. 2016 count likewise)."""
        return sum(
            2 * placed.layer.multiply_accumulates(placed.input_shape)
            for placed in self.placed()
            if isinstance(placed.layer, Conv2D | Dense)
        )

    def initial_weights(self, seed: int) -> Weights:
        """Float32 weights from a seed: kernels Glorot uniform (Glorot & Bengio 2010, eq. 16), biases uniform within
        1/sqrt(fan-in) as PyTorch draws them: not zero, so that a bias that is left out shows in the logits."""
        rng = np.random.default_rng(seed)
        weights: Weights = {}
        fan_in = 1
        for name, shape in self.weight_shapes.items():
            if name.endswith(".kernel"):
                fan_in, fan_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
                limit = math.sqrt(6 / (fan_in + fan_out))
            else:
                limit = 1 / math.sqrt(fan_in)
            weights[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
        return weights

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them."""
        layers = [{"kind": _KIND[type(layer)], **asdict(layer)} for layer in self.layers]
        return {"name": self.name, "input_shape": list(self.input_shape), "layers": layers}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> ModelSpec:
        """The spec that ``to_dict`` wrote."""
        layers = ({**layer} for layer in plain["layers"])
        built = tuple(LAYERS[layer.pop("kind")](**layer) for layer in layers)
        return cls(plain["name"], tuple(plain["input_shape"]), built)

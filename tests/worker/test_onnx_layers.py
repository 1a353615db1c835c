"""Which node of a file an operator of a runtime was, and which layer of the model a node is of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backends.base import Operator
from backends.model import Conv2D, Dense, DepthwiseConv2D, Flatten, ModelSpec, Weights
from bench.worker.onnx_layers import Node, _likest, _node_of, named
from bench.workloads.models import MODELS

NODES = [
    Node("conv", "Conv", ("x", "k1"), ("a",)),
    Node("conv_1", "Conv", ("a", "k2"), ("b",)),
    Node("relu", "Relu", ("b",), ("c",)),
]


@pytest.mark.parametrize(
    ("name", "kind", "node"),
    [
        ("conv_1", "Conv", "conv_1"),
        ("conv_1_nchwc", "Conv", "conv_1"),
        ("conv_1_2", "Conv", "conv_1"),
        ("conv_7", "Conv", "conv"),
        ("b_first_nchwc", "Conv", "conv_1"),
        ("fused relu", "FusedConv", "conv_1"),
        ("conv_1_token_7", "QLinearConv", "conv_1"),
        ("conv_1_token_7", "ConvInteger", "conv_1"),
        ("conv_1_2", "Mean", None),
        ("convolution", "Conv", None),
    ],
)
def test_an_operator_has_the_node_whose_name_a_runtime_made_longer(name: str, kind: str, node: str | None) -> None:
    found = _node_of(Operator(name, kind, "", False, 0.0), NODES)
    assert (None if found is None else found.name) == node


Array = npt.NDArray[Any]
Changed = Callable[[Array], Array]
SMALL = ModelSpec(
    "small", (8, 8, 3), (Conv2D(4, 3), DepthwiseConv2D(3), Conv2D(4, 3), Flatten(), Dense(5), Dense(5))
)  # fmt: skip
"""Two convolutions whose kernels have other shapes, and two like layers behind."""


def folded(kernel: Array) -> Array:
    """Every filter times another factor, as batch norm folds them: some negative, one zero."""
    factors = np.random.default_rng(5).normal(size=len(kernel)).astype(np.float32)
    factors[1] = 0
    return kernel * factors.reshape(-1, *[1] * (kernel.ndim - 1))


def in_file(kernel: Array) -> Array:
    """A layer's kernel as ONNX has it."""
    if kernel.ndim == 2:
        return kernel.T
    return kernel.transpose(2, 3, 0, 1) if kernel.shape[3] == 1 else kernel.transpose(3, 2, 0, 1)


def kernels_of(weights: Weights) -> dict[str, Array]:
    return {name.rpartition(".")[0]: values for name, values in weights.items() if values.ndim > 1}


@pytest.mark.parametrize("change", [np.copy, folded, lambda kernel: np.round(kernel / np.abs(kernel).max() * 127)])
@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_every_kernel_of_a_file_is_of_its_layer(model: ModelSpec, change: Changed) -> None:
    """As it is, with batch norm folded in, and rounded to eight bits: among all layers of a built-in model."""
    kernels = kernels_of(model.initial_weights(3))
    for layer, kernel in kernels.items():
        assert _likest(change(in_file(kernel)), kernels) == layer


def test_other_numbers_are_of_no_layer() -> None:
    kernels = kernels_of(MODELS["resnet20"].initial_weights(3))
    others = kernels_of(MODELS["resnet20"].initial_weights(4))
    assert {_likest(in_file(kernel), kernels) for kernel in others.values()} == {None}
    assert _likest(np.zeros((16, 3, 3, 3), np.float32), kernels) is None
    assert _likest(np.ones((7, 5), np.float32), kernels) is None


def write_small(path: Path, weights: Weights, quantized: bool) -> None:
    """The kernels of the small model in a chain of nodes: folded, or as integers that are dequantized first."""
    nodes, tensors = [], []
    for number, (layer, kernel) in enumerate(kernels_of(weights).items()):
        values, name = folded(in_file(kernel)) if kernel.ndim > 2 else kernel, f"k{number}"
        if quantized:
            scale = np.float32(np.abs(values).max() / 127)
            tensors += [numpy_helper.from_array(np.round(values / scale).astype(np.int8), f"{name}_q")]
            tensors += [numpy_helper.from_array(scale, f"{name}_s")]
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s"], [name], f"d{number}"))
        else:
            tensors.append(numpy_helper.from_array(values.astype(np.float32), name))
        kind = "Conv" if kernel.ndim > 2 else "MatMul"
        nodes.append(helper.make_node(kind, [f"y{number}", name], [f"y{number + 1}"], f"node {layer}"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("y0", TensorProto.FLOAT, None)], [value("y5", TensorProto.FLOAT, None)], tensors
    )
    onnx.save(helper.make_model(graph), str(path))


@pytest.mark.parametrize("quantized", [False, True])
def test_operators_have_their_layers_whatever_was_folded_or_rounded(tmp_path: Path, quantized: bool) -> None:
    weights = SMALL.initial_weights(0)
    write_small(tmp_path / "model.onnx", weights, quantized)
    layers = list(kernels_of(weights))
    kinds = ["QLinearConv" if quantized else "Conv"] * 3 + ["MatMul"] * 2
    operators = [
        Operator(f"node {layer}_token_{number}", kind, "", False, 1.0)
        for number, (layer, kind) in enumerate(zip(layers, kinds, strict=True))
    ]
    found = named(operators, tmp_path / "model.onnx", SMALL, weights)
    assert [operator.layer for operator in found] == layers
    assert len(layers) == 5

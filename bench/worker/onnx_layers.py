"""Which layer of a model an operator of its exported ONNX file belongs to.

An operator with weights has a layer's kernel: the same numbers, in whatever layout. One without weights has the layer
of its kind in the same place, where there are as many of both. A runtime renames what it fuses: its names hold the
node's name, or that of the value which the fused operators make.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backends.base import Operator
from backends.model import ModelSpec, Weights

KINDS = {
    "Relu": "ReLU",
    "MaxPool": "MaxPool2D",
    "AveragePool": "AveragePool2D",
    "GlobalAveragePool": "GlobalAveragePool",
    "BatchNormalization": "BatchNorm",
    "Flatten": "Flatten",
    "Add": "Residual",
}
"""Operators of ONNX without a kernel, and the layers that they are of."""
WITH_KERNEL = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "QLinearConv", "ConvInteger"}
DECORATIONS = ("fused ", "_nchwc", "/MatMulAddFusion", "/WithoutBiases")
"""What ONNX Runtime and OpenVINO add to the names of what they fuse."""
BY_EXPORTER = "inserted by the exporter"


@dataclass(frozen=True)
class Node:
    """A node of a file, by its name and by the values that it makes."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def named(operators: Sequence[Operator], path: Path, model: ModelSpec, weights: Weights) -> list[Operator]:
    """The operators of a runtime with their layers. ``weights``: those that were exported."""
    import onnx

    graph = onnx.load(str(path)).graph
    nodes = [Node(n.name or n.output[0], n.op_type, tuple(n.input), tuple(n.output)) for n in graph.node]
    layers = _by_kernel(graph, nodes, weights) | _by_place(nodes, model)
    found = []
    for operator in operators:
        node = _node_of(operator, nodes)
        layer = "" if node is None else layers.get(node.name, "")
        note = operator.note
        if node is not None and not layer and node.kind in ("Transpose", "Identity", "Cast"):
            note = note or BY_EXPORTER
        found.append(operator._replace(layer=layer, note=note))
    return found


def _digest(values: Any) -> str:
    """Of the numbers, whatever their order."""
    return hashlib.sha256(np.sort(np.asarray(values, np.float32).ravel()).tobytes()).hexdigest()


def _by_kernel(graph: Any, nodes: Sequence[Node], weights: Weights) -> dict[str, str]:
    import onnx

    kernels = {_digest(values): name.rpartition(".")[0] for name, values in weights.items() if values.ndim > 1}
    made = {output: node for node in nodes for output in node.outputs}
    layer_of_value = {}
    for tensor in graph.initializer:
        if len(tensor.dims) > 1:
            layer = kernels.get(_digest(onnx.numpy_helper.to_array(tensor)))
            if layer is not None:
                layer_of_value[tensor.name] = layer
    found = {}
    for node in nodes:
        for value in node.inputs:
            while value in made and value not in layer_of_value:  # a kernel behind a transpose of it
                value = made[value].inputs[0] if made[value].kind in ("Transpose", "Identity", "Reshape") else ""
            if value in layer_of_value and node.kind in WITH_KERNEL:
                found[node.name] = layer_of_value[value]
    return found


def _by_place(nodes: Sequence[Node], model: ModelSpec) -> dict[str, str]:
    layers = defaultdict(list)
    for placed in model.walk():
        layers[type(placed.layer).__name__].append(placed.name)
    found: dict[str, str] = {}
    for kind, layer_kind in KINDS.items():
        of_kind = [node.name for node in nodes if node.kind == kind]
        if len(of_kind) == len(layers[layer_kind]):
            found |= dict(zip(of_kind, layers[layer_kind], strict=True))
    return found


def _node_of(operator: Operator, nodes: Sequence[Node]) -> Node | None:
    """The node that an operator of a runtime was: where it fused several, that of its kind."""
    name = operator.name
    for decoration in DECORATIONS:
        name = name.replace(decoration, "")
    known: Mapping[str, Node] = {node.name: node for node in nodes}
    made = {output: node for node in nodes for output in node.outputs}
    kind = operator.kind.removeprefix("Fused")
    node = known.get(name) or made.get(name) or _longest_beginning(name, kind, nodes)
    first = node
    while node is not None and kind and node.kind != kind and not (kind == "Gemm" and node.kind == "MatMul"):
        node = made.get(node.inputs[0]) if node.inputs else None
    return node or first


def _longest_beginning(name: str, kind: str, nodes: Sequence[Node]) -> Node | None:
    """The node of this kind whose name, or that of its value, a runtime has made longer, such as where it makes two."""
    names = [(each, node) for node in nodes if node.kind == kind for each in (node.name, *node.outputs)]
    fitting = [(len(each), node) for each, node in names if name.startswith(f"{each}_")]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None

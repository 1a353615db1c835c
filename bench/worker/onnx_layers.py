"""Which layer of a model an operator of its exported ONNX file belongs to.

An operator with weights has a layer's kernel: the same numbers, in whatever layout, or filters of the same directions,
where batch norm was folded into them or they were rounded. One without weights has the layer of its kind in the same
place, where there are as many of both. A runtime renames what it fuses: its names hold the node's name, or that of the
value which the fused operators make.
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
WITH_KERNEL = ("Conv", "Gemm", "MatMul")
VARIANTS = ("Fused", "QLinear", "Q", "Nhwc")
"""What stands before a kind that a runtime fused, computes in integers, or in another layout."""
BEHIND = ("Transpose", "Identity", "Reshape", "Cast", "DequantizeLinear")
"""Operators that a kernel may pass through before it is used."""
LIKE = 0.9
"""Mean absolute cosine of two kernels' filters from which they are the same kernel, folded or rounded. Rounded to int8
it is 0.999 and more; of two random kernels of n numbers a filter about 0.8 / sqrt(n)."""
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

    kernels = {name.rpartition(".")[0]: values for name, values in weights.items() if values.ndim > 1}
    digests = {_digest(values): layer for layer, values in kernels.items()}
    made = {output: node for node in nodes for output in node.outputs}
    layer_of_value = {}
    for tensor in graph.initializer:
        if len(tensor.dims) > 1:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            layer = digests.get(_digest(values)) or _likest(values, kernels)
            if layer is not None:
                layer_of_value[tensor.name] = layer
    found = {}
    for node in nodes:
        for value in node.inputs:
            while value in made and value not in layer_of_value:
                value = made[value].inputs[0] if made[value].kind in BEHIND else ""
            if value in layer_of_value and _plain(node.kind) in WITH_KERNEL:
                found[node.name] = layer_of_value[value]
    return found


def _likest(values: Any, kernels: Mapping[str, Any]) -> str | None:
    """The layer whose filters have the directions of these: batch norm, folded into a kernel, only scales them."""
    likeness = {layer: _likeness(values, kernel) for layer, kernel in kernels.items()}
    layer = max(likeness, key=lambda name: likeness[name], default=None)
    return layer if layer is not None and likeness[layer] >= LIKE else None


def _likeness(values: Any, kernel: Any) -> float:
    """Mean absolute cosine of the filters of a tensor of a file and a layer's kernel; 0: their shapes are others."""
    layouts = (values, values.T) if values.ndim == 2 else (values,)
    fitting = [(one, other) for one in layouts for other in _filters_of(kernel) if one.shape == other.shape]
    return max((_mean_cosine(one, other) for one, other in fitting), default=0.0)


def _mean_cosine(one: Any, other: Any) -> float:
    one, other = one.reshape(len(one), -1), other.reshape(len(other), -1)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = np.abs((one * other).sum(axis=1))[norms > 0] / norms[norms > 0]
    return float(cosines.mean()) if len(cosines) else 0.0


def _filters_of(kernel: Any) -> list[Any]:
    """A layer's kernel as a file may have it, a filter for each index of the first axis: ``(kh, kw, C, F)`` as ``(F, C,
    kh, kw)``, a depthwise ``(kh, kw, C, 1)`` as ``(C, 1, kh, kw)``, ``(in, out)`` as ``(out, in)``."""
    if kernel.ndim == 2:
        return [kernel.T]
    return [kernel.transpose(3, 2, 0, 1), kernel.transpose(2, 3, 0, 1)]


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
    kind = _plain(operator.kind)
    node = known.get(name) or made.get(name) or _longest_beginning(name, kind, nodes)
    first = node
    while node is not None and kind and (own := _plain(node.kind)) != kind and (kind, own) != ("Gemm", "MatMul"):
        node = made.get(node.inputs[0]) if node.inputs else None
    return node or first


def _longest_beginning(name: str, kind: str, nodes: Sequence[Node]) -> Node | None:
    """The node of this kind whose name, or that of its value, a runtime has made longer, such as where it makes two."""
    names = [(each, node) for node in nodes if _plain(node.kind) == kind for each in (node.name, *node.outputs)]
    fitting = [(len(each), node) for each, node in names if name.startswith(f"{each}_")]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def _plain(kind: str) -> str:
    """The kind of an operator, such as ``Conv`` of ``FusedConv``, ``QLinearConv`` and ``ConvInteger``."""
    for variant in VARIANTS:
        if kind.startswith(variant) and kind[len(variant) :] in (*WITH_KERNEL, *KINDS):
            return kind.removeprefix(variant)
    return kind.removesuffix("Integer")

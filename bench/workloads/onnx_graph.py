"""What can be read from the graph of an ONNX file: its precision, and how large its integer inputs may be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

QUANTIZED = ("QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear")
"""Beginnings of the names of quantized operators."""
PASSES_INDICES = (
    "Cast",
    "Identity",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Transpose",
    "Expand",
    "Tile",
    "Clip",
)
"""Operators whose result has the values of their first input."""


def precision(model: Any) -> str:
    """``int4``, ``int8``, ``bf16``, ``fp16``, ``fp64`` or ``fp32``: the lowest that decides the file's rounding."""
    import onnx

    kinds = {tensor.data_type for tensor in model.graph.initializer}
    kinds |= {each.type.tensor_type.elem_type for each in (*model.graph.input, *model.graph.output)}
    operators = {node.op_type for node in _nodes(model.graph)}
    types = onnx.TensorProto
    if kinds & {types.INT4, types.UINT4} or any("NBits" in name or "Bnb4" in name for name in operators):
        return "int4"
    if any(name.startswith(QUANTIZED) for name in operators):
        return "int8"
    for kind, name in (
        (types.BFLOAT16, "bf16"),
        (types.FLOAT16, "fp16"),
        (types.FLOAT, "fp32"),
        (types.DOUBLE, "fp64"),
    ):
        if kind in kinds:
            return name
    return "fp32"


def names(model: Any) -> Iterator[Any]:
    """Every name in a file: of operators, values, tensors and what stands beside it."""
    for node in _nodes(model.graph):
        yield from (node.op_type, node.name, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for tensor in model.graph.initializer:
        yield tensor.name
        yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        yield value.name
        yield from (side.dim_param for side in value.type.tensor_type.shape.dim)


def highest_indices(model: Any) -> dict[str, int]:
    """By input: the largest integer that all tables which it indexes take (Gather, GatherElements, OneHot)."""
    shapes = _shapes(model)
    uses: dict[str, list[Any]] = {}
    for node in _nodes(model.graph):
        for name in node.input:
            uses.setdefault(name, []).append(node)
    limits = {each.name: _limit(each.name, uses, shapes, set()) for each in model.graph.input}
    return {name: limit - 1 for name, limit in limits.items() if limit}


def _limit(name: str, uses: dict[str, list[Any]], shapes: dict[str, list[int]], seen: set[str]) -> int | None:
    if name in seen:
        return None
    seen.add(name)
    limits: list[int] = []
    for node in uses.get(name, []):
        if node.op_type in ("Gather", "GatherElements") and len(node.input) > 1 and node.input[1] == name:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            shape = shapes.get(node.input[0])
            if shape and -len(shape) <= axis < len(shape) and shape[axis] > 0:
                limits.append(shape[axis])
        elif node.op_type in PASSES_INDICES and node.input[0] == name:
            limits += [found for out in node.output if (found := _limit(out, uses, shapes, seen))]
    return min(limits, default=None)


def _shapes(model: Any) -> dict[str, list[int]]:
    """Shapes of initializers and, where they can be inferred, of other values; an open side is 0."""
    import onnx

    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    except Exception:  # noqa: BLE001  (a wrong shape in the file; the tables are usually initializers)
        inferred = []
    for each in inferred:
        shapes.setdefault(each.name, [side.dim_value for side in each.type.tensor_type.shape.dim])
    return shapes


def flops(model: Any) -> int:
    """Floating-point operations of one sample: 2 per multiply-accumulate of convolutions and matrix products, as
    ``ModelSpec.flops`` counts them. A table of answers has none.

    Raises:
        ValueError: the shape of a value is not known.
    """
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        sides = value.type.tensor_type.shape.dim
        if sides and not sides[0].dim_value:
            sides[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    for each in (*inferred.value_info, *inferred.input, *inferred.output):
        shapes.setdefault(each.name, [side.dim_value for side in each.type.tensor_type.shape.dim])
    return sum(2 * _multiply_accumulates(node, shapes) for node in _nodes(inferred))


def _multiply_accumulates(node: Any, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return 0
    left, right, out = (shapes.get(name) for name in (node.input[0], node.input[1], node.output[0]))
    if not left or not right or not out or 0 in (*left, *right, *out):
        raise ValueError(f"the shapes of {node.op_type} {node.name or node.output[0]} are not known")
    if node.op_type == "Conv":
        return math.prod(out) * math.prod(right[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(out) * left[0 if transposed else -1]


def _nodes(graph: Any) -> Iterator[Any]:
    """All nodes, also of inner graphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)

"""Precision and index limits, as they are read from a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.workloads import onnx_graph

onnx = pytest.importorskip("onnx")
H, N, T = onnx.helper, onnx.numpy_helper, onnx.TensorProto


def model(
    nodes: list[Any], kind: int = T.FLOAT, weights: list[Any] | None = None, input_kind: int | None = None
) -> Any:
    inputs = [H.make_tensor_value_info("x", kind if input_kind is None else input_kind, ["N", 4])]
    outputs = [H.make_tensor_value_info("y", kind, None)]
    return H.make_model(H.make_graph(nodes, "g", inputs, outputs, weights or []))


@pytest.mark.parametrize(
    ("operator", "kind", "weights", "precision"),
    [
        ("Relu", T.FLOAT, [], "fp32"),
        ("Relu", T.FLOAT16, [], "fp16"),
        ("Relu", T.BFLOAT16, [], "bf16"),
        ("Relu", T.DOUBLE, [], "fp64"),
        ("QuantizeLinear", T.FLOAT, [], "int8"),
        ("QLinearConv", T.FLOAT, [], "int8"),
        ("DynamicQuantizeLinear", T.FLOAT, [], "int8"),
        ("MatMulNBits", T.FLOAT, [], "int4"),
        ("Mul", T.FLOAT, [H.make_tensor("w", T.INT4, [2], [1, 2])], "int4"),
        ("Mul", T.FLOAT, [N.from_array(np.ones(2, np.float16), "w")], "fp16"),
    ],
)
def test_the_precision_of_a_file(operator: str, kind: int, weights: list[Any], precision: str) -> None:
    assert onnx_graph.precision(model([H.make_node(operator, ["x"], ["y"])], kind, weights)) == precision


TABLE = N.from_array(np.zeros((2, 4), np.float32), "t")


@pytest.mark.parametrize(
    ("nodes", "highest"),
    [
        ([H.make_node("Gather", ["t", "x"], ["y"])], {"x": 1}),
        ([H.make_node("Gather", ["t", "x"], ["y"], axis=1)], {"x": 3}),
        ([H.make_node("Cast", ["x"], ["c"], to=T.INT32), H.make_node("Gather", ["t", "c"], ["y"])], {"x": 1}),
        ([H.make_node("Identity", ["t"], ["u"]), H.make_node("Gather", ["u", "x"], ["y"])], {"x": 1}),
        ([H.make_node("Cast", ["x"], ["y"], to=T.FLOAT)], {}),
    ],
)
def test_integers_stay_within_the_tables_that_they_index(nodes: list[Any], highest: dict[str, int]) -> None:
    assert onnx_graph.highest_indices(model(nodes, weights=[TABLE], input_kind=T.INT64)) == highest


def weight(*shape: int) -> Any:
    return N.from_array(np.zeros(shape, np.float32), "w")


@pytest.mark.parametrize(
    ("nodes", "weights", "flops"),
    [
        ([H.make_node("MatMul", ["x", "w"], ["y"])], [weight(4, 3)], 2 * 4 * 3),
        ([H.make_node("Gemm", ["x", "w"], ["y"], transB=1)], [weight(3, 4)], 2 * 4 * 3),
        ([H.make_node("Gemm", ["x", "w"], ["y"], transA=1)], [weight(1, 3)], 2 * 4 * 3),
        (
            [
                H.make_node("Unsqueeze", ["x", "axes"], ["image"]),
                H.make_node("Conv", ["image", "w"], ["y"], pads=[1, 1]),
            ],
            [N.from_array(np.array([1]), "axes"), weight(5, 1, 3)],
            2 * 5 * 4 * 3,
        ),
        ([H.make_node("Relu", ["x"], ["y"])], [], 0),
    ],
)
def test_operations_of_a_sample_are_counted(nodes: list[Any], weights: list[Any], flops: int) -> None:
    assert onnx_graph.flops(model(nodes, weights=weights)) == flops


def test_operations_of_unknown_shapes_are_not_counted() -> None:
    nodes = [H.make_node("NonZero", ["x"], ["places"]), H.make_node("Cast", ["places"], ["c"], to=T.FLOAT)]
    nodes += [H.make_node("Transpose", ["c"], ["t"]), H.make_node("MatMul", ["c", "t"], ["y"])]
    with pytest.raises(ValueError, match="the shapes of MatMul y are not known"):
        onnx_graph.flops(model(nodes))

"""Which node of a file an operator of a runtime was."""

from __future__ import annotations

import pytest

from backends.base import Operator
from bench.worker.onnx_layers import Node, _node_of

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
        ("conv_1_2", "Mean", None),
        ("convolution", "Conv", None),
    ],
)
def test_an_operator_has_the_node_whose_name_a_runtime_made_longer(name: str, kind: str, node: str | None) -> None:
    found = _node_of(Operator(name, kind, "", False, 0.0), NODES)
    assert (None if found is None else found.name) == node

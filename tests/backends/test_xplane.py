"""Layers of what XLA and TensorFlow compile, from texts and paths like theirs."""

from __future__ import annotations

import pytest

from backends import xplane
from backends.base import Operator
from backends.xplane import Event, Place
from bench.workloads.models import MODELS

MODEL = MODELS["article-pytorch"]
MODULE = """HloModule jit_train

%fused_one (param_0: f32[2]) -> f32[2] {
  %param_0 = f32[2]{0} parameter(0)
  %add.1 = f32[2]{0} add(%param_0, %param_0), metadata={op_name="jit(train)/jvp(conv2d_1)/add"}
  ROOT %maximum.1 = f32[2]{0} maximum(%add.1, %add.1), metadata={op_name="jit(train)/jvp(relu_1)/max"}
}

%fused_all (param_1: f32[2]) -> f32[2] {
  %convolution.5 = f32[2]{0} convolution(%param_1), metadata={op_name="jit(train)/conv2d_1/conv_general_dilated"}
  ROOT %dot.7 = f32[2]{0} dot(%convolution.5), metadata={op_name="jit(train)/dense_1/dot_general"}
}

ENTRY %main.9 (Arg_0: f32[2]) -> f32[2] {
  %Arg_0 = f32[2]{0} parameter(0)
  %first_fusion = f32[2]{0} fusion(%Arg_0), calls=%fused_one, metadata={op_name="jit(train)/jvp(relu_1)/max"}
  %whole_fusion = f32[2]{0} fusion(%first_fusion), kind=kCustom, calls=%fused_all
  %dot.1 = f32[2]{0} dot(%whole_fusion), metadata={op_name="jit(train)/transpose(jvp(dense_2))/dot_general"}
  ROOT %copy.3 = f32[2]{0} copy(%dot.1)
}
"""


def test_instructions_have_the_layers_of_their_scopes() -> None:
    found = xplane.scopes(MODULE)
    assert xplane.place_of(found["first_fusion"], MODEL) == Place("conv2d_1", False)
    assert xplane.place_of(found["whole_fusion"], MODEL) == Place("", False, "fuses conv2d_1, dense_1")
    assert xplane.place_of(found["dot.1"], MODEL) == Place("dense_2", True)
    assert xplane.place_of(found["copy.3"], MODEL) == Place("", False)


@pytest.mark.parametrize(
    ("path", "layer"),
    [
        ("functional_1/conv2d_1_1/convolution", "conv2d_1"),
        ("gradient_tape/functional_1_1/conv2d_2_1/convolution/Conv2DBackpropInput", "conv2d_2"),
        ("functional_1/dense_3_1/BiasAdd", "dense_3"),
        ("adam/Sqrt_9", ""),
        ("jit(step)/transpose(jvp(conv2d_2))/mul", "conv2d_2"),
    ],
)
def test_paths_have_the_layers_of_their_scopes(path: str, layer: str) -> None:
    assert xplane.layer_in(path, MODEL) == layer


def test_a_fused_operator_is_of_the_layer_whose_kernel_it_has() -> None:
    assert xplane.with_kernel("relu_1", "_MklNativeFusedConv2D", MODEL) == "conv2d_1"
    assert xplane.with_kernel("relu_1", "Relu", MODEL) == "relu_1"
    assert xplane.with_kernel("dense_1", "_MklNativeFusedMatMul", MODEL) == "dense_1"


def test_what_is_no_layer() -> None:
    assert xplane.outside("adam/Mul_19") == "(optimizer)"
    assert xplane.outside("gradient_tape/sparse_categorical_crossentropy/Softmax") == "(loss)"
    assert xplane.outside("functional_1/dense_1_1/MatMul") == ""


def test_events_are_summed_over_calls_and_shared_by_steps() -> None:
    events = [Event("a", 0.5), Event("a", 1.5), Event("b", 1.0), Event("no operator", 9.0)]
    places = {"a": Place("conv2d_1", True), "b": Place("", False, "odd")}
    assert xplane.by_name(events, 2, places.get) == [
        Operator("a", "", "conv2d_1", True, 1.0, ""),
        Operator("b", "", "", False, 0.5, "odd"),
    ]

"""The verdict of two judges on a user's file, and what the reference judge refuses to judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.runner.judges.file_certificate import difference, judge
from bench.runner.judges.tolerances import check_of_file, tolerance
from bench.worker import reference_judge
from bench.worker.file_outputs import Outputs, first_batches, flatten, smallest_working

ALLOWED = 1e-5
RIGHT: Outputs = {"y": [np.array([1.0, 2.0], np.float32)], "ids": [np.array([3, 4])]}
WRONG: Outputs = {"y": [np.array([1.0, 2.1], np.float32)], "ids": [np.array([3, 4])]}
WRONG_SECOND: Outputs = {"y": [np.array([1.0, 2.0], np.float32)], "ids": [np.array([3, 5])]}
NAN: Outputs = {"y": [np.array([1.0, np.nan], np.float32)], "ids": [np.array([3, 4])]}
NAN_ELSEWHERE: Outputs = {"y": [np.array([np.nan, 1.0], np.float32)], "ids": [np.array([3, 4])]}


@pytest.mark.parametrize(
    ("got", "again", "plain", "reference", "passes", "why"),
    [
        (RIGHT, RIGHT, RIGHT, RIGHT, True, ""),
        (RIGHT, RIGHT, None, RIGHT, True, ""),
        (RIGHT, RIGHT, RIGHT, WRONG, True, "agrees with the unoptimized runtime only"),
        (RIGHT, RIGHT, RIGHT, "took long", True, "agrees with the unoptimized runtime only; took long"),
        (WRONG, WRONG, RIGHT, RIGHT, False, ""),
        (WRONG, WRONG, RIGHT, "took long", False, ""),
        (WRONG_SECOND, WRONG_SECOND, RIGHT, RIGHT, False, ""),
        (RIGHT, WRONG, RIGHT, RIGHT, True, "not deterministic"),
        (NAN, NAN, NAN, NAN, True, "outputs are not finite on these inputs: give real ones"),
        (NAN, NAN, NAN_ELSEWHERE, NAN_ELSEWHERE, False, ""),
        (NAN, NAN, RIGHT, RIGHT, False, ""),
        (RIGHT, RIGHT, None, "lacks it", True, "no judge: lacks it"),
    ],
)
def test_three_ways_are_told_apart(
    got: Outputs, again: Outputs, plain: Outputs | None, reference: Outputs | str, passes: bool, why: str
) -> None:
    value, _, uncertified = judge(got, again, plain, reference, ALLOWED)
    assert (value <= ALLOWED) is passes
    assert uncertified.startswith(why) if why else uncertified == ""


def test_the_unoptimized_runtime_is_not_its_own_judge() -> None:
    _, _, uncertified = judge(RIGHT, RIGHT, RIGHT, "onnx.reference cannot", ALLOWED, is_plain=True)
    assert uncertified == "it is the unoptimized runtime itself; onnx.reference cannot"


def test_the_output_that_differs_is_named() -> None:
    assert "output 'ids'" in judge(WRONG_SECOND, WRONG_SECOND, RIGHT, RIGHT, ALLOWED)[1]


@pytest.mark.parametrize(
    ("got", "want", "error"),
    [
        (np.array(["a", "b"]), np.array(["a", "c"]), 0.5),
        (np.array([True, False]), np.array([True, False]), 0.0),
        (np.array([1, 2]), np.array([1, 2]), 0.0),
        (np.zeros((2, 3)), np.zeros((3, 2)), np.inf),
        (np.zeros(0), np.zeros(0), 0.0),
        (np.array([np.inf, 3.0]), np.array([np.inf, 4.0]), 0.25),
    ],
)
def test_outputs_of_every_type_are_compared(got: np.ndarray, want: np.ndarray, error: float) -> None:
    assert difference({"y": [got]}, {"y": [want]}) == (error, "y")


def test_a_missing_output_is_a_difference() -> None:
    assert difference({}, RIGHT)[0] == np.inf


def test_sequences_and_maps_become_arrays() -> None:
    assert [a.tolist() for a in flatten([{1: 0.25, 0: 0.75}, {0: 1.0, 1: 0.0}])] == [[0.75, 0.25], [1.0, 0.0]]
    assert flatten(None) == []


def test_batch_sizes_are_tried_in_order() -> None:
    taken = smallest_working((2, 1, 4), lambda size: "" if size == 1 else f"no {size}")
    assert taken == (1, {2: "no 2"})
    assert smallest_working((2, 4), lambda size: "no") == (None, {2: "no", 4: "no"})
    assert first_batches(100) == (2, 1)
    assert first_batches(3 * 224 * 224 * 4) == (1, 2)


def _batch_norm(opset: int) -> object:
    onnx = pytest.importorskip("onnx")
    h, n, kind = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
    weights = [
        n.from_array(np.full(3, value, np.float32), name) for name, value in zip("sbmv", (2, 1, 0.5, 4), strict=True)
    ]
    node = h.make_node("BatchNormalization", ["x", *"sbmv"], ["y"])
    shape = ["N", 3, 4, 4]
    ends = [h.make_tensor_value_info(name, kind, shape) for name in "xy"]
    graph = h.make_graph([node], "g", ends[:1], ends[1:], weights)
    return h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=6)


@pytest.mark.parametrize("opset", [9, 12, 13, 14, 15])
def test_batch_normalization_of_every_opset_is_judged_as_the_specification_has_it(opset: int) -> None:
    from onnx.reference import ReferenceEvaluator

    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    (got,) = ReferenceEvaluator(reference_judge.prepared(_batch_norm(opset))).run(None, {"x": x})
    want = 2 * (x.astype(np.float64) - 0.5) / np.sqrt(4 + 1e-5) + 1
    assert difference({"y": [got]}, {"y": [want]})[0] < 1e-6


def test_all_values_become_outputs(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    onnx.save(_batch_norm(13), str(tmp_path / "m.onnx"))
    assert reference_judge.with_all_outputs(tmp_path / "m.onnx", tmp_path / "all.onnx") == {
        "y": "y (BatchNormalization)"
    }


@pytest.mark.parametrize(
    ("precision", "allowed"),
    [("fp32", 1e-5), ("fp16", 3e-3), ("bf16", 3e-2), ("int8", 1e-1), ("int4", 1e-1), ("fp64", 1e-12)],
)
def test_the_precision_of_the_file_decides_the_tolerance(precision: str, allowed: float) -> None:
    assert tolerance(precision, "cpu", check_of_file(precision, {})) == allowed

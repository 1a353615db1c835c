"""An exported file against the weights of its row: real ONNX files, computed by onnx.reference in its own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.model import ModelSpec
from bench.runner.judges import exported_file
from bench.runner.judges.exported_file import FileFacts
from bench.values import Missing

MODEL = ModelSpec.from_dict(
    {"name": "flat", "input_shape": [2, 3, 2], "layers": [{"kind": "flatten"}, {"kind": "dense", "units": 4}]}
)
WEIGHTS = MODEL.initial_weights(0)
IMAGES = np.random.default_rng(0).normal(size=(5, 2, 3, 2)).astype(np.float32)


def exported(path: Path, kernel: Any, channels_first: bool) -> Path:
    """The model as a file: images in either layout, flattened channels last."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    names = {name.rpartition(".")[2]: name for name in WEIGHTS}
    shape = ["n", 2, 2, 3] if channels_first else ["n", 2, 3, 2]
    nodes = [
        helper.make_node("Flatten", ["y" if channels_first else "x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "kernel", "bias"], ["logits"]),
    ]
    if channels_first:
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1]))
    graph = helper.make_graph(
        nodes,
        "flat",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(WEIGHTS[names["bias"]], "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, str(path / "model.onnx"))
    return path / "model.onnx"


def facts_of(file: Path) -> FileFacts | Missing:
    return exported_file.facts_of(file, MODEL, WEIGHTS, IMAGES)


pytestmark = pytest.mark.usefixtures("process")
KERNEL = next(value for name, value in WEIGHTS.items() if name.endswith("kernel"))


@pytest.mark.parametrize("channels_first", [False, True])
def test_the_file_of_these_weights_passes(tmp_path: Path, channels_first: bool) -> None:
    facts = facts_of(exported(tmp_path, KERNEL, channels_first))
    assert isinstance(facts, FileFacts)
    assert facts.error < 1e-6
    assert facts.flops == MODEL.flops
    assert exported_file.count_check(facts.flops, MODEL).passed
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"], "nothing is left behind"


def test_a_file_in_a_lower_precision_does_not(tmp_path: Path) -> None:
    facts = facts_of(exported(tmp_path, KERNEL.astype(np.float16).astype(np.float32), False))
    assert isinstance(facts, FileFacts)
    assert facts.error > 1e-5


def test_a_table_of_answers_has_too_few_operations() -> None:
    check = exported_file.count_check(0, MODEL)
    assert not check.passed
    assert check.note == "0 in its nodes, the model has 96"


def test_what_the_evaluator_cannot_compute_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    missing = facts_of(tmp_path / "model.onnx")
    assert isinstance(missing, Missing)
    assert missing.reason.startswith("onnx.reference cannot")

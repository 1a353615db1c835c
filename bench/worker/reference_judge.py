"""``python -m bench.worker.reference_judge MODEL INPUTS OUT``: the outputs of ``onnx.reference`` for a file.

It writes OUT (npz), or prints in one line why it cannot judge. The model is brought to a newer opset first, because the
evaluator computes some operators of old opsets wrongly.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

IMAGES_KEY = "images (N, H, W, C)"
"""Of inputs that are images for a file's only input, in whichever layout it declares."""
COUNTED = "counted"
"""The call under whose name the count of operations is written."""
OPSET = 21
"""Models are converted to it if they are older."""
WRONG_BELOW = {
    "BatchNormalization": 14,
    "Softmax": 13,
    "LogSoftmax": 13,
    "Hardmax": 13,
    "RoiAlign": 16,
    "DequantizeLinear": 19,
    "QuantizeLinear": 19,
}
"""Operator to the opset below which onnx.reference 1.23.2 computes it wrongly or lacks it (docs/method.md)."""


def opset(model: Any) -> int:
    """The version of the default domain."""
    return int(next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 1))


def prepared(model: Any) -> Any:
    """The model at a newer opset if the converter can, else as it is.

    Raises:
        ValueError: it stays at an opset of which the evaluator computes one of its operators wrongly.
    """
    from onnx import version_converter

    old, reason = opset(model), ""
    if old < OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:  # noqa: BLE001  (the converter raises several kinds)
            reason = f"{type(error).__name__}"
    now = opset(model)
    for node in model.graph.node:
        if node.domain in ("", "ai.onnx") and now < WRONG_BELOW.get(node.op_type, 0):
            raise ValueError(f"it computes {node.op_type} of opset {now} wrongly, and the converter failed ({reason})")
    return model


def with_all_outputs(path: Path, out: Path) -> dict[str, str]:
    """Write the model with the value of every node as an output; value to ``name (operator)`` in the graph's order."""
    import onnx

    model = onnx.load(str(path))
    known = {each.name for each in model.graph.output}
    nodes = {}
    for node in model.graph.node:
        for name in filter(None, node.output):
            nodes[name] = f"{node.name or name} ({node.op_type})"
            if name not in known:
                model.graph.output.append(onnx.ValueInfoProto(name=name))
    onnx.save(model, str(out))
    return nodes


def main() -> None:
    """Judge one file."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    from bench.array_files import read_arrays
    from bench.worker.file_outputs import flatten, write

    path, inputs, out = (Path(each) for each in sys.argv[1:])
    try:
        model = onnx.load(str(path))
        evaluator = ReferenceEvaluator(prepared(model))
        named = {key.removeprefix("input "): values for key, values in read_arrays(inputs).items()}
        if IMAGES_KEY in named:
            named = _for_only_input(evaluator, named[IMAGES_KEY])
        values = evaluator.run(None, named)
        outputs = {name: flatten(value) for name, value in zip(evaluator.output_names, values, strict=True)}
        partial = out.with_suffix(".partial.npz")
        write(partial, {"reference": outputs, COUNTED: _flops(model)})
        os.replace(partial, out)
    except Exception as error:  # noqa: BLE001  (any error is the reason why it cannot judge)
        text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        print(f"onnx.reference cannot: {type(error).__name__}: {text}"[:200])


def _flops(model: Any) -> dict[str, list[Any]]:
    """The file's own count of operations of a sample; nothing if it cannot be counted."""
    from bench.workloads import onnx_graph

    try:
        return {"flops": [np.asarray(onnx_graph.flops(model))]}
    except ValueError:
        return {}


def _for_only_input(evaluator: Any, images: Any) -> dict[str, Any]:
    """The images by the input's name, channels first if it declares so."""
    (name,), (declared,) = evaluator.input_names, evaluator.input_types
    sides = [side.dim_value for side in declared.tensor_type.shape.dim]
    if sides[1:] == list(images.shape[1:]):
        return {name: images}
    return {name: np.ascontiguousarray(images.transpose(0, 3, 1, 2))}


if __name__ == "__main__":
    main()

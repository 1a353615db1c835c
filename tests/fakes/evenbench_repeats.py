"""Adapters of real frameworks that compute one convolution several times, where EVENBENCH_REPEATS says so."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from backends import onnxruntime, pytorch

SLOW_LAYER = "conv2d_2"


def times():
    return int(os.environ.get("EVENBENCH_REPEATS", "1"))


class Repeating(pytorch.Adapter):
    WRITES = ()  # the certificate would see it in the exported file

    def counts(self):
        """Without the FLOPs, by which the certificate would see it."""
        return {"parameters": super().counts()["parameters"]}

    def _module_of(self, placed):
        module = super()._module_of(placed)
        if placed.name != SLOW_LAYER or times() == 1:
            return module
        forward = module.forward

        def repeated(x):
            results = [forward(x) for _ in range(times())]
            return sum(results[1:], results[0]) / len(results)

        module.forward = repeated
        return module


class RepeatingRuntime(onnxruntime.Adapter):
    def load(self, path):
        if times() > 1:
            path = _repeated(path, times())
        super().load(path)


def _repeated(path, count):
    """The file with its second convolution made several times: of copies of its kernel, which no optimizer merges."""
    import onnx

    model = onnx.load(str(path))
    graph = model.graph
    place, node = [(i, n) for i, n in enumerate(graph.node) if n.op_type == "Conv"][1]
    kernel = next(tensor for tensor in graph.initializer if tensor.name == node.input[1])
    values, output = onnx.numpy_helper.to_array(kernel), node.output[0]
    node.output[0] = f"{output}_first"
    made = [node.output[0]]
    for number in range(1, count):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name, copy.input[1], copy.output[0] = f"{node.name}_{number}", f"kernel_{number}", f"{output}_{number}"
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), f"kernel_{number}"))
        graph.node.insert(place + number, copy)
        made.append(copy.output[0])
    graph.node.insert(place + count, onnx.helper.make_node("Mean", made, [output], "mean_of_copies"))
    folder = Path(tempfile.mkdtemp(prefix="repeated-"))
    onnx.save(model, str(folder / "model.onnx"))
    return folder / "model.onnx"

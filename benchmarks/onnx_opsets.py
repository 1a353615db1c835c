"""Outcomes of the certificate of users' files over opsets and kinds of models. Writes results/onnx_opsets.json.

    python benchmarks/onnx_opsets.py [--quick]

Every file is small, with random weights. The outcome is ``certified``, ``not certified: ...``, ``differs ...`` or the
runtime's refusal.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from bed import write
from onnx import TensorProto, helper, numpy_helper

import backends
from bench.runner.judges.file_certificate import FileJudge
from bench.worker.file_outputs import RuntimeOfFile
from bench.worker.protocol import Job
from bench.workloads import onnx_file

OPSETS = (7, 9, 11, 13, 17, 21, 23)
RNG = np.random.default_rng(0)
FLOAT = TensorProto.FLOAT
Graph = tuple[list[Any], list[Any], list[Any], list[Any]]
"""Nodes, inputs, outputs, weights."""


def normal(name: str, *shape: int) -> Any:
    """A weight of normal values over 4."""
    return numpy_helper.from_array((RNG.standard_normal(shape) / 4).astype(np.float32), name)


def ints(name: str, *values: int) -> Any:
    """A list of integers as a weight."""
    return numpy_helper.from_array(np.array(values, np.int64), name)


def tensor(name: str, *shape: Any) -> Any:
    """A declared float32 value."""
    return helper.make_tensor_value_info(name, FLOAT, shape)


def conv_bn(opset: int) -> Graph:
    """Convolution, batch normalization, ReLU, max pooling, softmax over classes."""
    positive = numpy_helper.from_array((np.abs(RNG.standard_normal(8)) + 0.5).astype(np.float32), "v")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Softmax", ["f"], ["y"]),
    ]
    weights = [normal("w", 8, 3, 3, 3), normal("s", 8), normal("b", 8), normal("m", 8), positive]
    return nodes, [tensor("x", "N", 3, 16, 16)], [tensor("y", "N", 8)], weights


def attention(opset: int) -> Graph:
    """One head of scaled dot products, over the last side."""
    nodes = [
        *(helper.make_node("MatMul", ["x", f"w{each}"], [each]) for each in "qkv"),
        helper.make_node("Transpose", ["k"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["s"]),
        helper.make_node("Softmax", ["s"], ["a"], axis=2),
        helper.make_node("MatMul", ["a", "v"], ["y"]),
    ]
    return nodes, [tensor("x", "N", 8, 16)], [tensor("y", "N", 8, 16)], [normal(f"w{each}", 16, 16) for each in "qkv"]


def lstm(opset: int) -> Graph:
    """An LSTM whose batch is the second side, with three outputs."""
    nodes = [helper.make_node("LSTM", ["x", "w", "r"], ["y", "h", "c"], hidden_size=8)]
    outputs = [tensor("y", 5, 1, "batch", 8), tensor("h", 1, "batch", 8), tensor("c", 1, "batch", 8)]
    return nodes, [tensor("x", 5, "batch", 4)], outputs, [normal("w", 1, 32, 4), normal("r", 1, 32, 8)]


def quantized(opset: int) -> Graph:
    """Quantize, dequantize, matrix product (from opset 10 on)."""
    scale = numpy_helper.from_array(np.float32(0.02), "k")
    zero = numpy_helper.from_array(np.uint8(128), "z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "k", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "k", "z"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    return nodes, [tensor("x", "N", 16)], [tensor("y", "N", 4)], [scale, zero, normal("w", 16, 4)]


def detection(opset: int) -> Graph:
    """Scores and boxes of a batch of one, non-maximum suppression (from opset 10 on): a number of rows that depends on
    the values."""
    threshold = numpy_helper.from_array(np.array([0.5], np.float32), "t")
    nodes = [
        helper.make_node("MatMul", ["x", "wb"], ["boxes"]),
        helper.make_node("MatMul", ["x", "ws"], ["raw"]),
        helper.make_node("Transpose", ["raw"], ["scores"], perm=[0, 2, 1]),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "t"], ["y"]),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT64, ["K", 3]), tensor("boxes", 1, 12, 4)]
    return nodes, [tensor("x", 1, 12, 8)], outputs, [ints("most", 3), threshold, normal("wb", 8, 4), normal("ws", 8, 2)]


KINDS: tuple[Callable[[int], Graph], ...] = (conv_bn, attention, lstm, quantized, detection)
SINCE = {quantized: 10, detection: 10}


def files(folder: Path, opsets: Sequence[int]) -> Iterator[tuple[str, Path]]:
    """Name and path of every file."""
    for kind in KINDS:
        for opset in opsets:
            if opset >= SINCE.get(kind, 7):
                nodes, inputs, outputs, weights = kind(opset)
                graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
                versions = [helper.make_opsetid("", opset)]
                model = helper.make_model(graph, opset_imports=versions, ir_version=8 if opset < 21 else 10)
                path = folder / f"{kind.__name__}_{opset}.onnx"
                onnx.save(model, str(path))
                yield path.stem, path


def outcome(path: Path) -> str:
    """What the certificate says of a file."""
    model = onnx_file.describe(path)
    batch = model.batch or 2
    runtime = backends.load("onnxruntime")("cpu", model.precision, "all-optimizations", 1, 0)
    try:
        runtime.load(path)
    except Exception as error:  # noqa: BLE001  (the runtime's own refusal is an outcome)
        return f"refused by the runtime: {type(error).__name__}: {str(error)[:150]}"
    job = Job(
        backend="onnxruntime", mode="all-optimizations", model=path.stem, dataset="", recipe="", threads=1,
        precision=model.precision,
    )  # fmt: skip
    samples = model.samples(0, batch)
    calls = RuntimeOfFile(runtime, model.precision, "cpu", job.mode, path).compute(samples)
    found = FileJudge().judge(backends.describe(job.backend), job, path, samples, batch, calls)
    if found.uncertified:
        return f"not certified: {found.uncertified}"
    kind = "certified" if found.result.passed else "differs"
    return f"{kind}: {found.result.value:.1e} of {found.result.tolerance:.0e}; {found.result.note}"


def main() -> None:
    """Certify every file; ``--quick``: one opset."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one opset; writes nothing")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcomes = {stem: outcome(path) for stem, path in files(folder, (13,) if quick else OPSETS)}
    for stem, text in outcomes.items():
        print(f"{stem}: {text}")
    counts = Counter(text.partition(":")[0] for text in outcomes.values())
    print(dict(counts))
    write("onnx_opsets.json", {"outcomes": outcomes, "counts": dict(counts)}, quick)


if __name__ == "__main__":
    main()

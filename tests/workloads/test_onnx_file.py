"""A file of the user's: what it declares, what is refused, and a run of it, held against ONNX's reference evaluator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench_command import Bench

WRITER = """
import sys
import numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as n

kind, path = sys.argv[1:]
inputs, nodes = [h.make_tensor_value_info("x", T.FLOAT, ["batch", 6])], []
weight = n.from_array(np.arange(24, dtype=np.float32).reshape(6, 4) / 10, "w")
nodes.append(h.make_node("MatMul", ["x", "w"], ["y"]))
outputs = [h.make_tensor_value_info("y", T.FLOAT, ["batch", 4])]
if kind == "two inputs":
    inputs.append(h.make_tensor_value_info("ids", T.INT64, ["batch", 4]))
    nodes = [h.make_node("MatMul", ["x", "w"], ["m"]), h.make_node("Cast", ["ids"], ["i"], to=T.FLOAT)]
    nodes.append(h.make_node("Add", ["m", "i"], ["y"]))
if kind == "fixed batch":
    inputs = [h.make_tensor_value_info("x", T.FLOAT, [2, 6])]
    outputs = [h.make_tensor_value_info("y", T.FLOAT, [2, 4])]
if kind == "open shape":
    inputs = [h.make_tensor_value_info("x", T.FLOAT, ["batch", "length"])]
if kind == "text":
    inputs = [h.make_tensor_value_info("x", T.STRING, ["batch", 6])]
    nodes = [h.make_node("Cast", ["x"], ["n"], to=T.FLOAT), h.make_node("MatMul", ["n", "w"], ["y"])]
if kind == "fusable":
    nodes = [h.make_node("Gemm", ["x", "w", "b"], ["g"]), h.make_node("Identity", ["g"], ["i"])]
    nodes += [h.make_node("Relu", ["i"], ["y"])]
if kind == "unknown operator":
    nodes = [h.make_node("Frobnicate", ["x", "w"], ["y"])]
bias = n.from_array(np.ones(4, np.float32), "b")
graph = h.make_graph(nodes, "g", inputs, outputs, [weight, *([bias] if kind == "fusable" else [])])
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=10)
if kind.startswith("external"):
    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = T.EXTERNAL
    places = {"external": "w.bin", "external outside": "../w.bin", "external absolute": "/etc/passwd"}
    place = places.get(kind, "no.bin")
    tensor.external_data.add(key="location", value=place)
    open(path.rpartition("/")[0] + "/w.bin", "wb").write(data)
open(path, "wb").write(model.SerializeToString())
"""


def written(folder: Path, kind: str) -> Path:
    """A small file, written in a process of its own (protobuf warns in ours)."""
    path = folder / "mine.onnx"
    subprocess.run([sys.executable, "-c", WRITER, kind, str(path)], check=True, timeout=60)
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("external outside", "takes data of 'w' from '../w.bin', outside its folder: refused"),
        ("external absolute", "takes data of 'w' from '/etc/passwd', outside its folder: refused"),
        ("external missing", "takes data of 'w' from 'no.bin', which does not exist"),
        ("open shape", "input 'x' leaves its shape open (? after the batch); give it: --input-shape x=64"),
        ("text", "input 'x' has type object; random inputs can be one of float32"),
        ("unknown operator", "is not valid ONNX: "),
    ],
)
def test_what_is_refused_in_one_line(bench: Bench, kind: str, told: str) -> None:
    done = bench("run", "--onnx", str(written(bench.folder, kind)))
    assert done.returncode == 2, done.stdout + done.stderr
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_files_that_are_none(bench: Bench) -> None:
    assert "no such file" in bench("run", "--onnx", "none.onnx").stderr
    (bench.folder / "junk.onnx").write_bytes(b"\xff" * 100)
    done = bench("run", "--onnx", "junk.onnx")
    assert done.returncode == 2
    assert "is not an ONNX file" in done.stderr
    done = bench("run", "--onnx", "junk.onnx", "--model", "resnet20")
    assert "leave out what is for a workload" in done.stderr
    done = bench("run", "--input-shape", "x=3")
    assert "goes with --onnx" in done.stderr


@pytest.mark.parametrize("kind", ["plain", "two inputs", "fixed batch", "external"])
def test_a_file_is_run_and_certified(bench: Bench, kind: str) -> None:
    options = ("--rounds", "1", "--batch-size", "16")
    done = bench("run", "--onnx", str(written(bench.folder, kind)), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = bench.records()
    (check,) = record["parity"]["checks"]
    assert check["name"] == "output_of_reference"
    assert check["passed"]
    batch = 2 if kind == "fixed batch" else 16
    throughput = next(f for f in record["figures"] if f["name"] == "throughput")
    assert (throughput["batch_size"], throughput["value"] > 0) == (batch, True)
    latency = next(f for f in record["figures"] if f["name"] == "latency_p50")
    assert latency["batch_size"] == (2 if kind == "fixed batch" else 1)
    assert f"Inference latency (batch {latency['batch_size']};" in done.stdout
    assert record["job"]["model"].startswith("mine@")
    assert "random inputs" in record["data"]["note"]
    assert next(f for f in record["figures"] if f["name"] == "parameters")["value"] == 24
    assert next(f for f in record["figures"] if f["name"] == "flops")["reason"] == "not counted for a user's file"


def test_an_open_shape_is_given(bench: Bench) -> None:
    options = ("--input-shape", "x=6", "--rounds", "1", "--backend", "onnxruntime,pytorch")
    done = bench("run", "--onnx", str(written(bench.folder, "open shape")), *options)
    assert done.returncode == 1, "PyTorch was asked for, and reads no files"
    by_backend = {record["job"]["backend"]: record for record in bench.records()}
    assert by_backend["onnxruntime"]["status"] == "ok"
    assert by_backend["pytorch"]["error"] == "it reads no ONNX files"


def test_graph_optimization_levels_are_modes(bench: Bench) -> None:
    file = str(written(bench.folder, "fusable"))
    done = bench("run", "--onnx", file, "--rounds", "1", "--mode", "all")
    assert done.returncode == 0, done.stdout + done.stderr
    settings = {record["job"]["mode"]: record["settings"] for record in bench.records()}
    levels = {mode: found["graph_optimization_level"] for mode, found in settings.items()}
    assert levels == {
        "no-optimizations": "ORT_DISABLE_ALL",
        "basic-optimizations": "ORT_ENABLE_BASIC",
        "extended-optimizations": "ORT_ENABLE_EXTENDED",
        "all-optimizations": "ORT_ENABLE_ALL",
    }
    nodes = {mode: found["nodes_per_provider"]["CPUExecutionProvider"] for mode, found in settings.items()}
    assert nodes.pop("no-optimizations") == 3
    assert set(nodes.values()) == {2}, "the identity is gone; fusions of the higher levels come after the assignment"

"""A file of the user's: what it declares, what is refused, and a run of it, held against ONNX's reference evaluator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench_command import Bench

from bench.errors import UsageError
from bench.workloads import onnx_file

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
if kind == "batch in name only":
    nodes = [h.make_node("MatMul", ["x", "w"], ["m"]), h.make_node("Reshape", ["m", "one"], ["y"])]
if kind == "fusable":
    nodes = [h.make_node("Gemm", ["x", "w", "b"], ["g"]), h.make_node("Identity", ["g"], ["i"])]
    nodes += [h.make_node("Relu", ["i"], ["y"])]
if kind == "unknown operator":
    nodes = [h.make_node("Frobnicate", ["x", "w"], ["y"])]
bias = n.from_array(np.ones(4, np.float32), "b")
one = n.from_array(np.array([1, 4]), "one")
used = {name for node in nodes for name in node.input}
graph = h.make_graph(nodes, "g", inputs, outputs, [each for each in (weight, bias, one) if each.name in used])
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

ORT = ("--backend", "onnxruntime")


def written(folder: Path, kind: str) -> Path:
    """A small file, written in a process of its own (protobuf warns in ours)."""
    path = folder / "mine.onnx"
    subprocess.run([sys.executable, "-c", WRITER, kind, str(path)], check=True, timeout=300)
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("external outside", "takes data of 'w' from '../w.bin', outside its folder: refused"),
        ("external absolute", "takes data of 'w' from '/etc/passwd', outside its folder: refused"),
        ("external missing", "takes data of 'w' from 'no.bin', which does not exist"),
        ("open shape", "input 'x' leaves its shape open (? after the batch); give it: --input-shape x=64"),
        ("text", "input 'x' has type object; inputs can be one of float32"),
    ],
)
def test_what_is_refused_in_one_line(bench: Bench, kind: str, told: str) -> None:
    done = bench("run", "--onnx", str(written(bench.folder, kind)))
    assert done.returncode == 2, done.stdout + done.stderr
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty (0 bytes)"),
        (b"PK\x03\x04rest", "it is a zip archive"),
        (b"\x1f\x8brest", "it is a gzip archive"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a pointer of Git LFS"),
        (b"hello", "it is a text file"),
        (b"\xff" * 100, "is not an ONNX file: "),
        (None, "a folder; name the .onnx file in it"),
    ],
)
def test_what_is_no_onnx_file_is_named(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "m.onnx"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        onnx_file.describe(path)
    assert told in str(refused.value)


def test_options_that_make_no_sense(bench: Bench) -> None:
    assert "no such file" in bench("run", "--onnx", "none.onnx").stderr
    (bench.folder / "junk.onnx").write_bytes(b"\xff" * 100)
    done = bench("run", "--onnx", "junk.onnx", "--model", "resnet20", "--precision", "fp16")
    assert done.returncode == 2
    assert "leave out what is for a workload or for training (--model, --precision)" in done.stderr
    done = bench("run", "--input-shape", "x=3")
    assert "--input-shape goes with --onnx" in done.stderr


def test_the_runtime_decides_what_it_loads(bench: Bench) -> None:
    done = bench("run", "--onnx", str(written(bench.folder, "unknown operator")), "--rounds", "1", *ORT)
    assert done.returncode == 1
    (record,) = bench.records()
    assert record["status"] == "failed"
    assert "Frobnicate" in record["error"]
    assert ".cc:" not in record["error"]


def test_a_batch_size_that_the_file_does_not_take_is_said(bench: Bench) -> None:
    done = bench(
        "run", "--onnx", str(written(bench.folder, "batch in name only")), "--rounds", "1", "--batch-size", "4", *ORT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = bench.records()
    figures = {figure["name"]: figure for figure in record["figures"]}
    assert figures["throughput"]["reason"].startswith("the file does not take batch size 4: ")
    assert figures["latency_p50"]["value"] > 0


def test_a_model_cache_with_links_is_followed(process: None, tmp_path: Path) -> None:
    (tmp_path / "written").mkdir()
    written(tmp_path / "written", "external")
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name in ("mine.onnx", "w.bin"):
        (tmp_path / "written" / name).rename(blobs / f"hash-{name}")
        (snapshot / name).symlink_to(f"../../blobs/hash-{name}")
    model = onnx_file.describe(snapshot / "mine.onnx")
    assert model.bytes == sum(file.stat().st_size for file in blobs.iterdir())
    (snapshot / "w.bin").unlink()
    (tmp_path / "outside.bin").write_bytes(b"0" * 96)
    (snapshot / "w.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(UsageError, match="outside its folder: refused"):
        onnx_file.describe(snapshot / "mine.onnx")


@pytest.mark.parametrize("kind", ["plain", "two inputs", "fixed batch", "external"])
def test_a_file_is_run_and_certified(bench: Bench, kind: str) -> None:
    options = ("--rounds", "1", "--batch-size", "16", *ORT)
    done = bench("run", "--onnx", str(written(bench.folder, kind)), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = bench.records()
    checks = record["parity"]["checks"]
    assert [check["name"] for check in checks] == ["outputs_of_file", "timed_outputs"]
    assert all(check["passed"] for check in checks)
    assert "outputs of timed steps" in checks[1]["note"]
    batch = 2 if kind == "fixed batch" else 16
    throughputs = {f["batch_size"]: f for f in record["figures"] if f["name"] == "throughput"}
    assert throughputs[batch]["value"] > 0
    if kind == "fixed batch":
        assert throughputs[16]["reason"].startswith("the file does not take batch size 16: ")
    latency = next(f for f in record["figures"] if f["name"] == "latency_p50")
    assert latency["batch_size"] == (2 if kind == "fixed batch" else 1)
    assert f"Inference latency (batch {latency['batch_size']};" in done.stdout
    assert record["job"]["model"].startswith("mine@")
    assert "random inputs" in record["data"]["note"]
    assert next(f for f in record["figures"] if f["name"] == "parameters")["value"] == 24
    assert next(f for f in record["figures"] if f["name"] == "flops")["reason"] == "not counted for a user's file"


def test_a_runtime_that_remembers_its_outputs_is_seen(bench: Bench) -> None:
    bench.register({"remembers": "evenbench_runtime:Remembers"})
    options = ("--rounds", "1", "--batch-size", "16", "--backend", "remembers,onnxruntime")
    done = bench("run", "--onnx", str(written(bench.folder, "plain")), *options)
    assert done.returncode == 1, done.stdout + done.stderr
    rows = {record["job"]["backend"]: record for record in bench.records()}
    failed = [check["name"] for check in rows["remembers"]["parity"]["checks"] if not check["passed"]]
    assert failed == ["timed_outputs"]
    assert rows["onnxruntime"]["comparable"]


def test_the_node_that_parts_is_named(bench: Bench) -> None:
    bench.register({"wrong-when-optimized": "evenbench_runtime:WrongWhenOptimized"})
    options = ("--rounds", "1", "--batch-size", "16", "--backend", "wrong-when-optimized")
    done = bench("run", "--onnx", str(written(bench.folder, "fusable")), *options)
    assert done.returncode == 1, done.stdout + done.stderr
    (record,) = bench.records()
    (check,) = (check for check in record["parity"]["checks"] if not check["passed"])
    assert check["name"] == "outputs_of_file"
    assert check["value"] == pytest.approx(0.1, rel=1e-3)
    assert "against the unoptimized runtime; first at node " in check["note"]
    assert "(Gemm) (1.0e-01)" in check["note"]


@pytest.mark.long
def test_several_files_are_compared(bench: Bench) -> None:
    """Each has its own inputs, batch size, certificate and data; an option is for the files that have the input."""
    folders = [bench.folder / kind for kind in ("plain", "open", "fixed")]
    for folder, kind in zip(folders, ("plain", "open shape", "fixed batch"), strict=True):
        folder.mkdir()
        written(folder, kind).rename(folder / f"{folder.name}.onnx")
    files = [part for folder in folders for part in ("--onnx", str(folder / f"{folder.name}.onnx"))]
    done = bench("run", *files, "--input-shape", "z=6")
    assert done.returncode == 2
    assert "--input-shape z: the file has no such input; it has x" in done.stderr
    done = bench("run", *files, "--input-shape", "x=6", "--rounds", "2", "--batch-size", "4", *ORT)
    assert done.returncode == 0, done.stdout + done.stderr
    plain, _, fixed = bench.records()
    assert (plain["job"]["source"], fixed["job"]["source"]) == (plain["job"]["model"], fixed["job"]["model"])
    assert plain["job"]["model"].startswith("plain@")
    assert plain["data"]["sha256"] != fixed["data"]["sha256"]
    assert plain["comparable"]
    assert fixed["comparable"]
    sizes = [{(f["name"], f["batch_size"]) for f in one["figures"] if f["value"] and f["batch_size"]}
             for one in (plain, fixed)]  # fmt: skip
    assert {("throughput", 2), ("throughput", 4), ("latency_p50", 1), ("latency_p50", 2)} <= sizes[0]
    assert {("throughput", 2), ("latency_p50", 2)} <= sizes[1]
    assert ("throughput", 4) not in sizes[1]
    ratios = [ratio for one in bench.records() for ratio in one["ratios"] if ratio["batch_size"] == 2]
    places = [(ratio["name"], ratio["boundary"], ratio["against"]) for ratio in ratios]
    fastest = {place[:2] for place in places if place[0] == "throughput"}
    assert len(fastest) == 2, "end to end, and on the device"
    assert len({place for place in places if place[0] == "throughput"}) == len(fastest), "of each, one is the fastest"
    assert "samples/s" in done.stdout
    assert "images/s" not in done.stdout


def test_every_runtime_reads_a_file(bench: Bench) -> None:
    """Also of several inputs, of a fixed batch, with data outside, and with a side that is left open."""
    kinds = ("two inputs", "fixed batch", "external", "open shape")
    for kind in kinds:
        folder = bench.folder / kind.replace(" ", "-")
        folder.mkdir()
        file = written(folder, kind)
        shape = ("--input-shape", "x=6") if kind == "open shape" else ()
        done = bench("run", "--onnx", str(file), *shape, "--rounds", "1", "--batch-size", "2")
        assert done.returncode == 0, done.stdout + done.stderr
        rows = {record["job"]["backend"]: record for record in bench.records()}
        assert set(rows) == {"onnxruntime", "openvino"}
        assert all(record["comparable"] for record in rows.values())


def test_a_file_given_twice_is_said(bench: Bench) -> None:
    file = written(bench.folder, "plain")
    done = bench("run", "--onnx", str(file), "--onnx", "mine.onnx")
    assert done.returncode == 2
    assert "are the same file" in done.stderr


def test_an_open_shape_is_given(bench: Bench) -> None:
    options = ("--input-shape", "x=6", "--rounds", "1", "--backend", "onnxruntime,pytorch")
    done = bench("run", "--onnx", str(written(bench.folder, "open shape")), *options)
    assert done.returncode == 0, "a backend that reads no files is no failure of the others"
    by_backend = {record["job"]["backend"]: record for record in bench.records()}
    assert by_backend["onnxruntime"]["status"] == "ok"
    assert by_backend["pytorch"]["error"] == "it reads no ONNX files"


def test_graph_optimization_levels_are_modes(bench: Bench) -> None:
    file = str(written(bench.folder, "fusable"))
    done = bench("run", "--onnx", file, "--rounds", "1", "--mode", "all", *ORT)
    assert done.returncode == 0, done.stdout + done.stderr
    records = {record["job"]["mode"]: record for record in bench.records()}
    assert records.pop("openvino-provider")["status"] == "unavailable", "its wheel is in no environment of the tests"
    settings = {mode: record["settings"] for mode, record in records.items()}
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

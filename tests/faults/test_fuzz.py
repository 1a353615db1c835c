"""Every parser of what comes from elsewhere, on documents that are nearly right: it reads them, or refuses them by the
error that it names; it never crashes, hangs, or takes much memory.

Hypothesis draws and shrinks. A few hundred documents of each kind here; ``-m long`` tries each for ten minutes.
"""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from builders import recorded
from every_layer import EVERY_LAYER
from faults import mutations
from html_pages import check
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from worker_replies import result

from bench import array_files
from bench.errors import BenchError, UsageError
from bench.gate import margins
from bench.records.export import export, parse_export
from bench.records.gate_result import Check
from bench.runner import checkpoints
from bench.store.weights import from_safetensors
from bench.worker.coding import ProtocolError
from bench.worker.protocol import (
    Prepare,
    Prepared,
    TimedMetric,
    WarmedUp,
    WarmUp,
    Work,
    read_reply,
    read_request,
    write_reply,
    write_request,
)
from bench.workloads import onnx_file, onnx_inputs, toml_files
from bench.workloads.datasets import cifar10, fashion_mnist
from bench.workloads.onnx_inputs import InputOptions
from reports.render import text as rendered
from reports.table import Document, Table

SECONDS = int(os.environ.get("EVENBENCH_FUZZ_SECONDS", "600"))
"""That the long trial of each parser takes."""
SLOWEST = 10.0
"""Seconds that one document may take."""
MOST_MEMORY = 500 * 2**20
"""Bytes that the peak of this process may grow by."""
RECIPE = b'optimizer = "sgd"\nlearning_rate = 0.01\nmomentum = 0.9\nbatch_size = 32\nepochs = 2\nmean = 0.5\nstd = 1\n'


@dataclass(frozen=True)
class Parser:
    """What reads one kind of document. ``read`` may raise ``refuses`` only; its message is one line."""

    read: Callable[[bytes, Path], object]
    corpus: Callable[[], list[bytes]]
    refuses: tuple[type[Exception], ...]
    mutate: Callable[[bytes, Random], bytes] = mutations.of_bytes
    found: tuple[bytes, ...] = field(default=())
    """What an earlier version did not refuse."""


def of_json(corpus: bytes, drawn: Random) -> bytes:
    return mutations.of_json(corpus.decode(), drawn).encode(errors="surrogatepass")


def written(content: bytes, folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def an_onnx_file() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    weight = numpy_helper.from_array(np.ones((6, 4), np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    content: bytes = made.SerializeToString()
    return content


def requests() -> list[bytes]:
    metric = TimedMetric("throughput", "infer", 8, "device")
    job = recorded().records[0].job
    work = Work(job=job, model=None, recipe={}, frozen_weights=(), data=Path("/tmp"), first_batch=1)
    return [write_request(WarmUp(metric=metric), 1.0), write_request(Prepare(work=work), 1.0)]


def replies() -> list[bytes]:
    measured = result().rounds[0]
    slices = [reading.timed for readings in measured.metrics for reading in readings.slices]
    return [write_reply(each) for each in (measured.prepared, measured.finished, *slices[:2])]


def read_any_reply(content: bytes, _: Path) -> None:
    for request in (WarmUp, Prepare):
        read_reply(content, request.reply_type())


def restore(content: bytes, _: Path) -> None:
    blank = result()
    blank.begin_anew()
    name, _, part = content.partition(b"\n")
    checkpoints.restore({blank.row.id: blank}, {name.decode(errors="replace"): part}, "the run")
    checkpoints.course_of({checkpoints.COURSE: part}, "the run")


def parts() -> list[bytes]:
    known = dict(checkpoints.parts_of(result()))
    return [name.encode() + b"\n" + content for name, content in known.items()]


def read_idx(content: bytes, folder: Path) -> None:
    unpacked = fashion_mnist._unpacked(written(content, folder, "x.gz"))
    fashion_mnist._array("x", unpacked, "labels", 100)


def idx() -> list[bytes]:
    import gzip

    return [gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 100]) + bytes(100))]


def read_safetensors(content: bytes, _: Path) -> None:
    from_safetensors(content, "the run")


def safetensors() -> list[bytes]:
    from safetensors.numpy import save

    return [save({"a.kernel": np.ones((3, 2), np.float32), "b": np.zeros(4, np.int64)})]


DIGITS = b"x = " + b"9" * 5000
LARGE = b'{"command": "warm_up", "content": {"metric": {}}, "spawned_at": 1' + b"0" * 400 + b"}"
PARSERS = {
    "run": Parser(
        lambda content, _: parse_export(content.decode(errors="replace"), "x.json"),
        lambda: [export(recorded()).encode()], (BenchError,), of_json,
    ),
    "check": Parser(
        lambda content, _: Check.model_validate_json(content),
        lambda: [check().model_dump_json().encode()], (ValidationError,), of_json,
    ),
    "checkpoint": Parser(restore, parts, (BenchError,)),
    "model": Parser(
        lambda content, folder: toml_files.model(written(content, folder, "m.toml")),
        lambda: [EVERY_LAYER.encode()], (UsageError,), found=(DIGITS,),
    ),
    "recipe": Parser(
        lambda content, folder: toml_files.recipe(written(content, folder, "r.toml")),
        lambda: [RECIPE], (UsageError,), found=(DIGITS,),
    ),
    "margins": Parser(
        lambda content, folder: margins.read((), written(content, folder, "g.toml"), folder / "none.toml"),
        lambda: [b'[margins]\nthroughput = "1%"\nlatency = 0.02\n'], (UsageError,), found=(DIGITS,),
    ),
    "cifar": Parser(
        lambda content, _: cifar10._records(Path("x"), content), lambda: [bytes(3073 * 10)], (UsageError,)
    ),
    "idx": Parser(read_idx, idx, (UsageError,)),
    "onnx": Parser(
        lambda content, folder: onnx_file.describe_all([written(content, folder, "f.onnx")], InputOptions()),
        lambda: [an_onnx_file()], (UsageError,),
    ),
    "input": Parser(
        lambda content, folder: onnx_inputs.read_arrays(written(content, folder, "i.npz")),
        lambda: [npz(x=np.ones((4, 3), np.float32), ids=np.arange(5))], (UsageError,),
    ),
    "arrays": Parser(
        lambda content, folder: array_files.read_arrays(written(content, folder, "a.npz")),
        lambda: [npz(x=np.ones((4, 3), np.float32))], (ValueError,),
    ),
    "safetensors": Parser(read_safetensors, safetensors, (BenchError,)),
    "request": Parser(lambda content, _: read_request(content.decode(errors="replace")), requests, (ProtocolError,),
                      of_json, (LARGE,)),
    "reply": Parser(read_any_reply, replies, (ProtocolError,), of_json),
}  # fmt: skip


def refuse_or_read(parser: Parser, content: bytes, folder: Path) -> None:
    begin, refused = time.monotonic(), ""
    try:
        parser.read(content, folder)
    except parser.refuses as error:
        refused = str(error) if isinstance(error, BenchError) else ""
    assert "\n" not in refused, "one line"
    assert time.monotonic() - begin < SLOWEST


def fuzz(name: str, folder: Path, examples: int, number: int | None = None) -> None:
    parser = PARSERS[name]
    corpora = parser.corpus()
    refuse_or_read(parser, corpora[0], folder)
    for content in parser.found:
        refuse_or_read(parser, content, folder)

    @settings(
        max_examples=examples, deadline=None, derandomize=number is None, database=None,
        phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.randoms(use_true_random=False), st.integers(0, len(corpora) - 1))
    def one(drawn: Random, which: int) -> None:
        refuse_or_read(parser, parser.mutate(corpora[which], drawn), folder)

    (one if number is None else seed(number)(one))()


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARSERS)
def test_what_comes_from_elsewhere_is_read_or_refused(name: str, tmp_path: Path) -> None:
    before = peak()
    fuzz(name, tmp_path, examples=150)
    assert peak() - before < MOST_MEMORY


@pytest.mark.long
@pytest.mark.timeout(2 * SECONDS)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARSERS)
def test_ten_minutes(name: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    before, end, count = peak(), time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        fuzz(name, tmp_path, examples=1000, number=count)
        count += 1
    record_property("documents", 1000 * count)
    print(f"{name}: {1000 * count:,} documents, {(peak() - before) / 1e6:.0f} MB more at the peak")
    assert peak() - before < MOST_MEMORY


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=5), CELLS)
def test_what_is_written_as_a_table_is_read_back_cell_by_cell(rows: list[list[str]], title: str) -> None:
    document = Document([Table("title", ["a", "b"], rows)])
    lines = list(csv.reader(io.StringIO(rendered.render(document, "csv"))))
    assert [line for line in lines[2:] if line] == [[rendered.in_spreadsheet(cell) for cell in row] for row in rows]
    for line in rendered.render(document, "tsv").splitlines()[3:]:
        assert line.count("\t") == 1
    assert json.loads(rendered.render(document, "json"))["tables"][0]["rows"] == rows


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    """A compressed file of zeros that would fill the memory."""
    small = written(npz(x=np.zeros(2**27, np.uint8)), tmp_path, "bomb.npz")
    assert small.stat().st_size < 2**20
    before = peak()
    with pytest.raises(ValueError, match="unpacks to"):
        array_files.read_arrays(small, most=2**20)
    with pytest.raises(UsageError, match="unpacks to"):
        onnx_inputs.read_arrays(small, most=2**20)
    assert peak() - before < 2**26


def test_prepared_and_warmed_up_are_told_apart() -> None:
    assert isinstance(read_reply(write_reply(Prepared(first_call=1.0, cold_start=2.0)), Prepare.reply_type()), Prepared)
    told = read_reply(write_reply(WarmedUp(steps=1, steady=None, step_seconds=1.0)), WarmUp.reply_type())
    assert isinstance(told, WarmedUp)

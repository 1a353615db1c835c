"""The inputs of a user's file: which side is the batch, what is drawn, what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.errors import UsageError
from bench.workloads import onnx_inputs
from bench.workloads.onnx_inputs import Declared, Input, InputOptions, resolve

X = Declared("x", ("N", 3, 32, 32), "float32")
OPEN = Declared("x", ("N", 3, "H", "W"), "float32")


@pytest.mark.parametrize(
    ("declared", "axes", "batch"),
    [
        ([X], {"x": 0}, None),
        ([Declared("x", ("", 6), "float32")], {"x": 0}, None),
        ([Declared("x", (8, 6), "float32")], {"x": 0}, 8),
        ([X, Declared("state", (2, "N", 128), "float32")], {"x": 0, "state": 1}, None),
        ([X, Declared("sr", (), "int64")], {"x": 0, "sr": None}, None),
        ([X, Declared("scale", (1,), "float32")], {"x": 0, "scale": None}, None),
        ([X, Declared("anchors", (1, 5), "float32")], {"x": 0, "anchors": 0}, 1),
    ],
)
def test_which_side_is_the_batch(declared: list[Declared], axes: dict[str, int | None], batch: int | None) -> None:
    inputs, found = resolve(declared, InputOptions())
    assert {each.name: each.batch_axis for each in inputs} == axes
    assert found == batch


def test_the_user_says_which_side_is_the_batch() -> None:
    options = InputOptions(batch_axes={"anchors": -1})
    inputs, batch = resolve([X, Declared("anchors", (1, 5), "float32")], options)
    assert (inputs[1].batch_axis, inputs[1].shape, batch) == (None, (1, 5), None)


@pytest.mark.parametrize(
    ("declared", "options", "told"),
    [
        ([X], InputOptions(shapes={"x": (1, 3, 32, 32)}), "give the shape without the batch: x=3,32,32"),
        ([X], InputOptions(shapes={"z": (3,)}), "--input-shape z: the file has no such input; it has x"),
        ([X], InputOptions(ranges={"z": (0, 1)}), "--input-range z: the file has no such input"),
        ([X], InputOptions(batch_axes={"z": 0}), "--batch-axis z: the file has no such input"),
        ([X], InputOptions(batch_axes={"x": 4}), "--batch-axis x=4: it has 4 sides"),
        ([X], InputOptions(shapes={"x": (3, 64, 64)}), "the file has 3,32,32 there"),
        ([X], InputOptions(shapes={"x": (3,)}), "the file has 3,32,32 there"),
        ([OPEN], InputOptions(), "give it: --input-shape x=3,64,64"),
        ([Declared("x", ("N",), "complex64")], InputOptions(), "has type complex64; inputs can be one of float32"),
        ([Declared("a", (2, 3), "int8"), Declared("b", (4, 3), "int8")], InputOptions(), "different batch sizes"),
    ],
)
def test_what_cannot_fit_is_refused(declared: list[Declared], options: InputOptions, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve(declared, options)
    assert told in str(refused.value)


def test_a_symbol_has_one_length_in_all_inputs() -> None:
    declared = [Declared("mask", ("N", "L"), "int64"), Declared("ids", ("N", "L"), "int64", 30521)]
    inputs, _ = resolve(declared, InputOptions(shapes={"ids": (16,)}))
    assert [each.shape for each in inputs] == [(16,), (16,)]
    assert [(each.low, each.high) for each in inputs] == [(1, 1), (0, 30521)]


def test_an_empty_past_and_a_scalar_are_given() -> None:
    declared = [X, Declared("past", ("N", 8, "P", 64), "float32"), Declared("sr", (), "int64")]
    inputs, _ = resolve(declared, InputOptions(shapes={"past": (8, 0, 64), "sr": (16000,)}))
    rng = np.random.default_rng(0)
    assert inputs[1].draw(rng, 3).shape == (3, 8, 0, 64)
    assert inputs[2].draw(rng, 3) == 16000


def test_drawn_values_stay_within_their_range() -> None:
    values = Input("ids", (1000,), "int64", low=0, high=1).draw(np.random.default_rng(0), 4)
    assert (values.shape, values.min(), values.max()) == ((4, 1000), 0, 1)
    state = Input("h", (2, 5), "float32", batch_axis=1)
    assert state.draw(np.random.default_rng(0), 7).shape == (2, 7, 5)


def test_more_memory_than_there_is() -> None:
    with pytest.raises(UsageError, match="give a smaller --batch-size or --input-shape"):
        onnx_inputs.check_memory([Input("x", (3, 100_000, 100_000), "float32")], 8, 10**9)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"z": np.zeros((2, 6), np.float32)}, "the model has no input 'z'"),
        ({"x": np.zeros((2, 5), np.float32)}, "'x' is 2x5, the model takes Nx6"),
        ({"x": np.zeros((0, 6), np.float32)}, "'x' is 0x6"),
        ({"x": np.array([["a"] * 6])}, "the model takes float32"),
        ({"x": np.zeros((2, 6), np.float32), "y": np.zeros((3, 6), np.float32)}, "different numbers of samples"),
    ],
)
def test_given_inputs_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], told: str) -> None:
    np.savez(tmp_path / "in.npz", **arrays)
    with pytest.raises(UsageError) as refused:
        onnx_inputs.read(tmp_path / "in.npz", (Input("x", (6,), "float32"), Input("y", (6,), "float32")))
    assert told in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04"])
def test_given_inputs_that_are_no_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.npz").write_bytes(content)
    with pytest.raises(UsageError, match="not an npz file of plain arrays"):
        onnx_inputs.read(tmp_path / "in.npz", (Input("x", (6,), "float32"),))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UsageError, match="not an npz file of plain arrays"):
        onnx_inputs.read(tmp_path / "in.npz", (Input("x", (6,), "float32"),))

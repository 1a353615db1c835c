"""The inputs of a user's ONNX file: what the file declares, what the user gives, and what is drawn.

A side of an input is open if it has a symbol, -1, 0 or nothing. The batch is the first open side of the first input
that has one; the other inputs have the batch where they have the same symbol.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import array_files
from bench.errors import UsageError

SAMPLES = 512
"""Largest number of drawn samples."""
LARGEST_SAMPLE = 256 * 2**20
"""Largest size of all samples of one input, bytes."""
DTYPES = (
    "float32",
    "float16",
    "float64",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)
TOKENS = 100
"""Drawn integers are below this if the file does not tell which table they index."""


@dataclass(frozen=True)
class Input:
    """One input. ``shape`` has no batch; ``batch_axis`` is its place in the full shape (None: it has none)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    batch_axis: int | None = 0
    low: float | None = None
    high: float | None = None
    """Values are drawn from low to high, both included; None: the default of the type."""
    given: str = ""
    """SHA-256 of the values that the user gave; empty: they are drawn."""

    def full_shape(self, batch: int) -> tuple[int, ...]:
        """The shape of ``batch`` samples."""
        return (
            self.shape
            if self.batch_axis is None
            else (*self.shape[: self.batch_axis], batch, *self.shape[self.batch_axis :])
        )

    @property
    def text(self) -> str:
        """Name, shape with N for the batch, type, and what the values are."""
        sides = [str(side) for side in self.shape]
        if self.batch_axis is not None:
            sides.insert(self.batch_axis, "N")
        values = f" given {self.given[:8]}" if self.given else ""
        if not values and self.low is not None and self.high is not None:
            values = f" {self.low:g}..{self.high:g}"
        return f"{self.name} {'x'.join(sides) or 'scalar'} {self.dtype}{values}"

    def draw(self, rng: np.random.Generator, batch: int) -> npt.NDArray[Any]:
        """Values for ``batch`` samples."""
        shape, low, high = self.full_shape(batch), self.low, self.high
        if self.dtype == "bool":
            return (
                np.ones(shape, bool) if low is None else rng.integers(int(low), int(high or 0) + 1, shape).astype(bool)
            )
        if self.dtype.startswith("float"):
            if low is None or high is None:
                return rng.standard_normal(shape).astype(self.dtype)
            return rng.uniform(low, high, shape).astype(self.dtype)
        if low is None or high is None:
            low, high = 0, TOKENS - 1
        return rng.integers(int(low), int(high) + 1, shape).astype(self.dtype)


@dataclass(frozen=True)
class InputOptions:
    """What the user says of the inputs: ``--input``, ``--input-shape``, ``--input-range``, ``--batch-axis``."""

    file: Path | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    batch_axes: Mapping[str, int] = field(default_factory=dict)
    others: bool = False
    """Whether ``file`` may hold inputs of other models."""

    def only(self, names: Iterable[str]) -> InputOptions:
        """What is said of these inputs; the file of inputs stays, and is read for those that it has."""
        kept = set(names)
        return InputOptions(
            self.file,
            {name: shape for name, shape in self.shapes.items() if name in kept},
            {name: ends for name, ends in self.ranges.items() if name in kept},
            {name: axis for name, axis in self.batch_axes.items() if name in kept},
            others=True,
        )

    def check_names(self, known: Iterable[str]) -> None:
        """Raise UsageError if an option names an input that is not there."""
        names = list(known)
        for option in ("shapes", "ranges", "batch_axes"):
            for name in getattr(self, option):
                if name not in names:
                    flag = {"shapes": "--input-shape", "ranges": "--input-range", "batch_axes": "--batch-axis"}[option]
                    raise UsageError(f"{flag} {name}: the file has no such input; it has {', '.join(names)}")


@dataclass(frozen=True)
class Declared:
    """An input as the file declares it; an open side is its symbol, or '' if it has none."""

    name: str
    sides: tuple[int | str, ...]
    dtype: str
    highest: int | None = None
    """The largest integer that the file can take, if it indexes a table."""


def resolve(declared: list[Declared], options: InputOptions) -> tuple[tuple[Input, ...], int | None]:
    """The inputs, and the batch size if the file fixes it.

    Raises:
        UsageError: an option that cannot fit, or a shape that is missing.
    """
    options.check_names(each.name for each in declared)
    symbol, inputs, batches = _batch_symbol(declared), [], set[int]()
    lengths: dict[str, int] = {}
    for each in sorted(declared, key=lambda one: one.name not in options.shapes):
        axis = _batch_axis(each, options, symbol, declared)
        inputs.append(_input(each, axis, options, lengths))
        if axis is not None and isinstance(side := each.sides[axis], int):
            batches.add(side)
    if len(batches) > 1:
        raise UsageError(
            f"the file fixes different batch sizes for its inputs: {', '.join(map(str, sorted(batches)))};"
            " say which side is the batch with --batch-axis INPUT=SIDE (INPUT=none: it has none)"
        )
    order = [each.name for each in declared]
    return tuple(sorted(inputs, key=lambda one: order.index(one.name))), next(iter(batches), None)


def _batch_symbol(declared: list[Declared]) -> str | None:
    """The symbol of the batch: of the first open first side, else of the first open side with a symbol of batches."""
    firsts = [each.sides[0] for each in declared if each.sides and isinstance(each.sides[0], str)]
    if firsts:
        return firsts[0]
    symbols = [side for each in declared for side in each.sides if isinstance(side, str)]
    return next((side for side in symbols if side.lower() in ("n", "b", "batch", "batch_size")), None)


def _batch_axis(each: Declared, options: InputOptions, symbol: str | None, declared: list[Declared]) -> int | None:
    if each.name in options.batch_axes:
        axis = options.batch_axes[each.name]
        if axis >= len(each.sides):
            raise UsageError(f"--batch-axis {each.name}={axis}: it has {len(each.sides)} sides, counted from 0")
        return None if axis < 0 else axis
    if not each.sides:
        return None
    if symbol is None:
        first = declared[0].sides[:1]
        return 0 if each.sides[:1] == first or len(each.sides) > 1 else None
    if symbol and symbol in each.sides:
        return each.sides.index(symbol)
    if isinstance(each.sides[0], str) and not symbol:
        return 0
    if isinstance(each.sides[0], str):
        return 0 if not each.sides[0] or "batch" in each.sides[0].lower() else None
    return 0 if len(each.sides) > 1 else None


def _input(each: Declared, axis: int | None, options: InputOptions, lengths: dict[str, int]) -> Input:
    inner = [side for number, side in enumerate(each.sides) if number != axis]
    given = options.shapes.get(each.name)
    if given is not None and not each.sides and len(given) == 1:  # a scalar has no shape: the number is its value
        return Input(each.name, (), each.dtype, None, given[0], given[0])
    if given is not None:
        _check_given(each, inner, given, axis)
        for side, length in zip(inner, given, strict=True):
            if isinstance(side, str) and side:
                lengths.setdefault(side, length)
        shape = given
    else:
        known = [lengths.get(side, side) if isinstance(side, str) else side for side in inner]
        if any(isinstance(side, str) for side in known):
            shown = ",".join("?" if isinstance(side, str) else str(side) for side in known)
            raise UsageError(
                f"input '{each.name}' leaves its shape open ({shown} after the batch);"
                f" give it: --input-shape {each.name}={shown.replace('?', '64')}"
            )
        shape = tuple(int(side) for side in known)
    made = Input(each.name, shape, each.dtype, axis)
    if each.dtype not in DTYPES:
        raise UsageError(f"input '{each.name}' has type {each.dtype}; inputs can be one of {', '.join(DTYPES)}")
    if each.name in options.ranges:
        low, high = options.ranges[each.name]
        return replace(made, low=low, high=high)
    if not each.sides:
        return replace(made, low=1, high=1)
    if each.dtype.startswith("float"):
        return made
    if "mask" in each.name.lower():
        return replace(made, low=1, high=1)
    return made if each.highest is None else replace(made, low=0, high=each.highest)


def _check_given(each: Declared, inner: list[int | str], given: tuple[int, ...], axis: int | None) -> None:
    text = f"--input-shape {each.name}={','.join(map(str, given))}"
    declared = ",".join(str(side) or "?" for side in inner)
    if len(given) == len(inner) + 1 and axis is not None:
        without = ",".join(str(side) for number, side in enumerate(given) if number != axis)
        raise UsageError(f"{text}: give the shape without the batch: {each.name}={without}")
    contradicts = any(isinstance(side, int) and side != got for side, got in zip(inner, given, strict=False))
    if len(given) != len(inner) or contradicts:
        raise UsageError(f"{text}: the file has {declared} there (without the batch)")


def check_memory(inputs: Iterable[Input], batch: int, available: int) -> None:
    """Raise UsageError if one batch of an input is larger than the available bytes."""
    for each in inputs:
        size = math.prod(each.full_shape(batch)) * np.dtype(each.dtype).itemsize
        if 2 * size > available:
            raise UsageError(
                f"one batch of {batch} of input '{each.name}' has {size / 1e9:.1f} GB, this machine has"
                f" {available / 1e9:.1f} GB free: give a smaller --batch-size or --input-shape"
            )


def read(path: Path, inputs: tuple[Input, ...], others: bool = False) -> dict[str, npt.NDArray[Any]]:
    """The user's arrays by input. ``others``: the file may hold arrays that are no inputs of this model.

    Raises:
        UsageError: it is no npz file of plain arrays, or an array does not fit its input.
    """
    by_name, samples = {each.name: each for each in inputs}, dict[str, int]()
    arrays = read_arrays(path)
    if others:
        arrays = {name: array for name, array in arrays.items() if name in by_name}
    for name, array in arrays.items():
        if name not in by_name:
            raise UsageError(f"--input {path}: the model has no input '{name}'; it has {', '.join(by_name)}")
        each = by_name[name]
        axis = each.batch_axis
        count = array.shape[axis] if axis is not None and array.ndim > axis else 1
        if array.shape != each.full_shape(count) or count < 1:
            wanted = each.text.split(" ")[1]
            raise UsageError(f"--input {path}: '{name}' is {'x'.join(map(str, array.shape))}, the model takes {wanted}")
        if not np.can_cast(array.dtype, each.dtype, "same_kind"):
            raise UsageError(f"--input {path}: '{name}' is {array.dtype}, the model takes {each.dtype}")
        if axis is not None:
            samples[name] = count
        arrays[name] = np.ascontiguousarray(array, dtype=each.dtype)
    if len(set(samples.values())) > 1:
        raise UsageError(
            f"--input {path}: different numbers of samples: {', '.join(f'{n} {c}' for n, c in samples.items())}"
        )
    return arrays


def read_arrays(path: Path, most: int = array_files.MOST_BYTES) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file by name, of at most so many bytes together.

    Raises:
        UsageError: it is no npz file of plain arrays.
    """
    try:
        return array_files.read_arrays(path, most)
    except ValueError as error:
        raise UsageError(f"--input {path}: not an npz file of plain arrays: {error}") from error

"""A user's ONNX file: its checks, and the inputs that it declares. Nothing in it is executed here."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError

RANDOM = "random-inputs"
"""Takes the place of the data set's name."""
SAMPLES = 512
"""Largest number of random inputs."""
LARGEST_SAMPLE = 256 * 2**20
"""Largest size of all samples of one input, bytes."""
DTYPES = ("float32", "float16", "float64", "int64", "int32", "int8", "uint8", "bool")
TOKENS = 100
"""Random integers are below this, because they may be indices into a table of the model."""


@dataclass(frozen=True)
class Input:
    """One input; ``shape`` is without the batch dimension."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class OnnxModel:
    """The facts about the file; it takes the place of a ``ModelSpec``."""

    name: str
    path: Path
    sha256: str
    inputs: tuple[Input, ...]
    batch: int | None
    """The batch size, if the file fixes it."""
    parameters: int
    """Number of values in its initializers."""
    flops: None = None
    """Not counted."""
    trained: tuple[str, ...] = ()

    def samples(self, seed: int, count: int) -> dict[str, npt.NDArray[Any]]:
        """Random inputs by name: normal values, or integers below ``TOKENS``; fewer than ``count`` if large."""
        rng = np.random.default_rng(seed)
        size = max(math.prod(each.shape) * np.dtype(each.dtype).itemsize for each in self.inputs)
        minimum = self.batch or 1
        count = max(min(count, SAMPLES, LARGEST_SAMPLE // max(size, 1)), minimum)
        return {each.name: _draw(rng, (count, *each.shape), each.dtype) for each in self.inputs}


def _draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith("float"):
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, TOKENS, shape).astype(dtype)


def describe(path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> OnnxModel:
    """Check a file and read its inputs. ``shapes`` (without the batch) are for inputs whose shape the file leaves open.

    Raises:
        UsageError: it cannot be read, is not valid ONNX, has external data outside its folder, or a shape is missing.
    """
    if not path.is_file():
        raise UsageError(f"--onnx {path}: no such file")
    try:
        import onnx
    except ImportError as error:
        raise UsageError(
            "--onnx reads the file with a package that is missing: pip install 'evenbench[onnx]'"
        ) from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own exceptions
        raise UsageError(f"{path} is not an ONNX file: {_first_line(error)}") from error
    for tensor in _tensors(model.graph):
        _check_location(path, tensor)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # the checker raises several kinds
        raise UsageError(f"{path} is not valid ONNX: {_first_line(error)}") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    declared = [each for each in model.graph.input if each.name not in weights]
    if not declared:
        raise UsageError(f"{path} has no inputs")
    open_shapes = dict(shapes or {})
    inputs, batches = zip(*(_input(path, each, open_shapes) for each in declared), strict=True)
    fixed = {batch for batch in batches if batch is not None}
    if len(fixed) > 1:
        raise UsageError(f"{path} fixes different batch sizes for its inputs: {', '.join(map(str, sorted(fixed)))}")
    if open_shapes:
        raise UsageError(f"--input-shape {next(iter(open_shapes))}: {path} has no such input")
    digest = _digest(path, model)
    count = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    return OnnxModel(f"{path.stem}@{digest[:8]}", path.absolute(), digest, inputs, next(iter(fixed), None), count)


def _input(path: Path, declared: Any, open_shapes: dict[str, tuple[int, ...]]) -> tuple[Input, int | None]:
    """An input, and its batch size (None: free)."""
    import onnx

    kind = declared.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name if kind.elem_type else "unknown"
    if dtype not in DTYPES:
        raise UsageError(
            f"{path}: input '{declared.name}' has type {dtype}; random inputs can be one of {', '.join(DTYPES)}"
        )
    sides = [side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim]
    if not sides:
        raise UsageError(f"{path}: input '{declared.name}' has no batch dimension")
    inner = open_shapes.pop(declared.name, None) or sides[1:]
    if any(side is None or side < 1 for side in inner):
        shape = ",".join("?" if side is None else str(side) for side in inner)
        raise UsageError(
            f"{path}: input '{declared.name}' leaves its shape open ({shape} after the batch);"
            f" give it: --input-shape {declared.name}={shape.replace('?', '64')}"
        )
    return Input(declared.name, tuple(int(side) for side in inner if side is not None), dtype), sides[0]


def _tensors(graph: Any) -> Iterator[Any]:
    """All tensors that may hold data, also in attributes of nodes and in inner graphs."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner)


def _external(tensor: Any) -> str | None:
    """The location of a tensor's data outside the file; None if it is in the file."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return entries.get("location", "") if entries or tensor.data_location == 1 else None


def _check_location(path: Path, tensor: Any) -> None:
    """Raise UsageError if external data is not in the file's own folder, or is missing."""
    location = _external(tensor)
    if location is None:
        return
    folder = path.parent.resolve()
    target = (folder / location).resolve()
    if not location or Path(location).is_absolute() or not target.is_relative_to(folder):
        raise UsageError(f"{path} takes data of '{tensor.name}' from {location!r}, outside its folder: refused")
    if not target.is_file():
        raise UsageError(f"{path} takes data of '{tensor.name}' from {location!r}, which does not exist")


def _digest(path: Path, model: Any) -> str:
    """SHA-256 of the file and of its external data."""
    locations = {location for tensor in _tensors(model.graph) if (location := _external(tensor)) is not None}
    digest = hashlib.sha256()
    for file in (path, *(path.parent / location for location in sorted(locations))):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

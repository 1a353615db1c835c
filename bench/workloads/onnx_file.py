"""A user's ONNX file: its checks, and the facts about it. Nothing in it is executed here."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from bench.errors import UsageError
from bench.file_names import readable
from bench.workloads import onnx_graph, onnx_inputs
from bench.workloads.onnx_inputs import LARGEST_SAMPLE, SAMPLES, Declared, Input, InputOptions

RANDOM = "random-inputs"
"""Takes the place of the data set's name."""


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
    bytes: int = 0
    """Size of the file and of its external data."""
    precision: str = "fp32"
    """Of its tensors and nodes."""
    note: str = ""
    """What is odd about the file, though runtimes take it."""
    given: Path | None = None
    """The user's inputs (npz)."""
    flops: None = None
    """Not counted."""
    trained: tuple[str, ...] = ()

    @property
    def batched(self) -> bool:
        """Whether some input has a side that is the batch."""
        return any(each.batch_axis is not None for each in self.inputs)

    @property
    def inputs_text(self) -> str:
        """All inputs with their shapes, types and values; a part of the comparability key."""
        return "; ".join(each.text for each in self.inputs)

    def samples(self, seed: int, count: int) -> dict[str, npt.NDArray[Any]]:
        """The inputs by name: the user's, or drawn from the seed; fewer drawn samples than ``count`` if large."""
        rng = np.random.default_rng(seed)
        given = {} if self.given is None else onnx_inputs.read(self.given, self.inputs, others=True)
        axes = {each.name: each.batch_axis for each in self.inputs}
        counts = [array.shape[axis] for name, array in given.items() if (axis := axes[name]) is not None]
        size = max(math.prod(each.shape) * np.dtype(each.dtype).itemsize for each in self.inputs)
        count = max(min(count, SAMPLES, LARGEST_SAMPLE // max(size, 1)), self.batch or 1)
        count = next(iter(counts), count)
        return {each.name: given.get(each.name, each.draw(rng, count)) for each in self.inputs}


LARGEST_FILE = 2 * 2**30
"""Bytes of an ONNX file without its external data: protobuf's own limit."""


def describe_all(paths: Sequence[Path], options: InputOptions) -> list[OnnxModel]:
    """Check files and read their inputs; an option is for every file that has an input of its name.

    Raises:
        UsageError: as ``describe``; a file is given twice; an option names an input that no file has.
    """
    if len(paths) == 1:
        return [describe(paths[0], options)]
    graphs = {path: _load(path).graph for path in paths}
    names = {path: {each.name for each in graph.input} for path, graph in graphs.items()}
    known = sorted(set[str]().union(*names.values()))
    options.check_names(known)
    unknown = set() if options.file is None else onnx_inputs.read_arrays(options.file).keys() - set(known)
    if unknown:
        raise UsageError(f"--input {options.file}: no file has an input '{min(unknown)}'; they have {', '.join(known)}")
    models: dict[str, OnnxModel] = {}
    for path in paths:
        model = describe(path, options.only(names[path]))
        if model.name in models:
            raise UsageError(f"--onnx {path} and --onnx {models[model.name].path} are the same file")
        models[model.name] = model
    return list(models.values())


def describe(path: Path, options: InputOptions | None = None) -> OnnxModel:
    """Check a file and read its inputs. What a runtime would take is not refused.

    Raises:
        UsageError: it cannot be read, has external data outside its folder, or an option does not fit its inputs.
    """
    options = options or InputOptions()
    model = _load(path)
    for tensor in _tensors(model.graph):
        _check_location(path, tensor)
    weights = {tensor.name for tensor in model.graph.initializer}
    highest = onnx_graph.highest_indices(model)
    declared = [_declared(path, each, highest) for each in model.graph.input if each.name not in weights]
    if not declared:
        raise UsageError(f"{path} has no inputs")
    try:
        inputs, batch = onnx_inputs.resolve(declared, options)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    if options.file is not None:
        arrays = onnx_inputs.read(options.file, inputs, options.others)
        given = {name: _array_digest(array) for name, array in arrays.items()}
        inputs = tuple(replace(each, given=given.get(each.name, "")) for each in inputs)
    digest, size = _digest(path, model)
    if size > (free := psutil.virtual_memory().available):
        raise UsageError(f"{path} and its data have {size / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory are free")
    count = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    return OnnxModel(
        name=f"{readable(path.stem)}@{digest[:8]}",
        path=path.absolute(),
        sha256=digest,
        inputs=inputs,
        batch=batch,
        parameters=count,
        bytes=size,
        precision=onnx_graph.precision(model),
        note=_oddities(path),
        given=options.file,
    )


def _load(path: Path) -> Any:
    """The model of a file, without its external data."""
    _check_kind(path)
    try:
        import onnx
    except ImportError as error:
        raise UsageError(
            "--onnx reads the file with a package that is missing: pip install 'evenbench[onnx]'"
        ) from error
    if path.stat().st_size > LARGEST_FILE:
        raise UsageError(f"{path} is larger than {LARGEST_FILE >> 30} GiB: no ONNX file is, large data stand beside it")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own exceptions
        raise UsageError(f"{path} is not an ONNX file: {_first_line(error)}") from error
    if not model.graph.node:
        raise UsageError(f"{path} is not an ONNX file: it has no nodes")
    if not all(isinstance(name, str) for name in onnx_graph.names(model)):  # protobuf gives bytes that are no text
        raise UsageError(f"{path} is damaged: a name in it is no text")
    return model


def _check_kind(path: Path) -> None:
    """Raise UsageError for what is plainly no ONNX file, with its kind."""
    if path.is_dir():
        raise UsageError(f"--onnx {path}: a folder; name the .onnx file in it")
    if not path.is_file():
        raise UsageError(f"--onnx {path}: no such file")
    try:
        with path.open("rb") as opened:
            start = opened.read(512)
    except OSError as error:
        raise UsageError(f"--onnx {path}: cannot be read: {error.strerror}") from error
    kind = ""
    if not start:
        kind = "it is empty (0 bytes)"
    elif start.startswith(b"version https://git-lfs"):
        kind = "it is a pointer of Git LFS; get the file with git lfs pull"
    elif start.startswith(b"PK\x03\x04"):
        kind = "it is a zip archive; unpack it first"
    elif start.startswith(b"\x1f\x8b"):
        kind = "it is a gzip archive; unpack it first"
    elif all(byte >= 32 or byte in b"\t\n\r\f" for byte in start):
        kind = "it is a text file"
    if kind:
        raise UsageError(f"{path} is not an ONNX file: {kind}")


def _oddities(path: Path) -> str:
    """What ONNX's checker complains of; runtimes often take the file all the same."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # noqa: BLE001  (the checker raises several kinds)
        return f"onnx.checker: {_first_line(error)}"[:200]
    return ""


def _declared(path: Path, value: Any, highest: dict[str, int]) -> Declared:
    import onnx

    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise UsageError(f"{path}: input '{value.name}' is no tensor; only tensors can be given")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name if kind.elem_type else "unknown"
    sides = tuple(
        side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else side.dim_param
        for side in kind.shape.dim
    )
    return Declared(value.name, sides, dtype, highest.get(value.name))


def _array_digest(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


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
    """Raise UsageError if external data is not in the file's own folder or model cache, or is missing."""
    location = _external(tensor)
    if location is None:
        return
    folder = path.parent.absolute()
    named = Path(os.path.normpath(folder / location))
    inside = bool(location) and not Path(location).is_absolute() and named.is_relative_to(folder)
    target = named.resolve()
    if not inside or not any(target.is_relative_to(place) for place in (folder.resolve(), _cache(folder))):
        raise UsageError(f"{path} takes data of '{tensor.name}' from {location!r}, outside its folder: refused")
    if not target.is_file():
        raise UsageError(f"{path} takes data of '{tensor.name}' from {location!r}, which does not exist")


def _cache(folder: Path) -> Path:
    """The folder of one model in a model cache (``MODEL/snapshots/REVISION``, with links to ``MODEL/blobs``), or the
    folder itself."""
    for parent in folder.parents:
        if parent.name == "snapshots":
            return parent.parent.resolve()
    return folder.resolve()


def parts(path: Path) -> list[Path]:
    """The file and the files of its external data."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    locations = {location for tensor in _tensors(model.graph) if (location := _external(tensor)) is not None}
    return [path, *(path.parent / location for location in sorted(locations))]


def _digest(path: Path, model: Any) -> tuple[str, int]:
    """SHA-256 and bytes of the file and of its external data."""
    locations = {location for tensor in _tensors(model.graph) if (location := _external(tensor)) is not None}
    digest, size = hashlib.sha256(), 0
    for file in (path, *(path.parent / location for location in sorted(locations))):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
        size += file.stat().st_size
    return digest.hexdigest(), size


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

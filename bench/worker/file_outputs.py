"""A user's ONNX file in a runtime: the outputs that the parent judges (``bench.runner.judges.file_certificate``).

The runtime computes them twice as it is timed, and once with all optimizations off, on one thread.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Backend
from bench.array_files import read_arrays

Outputs = Mapping[str, list[npt.NDArray[Any]]]
"""Arrays by output; a tensor is one array, a sequence several."""
FileBatch = Mapping[str, npt.NDArray[Any]]
"""Inputs by name."""
ELEMENTS = 256
"""Of an output, that are compared where timed outputs are judged."""
LARGEST = float(np.finfo(np.float32).max)
"""Stands for a value that is not finite: JSON has none."""
BATCHES = (2, 1)
"""Batch sizes that a certificate tries first: small, because ``onnx.reference`` is slow."""
LARGE_SAMPLE = 2**18
"""Bytes of one sample from which a batch of one serves."""


def flatten(value: Any) -> list[npt.NDArray[Any]]:
    """The arrays of an output: a tensor, a sequence of tensors, or a sequence of maps (by sorted keys)."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [np.asarray([value[key] for key in sorted(value)])]
    if isinstance(value, list):
        return [array for each in value for array in flatten(each)]
    return [np.asarray(value)]


def storable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Types that NumPy's own format lacks (bfloat16, 4 bits) as float32; texts as such."""
    if array.dtype.kind == "O":
        return array.astype(str)
    return array if array.dtype.kind in "fiubUS" else array.astype(np.float32)


def elements(output: Any, seed: int) -> tuple[float, ...]:
    """How many elements an output has, whether they are whole (1) or not (0), and some of them, drawn from the seed:
    of texts and other objects their checksums. What is not finite is ``LARGEST``."""
    arrays = [storable(array) for array in flatten(output)]
    whole = any(array.dtype.kind != "f" for array in arrays)
    flat = np.concatenate([np.ravel(_as_numbers(array)) for array in arrays]) if arrays else np.zeros(0)
    chosen = flat[np.random.default_rng(seed).integers(len(flat), size=min(ELEMENTS, len(flat)))] if len(flat) else flat
    return (float(len(flat)), float(whole), *np.where(np.isfinite(chosen), chosen, LARGEST).tolist())


def _as_numbers(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if array.dtype.kind in "fiub":
        return array.astype(np.float64)
    texts = np.ravel(array).tolist()
    return np.asarray([zlib.crc32(str(text).encode()) for text in texts], np.float64)


def write(path: Path, calls: Mapping[str, Outputs]) -> None:
    """Write the outputs of several calls, by the call's name, to a file (npz)."""
    arrays: dict[str, Any] = {
        f"{call} {number} {name}": storable(array)
        for call, outputs in calls.items()
        for name, values in outputs.items()
        for number, array in enumerate(values)
    }
    np.savez(path, **arrays)


def read(path: Path) -> dict[str, Outputs]:
    """What ``write`` wrote.

    Raises:
        ValueError: it is not such a file.
    """
    calls: dict[str, dict[str, list[npt.NDArray[Any]]]] = {}
    for key, array in read_arrays(path).items():
        try:
            call, _, name = key.split(" ", 2)
        except ValueError:
            raise ValueError(f"{path.name} has an array of an unknown call") from None
        calls.setdefault(call, {}).setdefault(name, []).append(array)
    return dict(calls)


def outputs_of(backend: Backend, batch: FileBatch) -> Outputs:
    """All outputs of a call."""
    return {name: flatten(value) for name, value in backend.outputs(dict(batch)).items()}


def unoptimized(backend: Backend, precision: str, path: Path) -> Backend | None:
    """The same runtime with all optimizations off, one thread; None: it has no such mode."""
    if backend.UNOPTIMIZED_MODE is None:
        return None
    plain = type(backend)("cpu", precision, backend.UNOPTIMIZED_MODE, 1, 0)
    plain.load(path)
    return plain


@dataclass(frozen=True)
class RuntimeOfFile:
    """A runtime that has loaded the file ``path``."""

    backend: Backend
    precision: str
    device: str
    mode: str
    path: Path

    def compute(self, batch: FileBatch) -> dict[str, Outputs]:
        """``got`` and ``again``: of two calls. ``plain``: of the unoptimized runtime, if there is one."""
        calls = {"got": outputs_of(self.backend, batch), "again": outputs_of(self.backend, batch)}
        plain = unoptimized(self.backend, self.precision, self.path)
        return calls if plain is None else calls | {"plain": outputs_of(plain, batch)}

    def compute_all_values(self, batch: FileBatch, shown: Path) -> dict[str, Outputs]:
        """``got`` and ``plain`` with the value of every node. ``shown``: the file with all values as outputs."""
        plain = unoptimized(self.backend, self.precision, shown)
        if plain is None:
            return {}
        optimized = type(self.backend)(self.device.partition(":")[0], self.precision, self.mode, 1, 0)
        optimized.load(shown)
        return {"got": outputs_of(optimized, batch), "plain": outputs_of(plain, batch)}


def first_batches(sample_bytes: int) -> tuple[int, ...]:
    """The batch sizes that a certificate tries first, for samples of this size."""
    return BATCHES if sample_bytes < LARGE_SAMPLE else tuple(sorted(BATCHES))


def smallest_working(sizes: Sequence[int], works: Callable[[int], str]) -> tuple[int | None, dict[int, str]]:
    """The first batch size that works, and why those before it do not. ``works`` gives the reason, or ''."""
    refused: dict[int, str] = {}
    for size in dict.fromkeys(sizes):
        reason = works(size)
        if not reason:
            return size, refused
        refused[size] = reason
    return None, refused

"""The certificate of a user's ONNX file: a runtime's outputs beside those of two judges. Runs in the worker.

The first judge is ``onnx.reference`` (``reference_judge``), the second the runtime itself with all optimizations off,
one thread. The reference is wrong or incomplete for some operators (docs/method.md), so a difference from it counts
only if the second judge has the same opinion of the row.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.base import Backend
from bench.worker.certificate import Result
from bench.worker.tolerances import adapter_tolerances, check_of_file, tolerance

Outputs = Mapping[str, list[npt.NDArray[Any]]]
"""Arrays by output; a tensor is one array, a sequence several."""
JUDGE_SECONDS = 15.0
"""The longest time for ``onnx.reference``, whose pooling is plain Python."""
BATCHES = (2, 1)
"""Batch sizes that a certificate tries first: small, because the reference is slow."""
LARGE_SAMPLE = 2**18
"""Bytes of one sample from which a batch of one serves."""
CHECK = "outputs_of_file"


@dataclass(frozen=True)
class FileCertificate:
    """The check of a file's outputs, and why no judge could certify them (empty: one could)."""

    result: Result
    uncertified: str = ""


def flatten(value: Any) -> list[npt.NDArray[Any]]:
    """The arrays of an output: a tensor, a sequence of tensors, or a sequence of maps (by sorted keys)."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [np.asarray([value[key] for key in sorted(value)])]
    if isinstance(value, list):
        return [array for each in value for array in flatten(each)]
    return [np.asarray(value)]


def difference(got: Outputs, want: Outputs) -> tuple[float, str]:
    """The largest difference over all outputs, and the name of that output.

    Of numbers: ||got - want|| / ||want|| where both are finite; of booleans and texts: the share of unequal elements.
    Infinite if a shape differs, or if other elements are not finite.
    """
    worst = (0.0, next(iter(want), ""))
    for name, arrays in want.items():
        mine = got.get(name, [])
        errors = (
            [_difference(a, b) for a, b in zip(mine, arrays, strict=True)] if len(mine) == len(arrays) else [np.inf]
        )
        worst = max(worst, (max(errors, default=0.0), name), key=lambda each: each[0])
    return worst


def _difference(got: npt.NDArray[Any], want: npt.NDArray[Any]) -> float:
    if got.shape != want.shape:
        return float("inf")
    if got.dtype.kind not in "fiu" and got.dtype.name != "bfloat16":
        return float((got != want).mean()) if got.size else 0.0
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(finite, np.isfinite(a)):
        return float("inf")
    a, b = a[finite], b[finite]
    return float(np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), np.finfo(np.float64).tiny))


def all_finite(outputs: Outputs) -> bool:
    """Whether no number in them is NaN or infinite."""
    numbers = [a for arrays in outputs.values() for a in arrays if a.dtype.kind == "f"]
    return all(bool(np.isfinite(array).all()) for array in numbers)


def judge(
    got: Outputs,
    again: Outputs,
    plain: Outputs | None,
    reference: Outputs | str,
    allowed: float,
    is_plain: bool = False,
) -> tuple[float, str, str]:
    """``(difference, note, why not certified)`` of a row. ``is_plain``: it is the unoptimized runtime itself.

    ``again``: the row's outputs of a second call. ``plain``: the unoptimized runtime's; None: there is none.
    ``reference``: those of ``onnx.reference``, or why it has none.
    """
    repeated, name = difference(again, got)
    if repeated > allowed:
        return 0.0, "", f"not deterministic: output '{name}' of two calls differs by {repeated:.1e}"
    from_reference = None if isinstance(reference, str) else difference(got, reference)
    from_plain = None if plain is None else difference(got, plain)
    near_reference = from_reference is not None and from_reference[0] <= allowed
    near_plain = from_plain is not None and from_plain[0] <= allowed
    if not all_finite(got) and (near_reference or near_plain):
        return 0.0, "", "outputs are not finite on these inputs: give real ones with --input FILE.npz"
    if near_reference and from_reference is not None:
        return from_reference[0], "against onnx.reference", ""
    why = reference if isinstance(reference, str) else _disagreement(plain, reference, from_reference)
    if near_plain and from_plain is not None:
        agrees = "it is the unoptimized runtime itself" if is_plain else "agrees with the unoptimized runtime only"
        return from_plain[0], "", f"{agrees}; {why}"
    if from_plain is not None:
        return from_plain[0], f"output '{from_plain[1]}', against the unoptimized runtime", ""
    if from_reference is not None:
        return from_reference[0], f"output '{from_reference[1]}', against onnx.reference", ""
    return 0.0, "", f"no judge: {why}"


def _disagreement(plain: Outputs | None, reference: Outputs, mine: tuple[float, str] | None) -> str:
    error, name = difference(plain, reference) if plain is not None else (mine or (0.0, ""))
    if np.isinf(error):
        return f"onnx.reference gives output '{name}' another shape, or other elements that are not finite"
    return f"onnx.reference differs from it by {error:.1e} at output '{name}'"


@dataclass(frozen=True)
class FileCertifier:
    """Certifies one row of a user's file. ``files``: folder of the file's inputs, where the reference's outputs are
    kept for its other rows."""

    backend: Backend
    precision: str
    device: str
    mode: str
    path: Path
    files: Path
    alive: Callable[[], None]

    def certify(self, x: Mapping[str, npt.NDArray[Any]], batch: int) -> FileCertificate:
        """Compare all outputs for these inputs."""
        stated = adapter_tolerances(self.backend, self.precision)
        allowed = tolerance(self.precision, self.device, check_of_file(self.precision, stated), stated=stated)
        got, again = self._outputs(self.backend, x), self._outputs(self.backend, x)
        reference = self._reference(x, batch)
        value, note, uncertified = judge(
            got, again, self._plain(x), reference, allowed, self.mode == self.backend.UNOPTIMIZED_MODE
        )
        if value > allowed:
            where = self._first_node(x, allowed)
            note += f"; {where}" if where else ""
        count = f"{len(got)} outputs, batch {batch}"
        return FileCertificate(Result(CHECK, value, allowed, f"{count} {note}".strip()), uncertified)

    def _outputs(self, backend: Backend, x: Mapping[str, npt.NDArray[Any]]) -> Outputs:
        return {name: flatten(value) for name, value in backend.outputs(dict(x)).items()}

    def _plain_backend(self, path: Path) -> Backend | None:
        mode = self.backend.UNOPTIMIZED_MODE
        if mode is None:
            return None
        plain = type(self.backend)("cpu", self.precision, mode, 1, 0)
        plain.load(path)
        return plain

    def _plain(self, x: Mapping[str, npt.NDArray[Any]]) -> Outputs | None:
        plain = self._plain_backend(self.path)
        return None if plain is None else self._outputs(plain, x)

    def _reference(self, x: Mapping[str, npt.NDArray[Any]], batch: int) -> Outputs | str:
        """The outputs of ``onnx.reference``, or why it has none; computed once per file in a process of its own."""
        inputs, out = self.files / f"judged-{batch}.npz", self.files / f"reference-{batch}.npz"
        failed = out.with_suffix(".txt")
        if not out.exists() and not failed.exists():
            arrays: dict[str, Any] = {f"input {name}": value for name, value in x.items()}
            np.savez(inputs, **arrays)
            failed.write_text(run_reference(self.path, inputs, out, self.alive), encoding="utf-8")
        if not out.exists():
            return failed.read_text(encoding="utf-8")
        outputs: dict[str, list[npt.NDArray[Any]]] = {}
        with np.load(out, allow_pickle=False) as stored:
            for key in stored.files:
                outputs.setdefault(key.split(" ", 1)[1], []).append(stored[key])
        return outputs

    def _first_node(self, x: Mapping[str, npt.NDArray[Any]], allowed: float) -> str:
        """The first node whose output parts from the unoptimized runtime's, if showing all values keeps the fault."""
        from bench.worker.reference_judge import with_all_outputs

        shown = self.files / "all-values.onnx"
        names = with_all_outputs(self.path, shown)
        plain = self._plain_backend(shown)
        if plain is None:
            return ""
        optimized = type(self.backend)(self.device.partition(":")[0], self.precision, self.mode, 1, 0)
        optimized.load(shown)
        got, want = self._outputs(optimized, x), self._outputs(plain, x)
        for name, node in names.items():
            error, _ = difference({name: got.get(name, [])}, {name: want.get(name, [])})
            if error > allowed:
                return f"first at node {node} ({error:.1e})"
        return "no single node: only the optimized graph differs"


def run_reference(path: Path, inputs: Path, out: Path, alive: Callable[[], None]) -> str:
    """Run ``onnx.reference`` in a process of its own, at most ``JUDGE_SECONDS``; why it has no outputs, or ''."""
    command = [sys.executable, "-P", "-m", "bench.worker.reference_judge", str(path), str(inputs), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        waited = 0.0
        while waited < JUDGE_SECONDS:
            try:
                text, _ = process.communicate(timeout=1.0)
                return text.strip() or ("" if out.exists() else f"onnx.reference ended with code {process.returncode}")
            except subprocess.TimeoutExpired:
                waited += 1.0
                alive()
        process.kill()
    return f"onnx.reference took longer than {JUDGE_SECONDS:g} s"


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

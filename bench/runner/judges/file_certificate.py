"""The certificate of a user's ONNX file: a runtime's outputs beside those of two judges.

The first judge is ``onnx.reference``, in a process of its own (``bench.worker.reference_judge``), the second the
runtime itself with all optimizations off, one thread. The reference is wrong or incomplete for some operators
(docs/method.md), so a difference from it counts only if the second judge has the same opinion of the row.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.description import Description
from bench.runner.judges.result import Result
from bench.runner.judges.tolerances import adapter_tolerances, check_of_file, tolerance
from bench.worker import file_outputs
from bench.worker.file_outputs import FileBatch, Outputs
from bench.worker.protocol import Job

JUDGE_SECONDS = 15.0
"""The longest time for ``onnx.reference``, whose pooling is plain Python."""
CHECK = "outputs_of_file"


@dataclass(frozen=True)
class FileCertificate:
    """The check of a file's outputs, and why no judge could certify them (empty: one could)."""

    result: Result
    repeats: bool
    """Whether two calls gave the same outputs, and all are finite."""
    uncertified: str = ""


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


@dataclass
class FileJudge:
    """Judges the rows of users' files. What ``onnx.reference`` computes is kept for the other rows of a file."""

    _references: dict[tuple[Path, int], Outputs | str] = field(default_factory=dict)

    def judge(
        self, adapter: Description, job: Job, path: Path, batch: FileBatch, size: int, calls: Mapping[str, Outputs]
    ) -> FileCertificate:
        """Compare the outputs of a row's ``calls`` (``RuntimeOfFile.compute``) for a batch of ``size``."""
        allowed = allowed_of_file(adapter, job)
        key = (path, size)
        if key not in self._references:
            self._references[key] = reference_outputs(path, batch)
        got, again = calls.get("got", {}), calls.get("again", {})
        value, note, uncertified = judge(
            got, again, calls.get("plain"), self._references[key], allowed, job.mode == adapter.UNOPTIMIZED_MODE
        )
        count = f"{len(got)} outputs, batch {size}"
        repeats = all_finite(got) and difference(again, got)[0] <= allowed
        return FileCertificate(Result(CHECK, value, allowed, f"{count} {note}".strip()), repeats, uncertified)


def allowed_of_file(adapter: Description, job: Job) -> float:
    """The largest allowed difference of a row of a user's file."""
    stated = adapter_tolerances(adapter, job.precision)
    return tolerance(job.precision, job.device, check_of_file(job.precision, stated), stated=stated)


def first_node(calls: Mapping[str, Outputs], nodes: Mapping[str, str], allowed: float) -> str:
    """The first node whose value parts from the unoptimized runtime's, if showing all values keeps the fault.

    ``calls``: ``RuntimeOfFile.compute_all_values``. ``nodes``: value to node, in the graph's order.
    """
    if not calls:
        return ""
    got, want = calls.get("got", {}), calls.get("plain", {})
    for name, node in nodes.items():
        error, _ = difference({name: got.get(name, [])}, {name: want.get(name, [])})
        if error > allowed:
            return f"first at node {node} ({error:.1e})"
    return "no single node: only the optimized graph differs"


def reference_outputs(path: Path, batch: FileBatch) -> Outputs | str:
    """The outputs of ``onnx.reference``, or why it has none."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, out = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        arrays: dict[str, Any] = {f"input {name}": value for name, value in batch.items()}
        np.savez(inputs, **arrays)
        why_not = run_reference(path, inputs, out)
        if why_not:
            return why_not
        try:
            return file_outputs.read(out).get("reference", {})
        except ValueError as unreadable:
            return f"onnx.reference: {unreadable}"


def run_reference(path: Path, inputs: Path, out: Path) -> str:
    """Run ``onnx.reference`` in a process of its own, at most ``JUDGE_SECONDS``; why it has no outputs, or ''."""
    command = [sys.executable, "-P", "-m", "bench.worker.reference_judge", str(path), str(inputs), str(out)]
    try:
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=JUDGE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"onnx.reference took longer than {JUDGE_SECONDS:g} s"
    return ended.stdout.strip() or ("" if out.exists() else f"onnx.reference ended with code {ended.returncode}")

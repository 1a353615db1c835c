"""Weights of stored runs, for runs that start from them: safetensors, with canonical names and layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from backends.model import ModelSpec, Weights
from bench.array_files import read_arrays
from bench.errors import BenchError, UsageError
from bench.records.record import label
from bench.store.store import Store


def to_safetensors(file: Path) -> bytes:
    """Convert a worker's weights from NumPy's npz to safetensors."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(value) for name, value in read_arrays(file).items()})


def from_safetensors(content: bytes, whose: str) -> Weights:
    """The weights of ``to_safetensors``.

    Raises:
        BenchError: they are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(content)
    except SafetensorError as error:
        raise BenchError(f"the weights of {whose} are damaged: {error}; train them again") from error


def load_weights(store: Store, text: str) -> tuple[str, Weights]:
    """The full name and the weights of ``RUN`` or ``RUN:ROW`` (a row's name or id).

    Raises:
        UsageError: no such run or row, or several rows and none named.
        BenchError: the stored weights are damaged.
    """
    run, _, row = text.partition(":")
    name, by_row = store.weights(run or "last")
    jobs = [record.job for record in store.load(name).records]
    labels = {job.row.id: label(job, jobs) for job in jobs}
    by_label = {labels.get(row_id, row_id): content for row_id, content in by_row.items()}  # older runs stored labels
    ids = {row_label: row_id for row_id, row_label in labels.items()}
    row = labels.get(row, row)
    if not by_label:
        raise UsageError(f"--init {text}: run {name} has no weights; only rows that were trained have them")
    if not row and len(by_label) > 1:
        example = f"{name}:{min(by_label)}"
        raise UsageError(f"--init {text}: run {name} trained {', '.join(by_label)}; name one, such as {example}")
    chosen = row or next(iter(by_label))
    if chosen not in by_label:
        raise UsageError(f"--init {text}: run {name} has no row '{chosen}'; it trained {', '.join(by_label)}")
    return f"{name}:{ids.get(chosen, chosen)}", from_safetensors(by_label[chosen], f"{name}:{chosen}")


def starting_weights(model: ModelSpec, weights: Weights, origin: str, new_head: bool) -> Weights:
    """The weights that a training of ``model`` starts from. ``new_head``: without the last dense layer, which is then
    drawn from the seed.

    Raises:
        UsageError: the weights are of another model, or their head has another number of classes.
    """
    head = {name for name in model.weight_shapes if name.startswith(f"{model.head}.")}
    needed = {name: shape for name, shape in model.weight_shapes.items() if not (new_head and name in head)}
    kept = {name: value for name, value in weights.items() if not (new_head and name in head)}
    for name in (*needed, *kept):
        if name not in kept or name not in needed:
            where = "the model" if name in needed else origin
            raise UsageError(f"--init {origin}: {name} is in {where} only: these are not weights of model {model.name}")
    for name, shape in needed.items():
        if kept[name].shape != shape:
            actual, expected = ("x".join(map(str, side)) for side in (kept[name].shape, shape))
            if name in head:
                why = f"the head is for {kept[name].shape[-1]} classes, the data has {model.classes}"
                raise UsageError(f"--init {origin}: {why} ({name} is {actual}); add --new-head to draw it anew")
            raise UsageError(f"--init {origin}: {name} is {actual}, model {model.name} needs {expected}")
    return kept

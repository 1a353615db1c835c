"""Weights of stored runs, for runs that begin with them: safetensors, canonical names and layout, any framework's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from backends.model import ModelSpec, Weights
from bench.errors import BenchError, UsageError
from bench.records.record import label
from bench.store.store import Store


def packed(file: Path) -> bytes:
    """Safetensors of the weights that a worker left in NumPy's npz."""
    from safetensors.numpy import save

    with np.load(file, allow_pickle=False) as stored:
        return save({name: np.ascontiguousarray(value) for name, value in stored.items()})


def of_run(store: Store, text: str) -> tuple[str, Weights]:
    """``RUN`` or ``RUN:ROW`` (a row's name or id) to its full name and weights.

    Raises:
        UsageError: no such run or row, or several rows and none named.
        BenchError: what is stored is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    run, _, row = text.partition(":")
    name, by_row = store.weights(run or "last")
    jobs = [record.job for record in store.load(name).records]
    labels = {job.row.id: label(job, jobs) for job in jobs}
    found = {labels.get(row_id, row_id): content for row_id, content in by_row.items()}  # older runs named them so
    ids = {row_label: row_id for row_id, row_label in labels.items()}
    row = labels.get(row, row)
    if not found:
        raise UsageError(f"--init {text}: run {name} has no weights; only rows that were trained have them")
    if not row and len(found) > 1:
        raise UsageError(f"--init {text}: run {name} trained {', '.join(found)}; name one, such as {name}:{min(found)}")
    chosen = row or next(iter(found))
    if chosen not in found:
        raise UsageError(f"--init {text}: run {name} has no row '{chosen}'; it trained {', '.join(found)}")
    try:
        return f"{name}:{ids.get(chosen, chosen)}", load(found[chosen])
    except SafetensorError as error:
        raise BenchError(f"the weights of {name}:{chosen} are damaged: {error}; train them again") from error


def start(model: ModelSpec, weights: Weights, whose: str, new_head: bool) -> Weights:
    """What a training of ``model`` begins with; with ``new_head`` the last dense layer is left out, to be drawn.

    Raises:
        UsageError: the weights are another model's, or their head is for other classes.
    """
    head = {name for name in model.weight_shapes if name.startswith(f"{model.head}.")}
    wanted = {name: shape for name, shape in model.weight_shapes.items() if not (new_head and name in head)}
    kept = {name: value for name, value in weights.items() if not (new_head and name in head)}
    for name in (*wanted, *kept):
        if name not in kept or name not in wanted:
            where = "the model" if name in wanted else whose
            raise UsageError(f"--init {whose}: {name} is in {where} only: these are not weights of model {model.name}")
    for name, shape in wanted.items():
        if kept[name].shape != shape:
            has, needs = ("x".join(map(str, side)) for side in (kept[name].shape, shape))
            if name in head:
                why = f"the head is for {kept[name].shape[-1]} classes, the data has {model.classes}"
                raise UsageError(f"--init {whose}: {why} ({name} is {has}); add --new-head to draw it anew")
            raise UsageError(f"--init {whose}: {name} is {has}, model {model.name} needs {needs}")
    return kept

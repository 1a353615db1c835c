"""How far each row is from what the machine can do: the roofline (Williams, Waterman & Patterson 2009).

The roof of a device, precision and number of threads is the best rate that any row's framework reached, of a large
matrix product or convolution and of a memory triad. On a CPU libraries differ by a factor of two: there a row is judged
only if its own framework told what it reaches. The work of a row is its model's own: the FLOPs of convolutions and
dense layers, and the bytes that must move at least: each image in, its logits out, the weights once a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.record import Figure, Record, Roof

KERNELS = {"product": ("product", "convolution"), "triad": ("triad",), "cached_triad": ("cached_triad",)}
"""What a part of the roof is the best of."""
TRAINING = 3
"""FLOPs of a training step over those of inference: forward, to the weights, to the inputs (which the first layer does
not need: the share is somewhat less)."""
CERTAIN_TRAINING = 2
"""The same, of what no framework can leave out."""
SLACK = 1.1
"""A row may be above the roof by this factor: both are measured."""
FLOAT_BYTES = 4
FAILED = "self-check roof"
"""How the error of a row above its roof begins."""


@dataclass(frozen=True)
class Attained:
    """What a row attains in one throughput."""

    figure: Figure
    flops: float
    """FLOP/s."""
    bytes: float
    """Bytes/s."""
    intensity: float
    """FLOP per byte."""
    share: float
    """Of the roof at this intensity."""


def with_roofs(records: Sequence[Record]) -> list[Record]:
    """Records with the roof of their device, precision and threads. A row above it fails: it cannot have done its
    work."""
    best = {key: _best([r for r in records if _key(r) == key]) for key in {_key(record) for record in records}}
    return [_checked(record.model_copy(update={"roof": best[_key(record)]})) for record in records]


def attained(record: Record) -> list[Attained]:
    """Of every throughput whose roof and work are known. One above a roof that may be too low for it is left out."""
    flops, moved, parameters = (_value(record, name) for name in ("flops", "io_bytes", "parameters"))
    if record.roof is None or flops is None or moved is None or parameters is None:
        return []
    if record.job.processes not in (None, 1):
        return []  # the roof is that of one process
    found = []
    for figure in record.figures:
        if figure.name == "throughput" and figure.value and figure.batch_size:
            times = TRAINING if figure.task == "train" else 1
            of_image = moved + FLOAT_BYTES * parameters / figure.batch_size
            intensity = times * flops / (times * of_image)
            roof = min(record.roof.product, intensity * record.roof.cached_triad)
            rate = times * flops * figure.value
            if rate > SLACK * record.roof.product and not _is_judged(record):
                continue
            found.append(Attained(figure, rate, times * of_image * figure.value, intensity, rate / roof))
    return found


def _is_judged(record: Record) -> bool:
    """Whether the roof is a row's limit: that of a GPU is all rows'; that of a CPU, if its own framework is in it."""
    return record.job.device != "cpu" or any(name in record.kernels for name in KERNELS["product"])


def _key(record: Record) -> tuple[str, str, int]:
    return record.job.device, record.job.precision, record.job.threads


def _best(records: Sequence[Record]) -> Roof | None:
    rates, by = {}, {}
    for part, kernels in KERNELS.items():
        measured = [
            (record.kernels[name], record.id) for record in records for name in kernels if name in record.kernels
        ]
        if not measured:
            return None
        rates[part], by[part] = max(measured)
    return Roof(**rates, by=by)


def is_above(record: Record) -> bool:
    """Whether a row of ``with_roofs`` is above its roof."""
    return record.status == "failed" and (record.error or "").startswith(FAILED)


def _checked(record: Record) -> Record:
    if record.status != "ok" or record.roof is None:
        return record
    for one in attained(record):
        certain = one.flops * (CERTAIN_TRAINING / TRAINING if one.figure.task == "train" else 1)
        if certain > SLACK * record.roof.product:
            text = f"{certain:.3g} FLOP/s in {one.figure.task} at batch {one.figure.batch_size}, but the machine's"
            reason = f"{FAILED}: {text} largest product reaches {record.roof.product:.3g}"
            return record.model_copy(update={"status": "failed", "error": reason})
    return record


def _value(record: Record, name: str) -> float | None:
    figure = record.figure(name)
    return None if figure is None else figure.value

"""Rows that are clearly faster than others, by the ratios of the rounds in which both were measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.analysis.ratios import ratio_between
from bench.records.metrics import METRICS
from bench.records.record import Record, Run
from bench.values import Measured
from bench.worker.protocol import Job

LEAST_GAIN = 1.05
"""A smaller gain is not worth a change of settings."""
PLACES = (("train", "end-to-end", "trains"), ("infer", "end-to-end", "serves"))


def comparable(run: Run) -> list[Record]:
    """The comparable rows of a run."""
    return [record for record in run.records if record.comparable]


def usual_modes(run: Run) -> list[Record]:
    """Of every row only its first comparable mode; a backend's own order begins with its default."""
    kept: dict[tuple[str, str | None, str, str], Record] = {}
    for record in comparable(run):
        job = record.job
        kept.setdefault((job.backend, job.source, job.device, job.precision), record)
    return list(kept.values())


def gains(run: Run, field: str) -> list[tuple[Record, Record, str, str, Measured]]:
    """Groups of rows that differ only in one field of the job: the first row, the best other row, task, verb and gain.
    Groups without a clear gain are left out."""
    groups: dict[Job, list[Record]] = {}
    clear = []
    for record in comparable(run):
        groups.setdefault(_key(record.job, field), []).append(record)
    for usual, *others in groups.values():
        for task, boundary, verb in PLACES:
            better = [(o, g) for o in others if (g := clear_gain(o, usual, "throughput", task, boundary)) is not None]
            if better:
                other, gain = max(better, key=lambda pair: pair[1].value)
                clear.append((usual, other, task, verb, gain))
    return clear


def _key(job: Job, field: str) -> Job:
    """The job with one field left out."""
    left_out: dict[str, Any] = {field: ""}
    return replace(job, **left_out)


def clear_gain(ours: Record, theirs: Record, name: str, task: str, boundary: str) -> Measured | None:
    """By what factor ``ours`` is better, at the same batch size; None if the difference is not clear."""
    sizes = [f.batch_size for f in theirs.figures if (f.name, f.task, f.boundary) == (name, task, boundary) and f.value]
    size = max((size for size in sizes if size is not None), default=None)
    mine, other = (record.figure(name, task, boundary, size) for record in (ours, theirs))
    if mine is None or other is None or not mine.value or not other.value:
        return None
    gain = ratio_between(other, mine) if METRICS[name].lower_is_better else ratio_between(mine, other)
    return gain if gain is not None and is_clear(gain) else None


def is_clear(gain: Measured) -> bool:
    """Whether the whole interval is above ``LEAST_GAIN``."""
    return gain.low is not None and gain.low > LEAST_GAIN


def times(gain: Measured) -> str:
    """``1.23 times [1.2, 1.26], n = 3``."""
    return f"{gain.value:.3g} times [{gain.low:.3g}, {gain.high:.3g}], n = {gain.n}"


def row_name(job: Job) -> str:
    """``onnxruntime <- pytorch``."""
    return job.backend if job.source is None else f"{job.backend} <- {job.source}"

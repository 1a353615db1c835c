"""Whether page faults slow a row down enough to try another allocator: a pure function of its record."""

from __future__ import annotations

from collections.abc import Sequence

from bench.machine import allocators
from bench.records.record import Record
from bench.worker.protocol import TimedMetric

FAULT_SECONDS = 0.5e-6
"""Minimum cost of a page fault, in seconds: trap, page, and filling it with zeros."""
WORTH_A_TRY = 0.05
"""The arena settings are tried if page faults take at least this share of a step."""


def worst_metric(record: Record, metrics: Sequence[TimedMetric]) -> TimedMetric | None:
    """The throughput with the largest share of page faults, if that share is at least ``WORTH_A_TRY``."""
    if record.job.allocator != allocators.SYSTEM or not allocators.is_glibc() or record.status != "ok":
        return None
    shares = []
    for metric in metrics:
        if metric.task == "input":
            continue  # the faults are those of its workers
        figure = record.figure(metric.name, metric.task, metric.boundary, metric.batch_size)
        if figure is not None and figure.value and figure.faults_per_step is not None:
            step_seconds = metric.batch_size / figure.value
            shares.append((figure.faults_per_step * FAULT_SECONDS / step_seconds, metric))
    share, worst = max(shares, key=lambda pair: pair[0], default=(0.0, None))
    return worst if share >= WORTH_A_TRY else None

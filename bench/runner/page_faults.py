"""Whether page faults slow a row down enough to try another allocator: a pure function of its record."""

from __future__ import annotations

from collections.abc import Sequence

from bench.machine import allocators
from bench.records.record import Record
from bench.runner.plan import FigurePlan

FAULT_SECONDS = 0.5e-6
"""What one page fault costs at least: trap, page, and filling it with zeros."""
WORTH_A_TRY = 0.05
"""Share of a step that page faults take by that, from which on the arena settings are tried."""


def worst(record: Record, figures: Sequence[FigurePlan]) -> FigurePlan | None:
    """The throughput figure of which page faults take the largest share, if that is worth a try."""
    if record.job.allocator != allocators.SYSTEM or not allocators.is_glibc() or record.status != "ok":
        return None
    shares = []
    for planned in figures:
        figure = record.figure(planned.name, planned.task, planned.boundary, planned.batch_size)
        if figure is not None and figure.value and figure.faults_per_step is not None:
            step_seconds = planned.batch_size / figure.value
            shares.append((figure.faults_per_step * FAULT_SECONDS / step_seconds, planned))
    share, planned_ = max(shares, key=lambda pair: pair[0], default=(0.0, None))
    return planned_ if share >= WORTH_A_TRY else None

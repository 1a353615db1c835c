"""Self-checks that every record must pass: pure functions of the record.

A violated check means that the harness or an adapter is wrong, not the framework. The row becomes ``failed``, with the
check's name; its metrics stay in the record for inspection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from bench.records.metrics import METRICS
from bench.records.record import Record

TIMER_SLACK = 1.001
"""Tolerance for rounding: a sum of many clock readings against one outer reading."""
MEMORY_SLACK = 1.01
"""Tolerance for the kernel's page counts, which are kept per processor and summed in batches."""


def violations(record: Record) -> list[str]:
    """``name: what is wrong`` for every violation; empty if the record passes all checks."""
    return [f"{name}: {text}" for name, check in CHECKS.items() for text in check(record)]


def _throughput(record: Record) -> Iterator[str]:
    """Throughput equals images over summed time."""
    for figure in record.figures:
        for sample in figure.samples if figure.name == "throughput" else []:
            seconds = math.fsum(piece.seconds for piece in sample.used)
            images = sum(piece.images for piece in sample.used)
            if seconds <= 0 or not math.isclose(sample.value, images / seconds, rel_tol=1e-6):
                counted = figure.unit.partition("/")[0]
                yield f"{sample.value:.6g} {figure.unit} is not {images} {counted} in {seconds:.6g} s"


def _percentiles(record: Record) -> Iterator[str]:
    """p50 <= p90 <= p99 in every process."""
    latency = {(f.name, f.boundary, f.task): f for f in record.figures if f.name.startswith("latency_p")}
    for (name, boundary, task), median in latency.items():
        if name == "latency_p50":
            tails = [latency.get((tail, boundary, task)) for tail in ("latency_p90", "latency_p99")]
            columns = [median.samples, *(tail.samples for tail in tails if tail is not None)]
            for row in zip(*columns, strict=True):
                values = [sample.value for sample in row]
                if values != sorted(values):
                    yield f"round {row[0].round}: {values} seconds are not in order"


def _memory(record: Record) -> Iterator[str]:
    """The peak memory of a process is not below its memory at the end."""
    peaks: dict[int, float] = {}
    for figure in record.figures:
        for sample in figure.samples if figure.name == "peak_rss" else []:
            peaks[sample.round] = max(peaks.get(sample.round, 0.0), sample.value)
    for worker in record.phases:
        peak = None if worker.round is None else peaks.get(worker.round)
        if peak is not None and worker.rss is not None and worker.rss > peak * MEMORY_SLACK:
            yield f"round {worker.round}: {worker.rss:,} bytes at the end, above the peak of {peak:,.0f}"


def _timed(record: Record) -> Iterator[str]:
    """The slices of a process together are not longer than its timed phase."""
    seconds: dict[int, float] = {}
    for figure in record.figures:
        if METRICS[figure.name].decisive:  # the other percentiles use the same slices
            for sample in figure.samples:
                own = math.fsum(piece.seconds for piece in sample.slices)
                seconds[sample.round] = seconds.get(sample.round, 0.0) + own
    for worker in record.phases:
        inside = None if worker.round is None else seconds.get(worker.round)
        outside = worker.seconds.get("timed", 0.0)
        if inside is not None and inside > outside * TIMER_SLACK:
            yield f"round {worker.round}: slices of {inside:.6g} s in a phase of {outside:.6g} s"


def _life(record: Record) -> Iterator[str]:
    """The sum of a process' phases is not more than its life."""
    for worker in record.phases:
        phases = math.fsum(worker.seconds.values())
        if phases > worker.life * TIMER_SLACK:
            yield f"{worker.kind}: phases of {phases:.6g} s in a life of {worker.life:.6g} s"


def _threads(record: Record) -> Iterator[str]:
    """The framework uses the requested number of threads."""
    effective = record.settings.get("threads")
    if effective is not None and effective != record.job.threads:
        yield f"{record.job.threads} requested, {effective} used"


def _cpus(record: Record) -> Iterator[str]:
    """The worker runs on the CPUs of its job."""
    effective = record.settings.get("cpus")
    if effective is None:
        return
    if record.job.cpus is not None and effective != list(record.job.cpus):
        yield f"{list(record.job.cpus)} requested, {effective} used"
    available = record.machine.get("cpus", 0)
    if record.job.cpus is None and len(effective) < available:
        yield f"{available} CPUs available and none pinned, but the worker is bound to {effective}"


def _allocator(record: Record) -> Iterator[str]:
    """The worker runs on the allocator of its job."""
    effective = record.settings.get("allocator")
    if effective is not None and effective != record.job.allocator:
        yield f"{record.job.allocator} requested, {effective} used"


CHECKS: dict[str, Callable[[Record], Iterator[str]]] = {
    "throughput": _throughput,
    "percentiles": _percentiles,
    "memory": _memory,
    "timed": _timed,
    "life": _life,
    "threads": _threads,
    "cpus": _cpus,
    "allocator": _allocator,
}

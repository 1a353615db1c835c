"""Self-checks that every record must pass: pure functions of the record.

A violated check means that the harness or an adapter is wrong, not the framework. The row becomes ``failed``, with the
check's name; its metrics stay in the record for inspection.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator

from bench.records.metrics import METRICS
from bench.records.record import Record, Slice

RATES = ("throughput", "input_throughput", "fed_throughput")
"""Metrics that are images over the seconds of slices."""
PREFETCHED = 1.3
"""Rate of an input pipeline in the first half of a slice over that in the second, at most, in three of four slices: it
would be above 1 if batches were ready before the clock began. A busy machine makes it larger in some, smaller in
others."""
TIMER_SLACK = 1.001
"""Tolerance for rounding: a sum of many clock readings against one outer reading."""
TIMER_ERROR = 0.001
"""Seconds by which two clocks of one machine may differ."""
MEMORY_SLACK = 1.01
"""Tolerance for the kernel's page counts, which are kept per processor and summed in batches."""

CLOCK_SHARE, CLOCK_SECONDS = 0.03, 0.005
"""Share of a slice, and seconds, by which the worker's clock may lag the parent's: a request and an answer pass
meanwhile."""
PACE_ERROR = 0.02
"""The same over a worker's whole life, where a wait for a core is nothing."""
WAIT_SECONDS = 0.01
"""A worker that has to wait for its core begins late by at most so many seconds: a turn of the scheduler."""
CPU_SHARE = 1.15
"""CPU seconds per wall second and thread. Honest rows: at most 1.0 (1.11 from inside the worker)."""
HOST_SHARE = 0.3
"""CPU seconds per second that the thread which brings the inputs may add to those threads, end to end: frameworks that
return early compute a step while it copies the next one's inputs (JAX's training on one thread: 0.23)."""
AFTER_SHARE, AFTER_SECONDS, SPIN_SECONDS = 0.02, 0.02, 0.15
"""CPU seconds after the answer: as a share of the slice's, and in seconds. A pool of several threads spins for a while
when it has no work (0.05 s per thread of OpenBLAS, 0.02 of ONNX Runtime): so many seconds per thread are allowed it."""
READ_SHARE, READ_SECONDS = 0.5, 0.001
"""Seconds to read an output after the fence, as a share of a step's, and in seconds. Honest rows: at most 0.22 of a
step and 0.2 ms."""


def violations(record: Record) -> list[str]:
    """``name: what is wrong`` for every violation; empty if the record passes all checks."""
    return [f"{name}: {text}" for name, check in CHECKS.items() for text in check(record)]


def _throughput(record: Record) -> Iterator[str]:
    """Throughput equals images over summed time."""
    for figure in record.figures:
        for sample in figure.samples if figure.name in RATES else []:
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


def _clock(record: Record) -> Iterator[str]:
    """The worker's clock goes as the parent's: over its life, and in the slices of a quiet machine. On a busy one the
    parent, too, waits for a core."""
    for worker in record.phases:
        if worker.clock_pace is not None and abs(worker.clock_pace - 1) > PACE_ERROR:
            yield f"round {worker.round}: the worker's clock went {worker.clock_pace:.3f} times as fast as the parent's"
    known = [piece for piece in _used_slices(record) if piece.reading("elapsed") is not None]
    calm = [piece for piece in known if not piece.disturbed]
    if not calm or 2 * len(calm) < len(known):
        return
    times = [tuple(piece.reading(name) or 0.0 for name in ("wall", "elapsed", "waited")) for piece in calm]
    wall, elapsed = (statistics.median(each[side] for each in times) for side in (0, 1))
    lag = statistics.median(wall - elapsed - min(waited, WAIT_SECONDS) for wall, elapsed, waited in times)
    ahead = statistics.median(elapsed - wall for wall, elapsed, _ in times)
    if lag > max(CLOCK_SECONDS, CLOCK_SHARE * wall) or ahead > TIMER_ERROR:
        yield f"of slices that took {wall:.3f} s, the worker's clock saw {elapsed:.3f} s (medians)"


def _cpu_time(record: Record) -> Iterator[str]:
    """A row on the CPU uses no more CPU time than its threads have. (On a GPU, drivers have threads of their own.)"""
    if record.job.device != "cpu":
        return
    for name, slices in _slices_by_metric(record):
        pairs = [(piece.reading("cpu"), piece.reading("wall")) for piece in slices]
        used = [cpu / wall for cpu, wall in pairs if cpu is not None and wall]
        workers = record.job.input_workers
        threads = record.job.all_threads + (workers or 0)
        host = HOST_SHARE if "end-to-end" in name else 0.0
        if used and statistics.median(used) > CPU_SHARE * threads + host:
            and_workers = "" if workers is None else f" and {workers} workers"
            where = f"{record.job.all_threads} threads{and_workers}"
            yield f"{statistics.median(used):.2f} CPU seconds per second on {where} in {name}"


def _affinity(record: Record) -> Iterator[str]:
    """No thread of the worker or its helpers may run on CPUs that are not the row's."""
    counts = [int(piece.reading("strayed") or 0) for piece in _used_slices(record)]
    if any(counts):
        yield f"{max(counts)} threads may run on other CPUs than {list(record.job.cpus or [])}"


def _asynchronous(record: Record) -> Iterator[str]:
    """Work is done when the clock stops. An input pipeline goes on with the batches that were asked for ahead."""
    for name, slices in _slices_by_metric(record):
        pairs = [(piece.reading("after"), piece.reading("cpu")) for piece in slices]
        known = [(after, cpu) for after, cpu in pairs if after is not None and cpu is not None]
        if not known or record.job.input_workers:
            continue
        after, cpu = statistics.median(after for after, _ in known), statistics.median(cpu for _, cpu in known)
        threads = record.job.all_threads
        if after > max(AFTER_SECONDS if threads == 1 else SPIN_SECONDS * threads, AFTER_SHARE * cpu):
            yield f"{after:.3f} CPU seconds after the end of slices that used {cpu:.3f} s in {name} (medians)"


def _late(record: Record) -> Iterator[str]:
    """The values of an output are there when its step is said to be done."""
    for name, slices in _slices_by_metric(record):
        steps = [step for piece in slices if (step := piece.reading("step")) is not None]
        for kind in ("ready", "read"):
            reads = [read for piece in slices if (read := piece.reading(kind)) is not None]
            if reads and steps and statistics.median(reads) > max(READ_SECONDS, READ_SHARE * statistics.median(steps)):
                read, step = statistics.median(reads), statistics.median(steps)
                yield f"reading an output took {read:.3g} s after steps of {step:.3g} s in {name} (medians)"


def _prefetched(record: Record) -> Iterator[str]:
    """What an input pipeline is timed for, it does while the clock runs."""
    for name, slices in _slices_by_metric(record):
        ratios = sorted(ratio for piece in slices if (ratio := piece.reading("halves")) is not None)
        if ratios and (quartile := ratios[len(ratios) // 4]) > PREFETCHED:
            yield f"in three of four slices the first half was {quartile:.2f} times as fast as the second in {name}"


def _slices_by_metric(record: Record) -> Iterator[tuple[str, list[Slice]]]:
    """The slices that figures are of, with the metric's name as text."""
    for figure in record.figures:
        slices = [piece for sample in figure.samples for piece in sample.used]
        if slices:
            yield f"{figure.task} {figure.name} {figure.boundary}, batch {figure.batch_size}", slices


def _used_slices(record: Record) -> list[Slice]:
    return [piece for _, slices in _slices_by_metric(record) for piece in slices]


CHECKS: dict[str, Callable[[Record], Iterator[str]]] = {
    "throughput": _throughput,
    "percentiles": _percentiles,
    "memory": _memory,
    "timed": _timed,
    "life": _life,
    "threads": _threads,
    "cpus": _cpus,
    "allocator": _allocator,
    "clock": _clock,
    "cpu_time": _cpu_time,
    "affinity": _affinity,
    "asynchronous": _asynchronous,
    "late": _late,
    "prefetched": _prefetched,
}

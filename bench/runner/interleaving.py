"""One randomized block: a fresh worker per row, alive together, taking turns in short slices of timed work.

Only one worker runs at a time. Before another worker's slice the parent waits, outside the clock, until every thread of
the last one sleeps. The order of a turn is the block's, then its reverse, and so on: a steady drift of the machine then
affects all rows alike (counterbalancing).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from bench.machine import nvml
from bench.machine.host import available_cpus
from bench.machine.placement import slice_seconds
from bench.machine.slice_noise import Noise, Watch, reasons
from bench.runner.plan import Row
from bench.runner.worker_process import WorkerError, WorkerProcess
from bench.runner.workspace import Timing
from bench.values import Missing
from bench.worker.protocol import (
    Finish,
    Finished,
    Prepare,
    Prepared,
    Request,
    TimedMetric,
    TimedSlice,
    TimeSlice,
    WarmedUp,
    WarmUp,
)

Reply = TypeVar("Reply")
ASLEEP_SECONDS = 1.0
"""If a worker's threads still run after this time, the next slice begins all the same, and is marked."""
MEMORY_SHARE = 0.7
"""Share of the available memory that workers alive together may take, by what earlier workers held."""


@dataclass(frozen=True)
class SliceReading:
    """A timed slice and what the machine did meanwhile; ``reasons``: why it is disturbed, None: not visible here."""

    timed: TimedSlice
    turn: int
    noise: Noise
    reasons: list[str] | None


@dataclass
class MetricReadings:
    """What one worker measured of one metric; Missing: its batch did not fit into memory."""

    metric: TimedMetric
    warm_up: WarmedUp | Missing
    slices: list[SliceReading] = field(default_factory=list)


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes that a worker holds on its GPU, and how they were found."""

    bytes: int
    method: str


@dataclass(frozen=True)
class MeasuredRound:
    """Everything that one worker measured in its life."""

    prepared: Prepared
    alive_with: tuple[str, ...]
    """Ids of the rows whose workers took turns with it."""
    metrics: list[MetricReadings]
    finished: Finished
    device_memory: DeviceMemory | Missing


@dataclass
class Block:
    """How a block is measured; ``measure`` may be called again and again."""

    open_worker: Callable[[Row], WorkerProcess]
    prepare: Callable[[Row], Prepare]
    timeout: float
    slices: int
    timing: Timing
    too_large: dict[tuple[str, str], int] = field(default_factory=dict)
    """By row id and task: the batch size at which memory ended. Larger ones are not tried again."""

    def measure(
        self, rows: Sequence[Row], metrics: Sequence[TimedMetric], announce: Callable[[str], None]
    ) -> dict[str, MeasuredRound | WorkerError]:
        """By row id: what its worker measured, or why it did not. ``announce`` is told what begins."""
        with ExitStack() as stack:
            turns = _Turns(self, stack, announce)
            turns.prepare(rows)
            for metric in metrics:
                turns.measure(metric)
            return turns.finish()


@dataclass
class _Live:
    """A worker that is alive, and what is known of it."""

    row: Row
    worker: WorkerProcess
    watch: Watch
    cpus: int
    prepared: Prepared | None = None
    alive_with: tuple[str, ...] = ()
    readings: list[MetricReadings] = field(default_factory=list)
    fastest: Noise = field(default_factory=Noise)
    gpu_pids: frozenset[int] = frozenset()
    gpu_growth: int = 0

    def ask(self, request: Request[Reply], timeout: float) -> Reply:
        """As ``WorkerProcess.ask``; on a GPU the growth of the board's use during our own turns is ours."""
        if self.row.gpu_uuid is None:
            return self.worker.ask(request, timeout)
        before = nvml.used_memory(self.row.gpu_uuid)
        reply = self.worker.ask(request, timeout)
        after = nvml.used_memory(self.row.gpu_uuid)
        self.gpu_growth += (after or 0) - (before or 0)
        return reply


class _Turns:
    """The live workers of one block."""

    def __init__(self, block: Block, stack: ExitStack, announce: Callable[[str], None]) -> None:
        self._block, self._stack, self._announce = block, stack, announce
        self._live: list[_Live] = []
        self._ended: dict[str, MeasuredRound | WorkerError] = {}
        self._last: WorkerProcess | None = None

    def prepare(self, rows: Sequence[Row]) -> None:
        """Spawn the workers and make them ready, one after the other."""
        for row in rows:
            self._announce(row.name)
            self._wait_asleep(None)
            try:
                self._live.append(self._prepared(row))
            except WorkerError as error:
                self._ended[row.id] = error
        for live in self._live:
            live.alive_with = tuple(other.row.id for other in self._live if other is not live)

    def _prepared(self, row: Row) -> _Live:
        pids = frozenset() if row.gpu_uuid is None else nvml.pids(row.gpu_uuid)
        worker = self._stack.enter_context(self._block.open_worker(row))
        cpus = tuple(row.job.cpus or available_cpus())
        live = _Live(row, worker, Watch(worker.pid, cpus, row.gpu_uuid), len(cpus))
        self._last = worker
        live.prepared = live.ask(self._block.prepare(row), self._block.timeout)
        if row.gpu_uuid is not None:
            live.gpu_pids = nvml.pids(row.gpu_uuid) - pids
        return live

    def measure(self, metric: TimedMetric) -> None:
        """Warm up and time one metric in all workers that can do it."""
        able = [live for live in self._live if metric.task in live.row.tasks and self._fits(live, metric)]
        if able:
            self._announce(f"{metric.task} {metric.name} {metric.boundary}")
        for live in able:
            self._guarded(live, metric, partial(self._warm_up, live, metric))
        able = [live for live in able if live in self._live and isinstance(live.readings[-1].warm_up, WarmedUp)]
        for turn in range(2 * self._block.slices):  # as many again, for those that were disturbed
            order = able if turn % 2 == 0 else list(reversed(able))
            for live in order:
                if live in self._live and _undisturbed(live) < self._block.slices:
                    self._guarded(live, metric, partial(self._slice, live, turn))

    def _fits(self, live: _Live, metric: TimedMetric) -> bool:
        """Whether memory has not ended at this batch size or a smaller one before."""
        limit = self._block.too_large.get((live.row.id, metric.task))
        if limit is None or metric.batch_size < limit:
            return True
        live.readings.append(MetricReadings(metric, Missing(f"batch {limit} did not fit into memory")))
        return False

    def _ends_memory(self, live: _Live, metric: TimedMetric) -> bool:
        """Whether a smaller batch of this task has fitted: then memory ends here, and the row goes on without."""
        done = [readings.metric for readings in live.readings]
        smaller = any(other.task == metric.task and other.batch_size < metric.batch_size for other in done)
        if smaller:
            self._block.too_large[live.row.id, metric.task] = metric.batch_size
        return smaller

    def finish(self) -> dict[str, MeasuredRound | WorkerError]:
        """Finish every worker and return its measurements, or its error, by row id."""
        for live in list(self._live):
            self._guarded(live, None, partial(self._finish, live))
        return self._ended

    def _guarded(self, live: _Live, metric: TimedMetric | None, job: Callable[[], None]) -> None:
        """A worker that fails ends alone; where memory ended, that is kept for the next try."""
        try:
            job()
        except WorkerError as error:
            if error.status == "out-of-memory" and metric is not None:
                self._ends_memory(live, metric)
            live.worker.kill()
            self._live.remove(live)
            self._ended[live.row.id] = error

    def _warm_up(self, live: _Live, metric: TimedMetric) -> None:
        self._wait_asleep(live.worker)
        warm_up = live.ask(WarmUp(metric=metric), self._block.timeout)
        if isinstance(warm_up, Missing) and not self._ends_memory(live, metric):
            raise WorkerError("out-of-memory", warm_up.reason)
        live.readings.append(MetricReadings(metric, warm_up))

    def _slice(self, live: _Live, turn: int) -> None:
        readings, timing = live.readings[-1], self._block.timing
        assert isinstance(readings.warm_up, WarmedUp)
        seconds = slice_seconds(readings.warm_up.step_seconds)
        asleep = self._wait_asleep(live.worker)
        before = live.watch.read()
        begin, cpu = time.perf_counter(), time.process_time()
        timed = live.worker.ask(TimeSlice(seconds=seconds), self._block.timeout + seconds)
        timing.timed += time.perf_counter() - begin
        timing.parent_cpu_while_timed += time.process_time() - cpu
        noise = live.watch.since(before, asleep, timed.own)
        live.fastest = _fastest(live.fastest, noise)
        why = reasons(noise, timed.elapsed, live.cpus, live.fastest)
        readings.slices.append(SliceReading(timed, turn, noise, why))

    def _finish(self, live: _Live) -> None:
        assert live.prepared is not None
        memory = _device_memory(live)
        finished = live.ask(Finish(), self._block.timeout)
        self._ended[live.row.id] = MeasuredRound(live.prepared, live.alive_with, live.readings, finished, memory)

    def _wait_asleep(self, coming: WorkerProcess | None) -> bool | None:
        """Wait until the worker that ran last sleeps, if another one comes."""
        last, self._last = self._last, coming or self._last
        if last is None or last is coming:
            return True
        begin = time.perf_counter()
        asleep = last.wait_asleep(ASLEEP_SECONDS)
        self._block.timing.asleep_wait += time.perf_counter() - begin
        return asleep


def _undisturbed(live: _Live) -> int:
    """Slices of the present metric that nothing disturbed, as far as can be seen."""
    return sum(not reading.reasons for reading in live.readings[-1].slices)


def _fastest(so_far: Noise, noise: Noise) -> Noise:
    """The highest clocks of both."""
    clocks = {
        name: max((value for value in (getattr(so_far, name), getattr(noise, name)) if value is not None), default=None)
        for name in ("frequency", "gpu_clock")
    }
    return replace(so_far, **clocks)


def _device_memory(live: _Live) -> DeviceMemory | Missing:
    """What the worker holds on its GPU after the last slice (allocators keep what they reached)."""
    if live.row.gpu_uuid is None:
        return Missing("this row runs on the CPU")
    used, method = nvml.process_memory(live.row.gpu_uuid, live.worker.pid, live.gpu_pids, live.gpu_growth)
    return Missing(method) if used is None else DeviceMemory(used, method)


def alive_together(
    rows: Sequence[Row], held: Mapping[str, int], available: int, gpu_available: Mapping[str, int]
) -> Iterator[list[Row]]:
    """Rows in groups that fit into memory together; ``held`` as ``Workspace.held``."""
    group: list[Row] = []
    left, gpu_left = MEMORY_SHARE * available, {uuid: MEMORY_SHARE * free for uuid, free in gpu_available.items()}
    host, boards = left, dict(gpu_left)
    for row in rows:
        needs, uuid = held.get(row.id, 0), row.gpu_uuid
        gpu_needs = held.get(f"{row.id}@{uuid}", 0)
        if group and (needs > host or (uuid is not None and gpu_needs > boards.get(uuid, 0))):
            yield group
            group, host, boards = [], left, dict(gpu_left)
        group.append(row)
        host -= needs
        if uuid is not None:
            boards[uuid] = boards.get(uuid, 0) - gpu_needs
    if group:
        yield group

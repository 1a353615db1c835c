"""One randomized block: one fresh worker per row. All workers are alive together and take turns in short timed slices.

Only one worker runs at a time. Before another worker's slice the parent waits, outside the timed interval, until every
thread of the previous worker sleeps. Turns run in the block's order and in its reverse alternately, so that a steady
drift of the machine affects all rows alike (counterbalancing).
"""

from __future__ import annotations

import os
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from bench.machine import nvml, process_tree, speed_variables
from bench.machine.host import available_cpus
from bench.machine.placement import slice_seconds
from bench.machine.slice_noise import Noise, Watch, reasons
from bench.runner.load import LoadTest
from bench.runner.plan import Row
from bench.runner.timing import Timing
from bench.runner.worker_process import WorkerError, WorkerProcess
from bench.values import Missing
from bench.worker.protocol import (
    Close,
    Closed,
    Finish,
    Finished,
    KeptOutputs,
    NotTaken,
    Prepare,
    Prepared,
    ReadKept,
    Renew,
    Request,
    TimedMetric,
    TimedSlice,
    TimeSlice,
    WarmedUp,
    WarmUp,
)

Reply = TypeVar("Reply")
ASLEEP_SECONDS = 1.0
"""If a worker's threads still run after this time, the next slice begins anyway and is marked."""
PEAK_SLACK = 0.01
"""Share by which a peak may fall: the kernel keeps its page counts per processor."""
PACE_SECONDS = 1.0
"""The pace of two clocks is compared over at least this time: replies may wait for a core."""
QUOTA_SECONDS = 1.0
"""A slice lasts so long under a quota of CPU time, ten of its periods: in less, what was saved up would count."""
INPUT_SECONDS, INPUT_STEPS = 0.5, 8
"""A slice of an input pipeline lasts so long, and so many steps: its workers must have begun and ended batches."""
STEPS_KEPT = 2
"""Steps of a slice whose outputs are kept. Two, so that an output that a later step overwrites is seen."""
MEMORY_SHARE = 0.7
"""Share of the available memory that workers alive together may take, estimated from earlier workers' peaks."""

MOST_ALIVE = 50
"""Workers alive together: each holds open files of the parent, and the more take turns, the farther apart their slices
are."""


@dataclass(frozen=True)
class Kept:
    """The outputs of a slice, with what decides its inputs and what of them was asked for."""

    seed: int
    asked: ReadKept
    outputs: KeptOutputs


@dataclass(frozen=True)
class SliceReading:
    """A timed slice and the machine's noise during it. ``reasons``: why it is disturbed, None if not visible."""

    timed: TimedSlice
    turn: int
    noise: Noise
    reasons: list[str] | None
    kept: Kept | None = None
    """Outputs of its steps."""
    batch_error: float | None = None
    """Of the batches of an input pipeline (``judges.timed_batches``)."""


@dataclass
class MetricReadings:
    """The slices of one metric in one worker; ``warm_up`` is Missing if the batch did not fit into memory."""

    metric: TimedMetric
    warm_up: WarmedUp | Missing
    slices: list[SliceReading] = field(default_factory=list)
    closing: tuple[Close, Closed] | None = None
    """The training steps after the last slice."""


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes that a worker holds on its GPU, and how they were measured."""

    bytes: int
    method: str


@dataclass(frozen=True)
class MeasuredRound:
    """All measurements of one worker."""

    prepared: Prepared
    alive_with: tuple[str, ...]
    """Ids of the rows whose workers took turns with it."""
    metrics: list[MetricReadings]
    finished: Finished
    device_memory: DeviceMemory | Missing
    clock_pace: float | None = None
    """Seconds of the worker's clock per second of the parent's, from its first reply to its last."""
    load: list[LoadTest] = field(default_factory=list)
    """Tests by LoadGen, in their order."""


@dataclass
class Block:
    """The settings of a block; ``measure`` may be called repeatedly."""

    open_worker: Callable[[Row], WorkerProcess]
    prepare: Callable[[Row], Prepare]
    timeout: float
    slices: Callable[[TimedMetric], int]
    timing: Timing
    too_large: dict[tuple[str, str], int] = field(default_factory=dict)
    """By row id and task: the batch size that did not fit into memory. Neither it nor larger ones are tried again."""
    read_kept: Callable[[Row, TimedMetric], ReadKept | None] = lambda row, metric: None
    """What is asked for of the outputs of a slice; None: they are not read."""
    why_impossible: Callable[[Row, TimedMetric, float], str] = lambda row, metric, seconds: ""
    """Why a step of so many seconds cannot be; empty if it can."""
    damage: Callable[[Row], str] = lambda row: ""
    """Which files of the run a row's worker changed that are not its own; empty if none."""
    closing: Callable[[Row, TimedMetric], Close | None] = lambda row, metric: None
    """The request for steps after the last slice of a training metric."""
    cuts: dict[tuple[str, TimedMetric], int] = field(default_factory=dict)
    """By row id and metric: the warm-up steps after which an earlier worker's were steady."""
    load: Callable[[Turns], None] | None = None
    """Tests under load, after the metrics."""
    renew_files: Callable[[], object] = lambda: None
    """Changes the files that an input pipeline reads; called before each of its slices."""
    batch_error: Callable[[Kept, TimedMetric], float | None] = lambda kept, metric: None
    """Of batches that were kept, right after their slice."""
    slice_seconds: dict[TimedMetric, float] = field(default_factory=dict)
    """What one slice of every row has cost in the last block, with its inputs and waits."""

    def measure(
        self, rows: Sequence[Row], metrics: Sequence[TimedMetric], announce: Callable[[str], None]
    ) -> dict[str, MeasuredRound | WorkerError]:
        """The measurements of every row's worker, or its error, by row id. ``announce`` is called for each part."""
        with ExitStack() as stack:
            turns = Turns(self, stack, announce)
            turns.prepare(rows)
            for metric in metrics:
                turns.measure(metric)
            if self.load is not None:
                self.load(turns)
            return turns.finish()


@dataclass
class Live:
    """A live worker and its measurements so far."""

    row: Row
    worker: WorkerProcess
    watch: Watch
    cpus: int
    prepared: Prepared | None = None
    prepared_at: float = 0.0
    """By the parent's clock."""
    alive_with: tuple[str, ...] = ()
    readings: list[MetricReadings] = field(default_factory=list)
    load: list[LoadTest] = field(default_factory=list)
    fastest: Noise = field(default_factory=Noise)
    gpu_pids: frozenset[int] = frozenset()
    gpu_growth: int = 0
    peaks: dict[str, dict[int, int]] = field(default_factory=dict)
    """By task: the peak bytes of every process of its tree, as last read."""
    seen: dict[str, int] = field(default_factory=dict)
    """By task: the largest sum of these."""

    def ask(self, request: Request[Reply], timeout: float) -> Reply:
        """Like ``WorkerProcess.ask``; on a GPU also adds the growth of the used memory to this worker's share."""
        if self.row.gpu_uuid is None:
            return self.worker.ask(request, timeout)
        before = nvml.used_memory(self.row.gpu_uuid)
        reply = self.worker.ask(request, timeout)
        after = nvml.used_memory(self.row.gpu_uuid)
        self.gpu_growth += (after or 0) - (before or 0)
        return reply


class Turns:
    """The live workers of one block, which take turns.

    ``live``: those that have not ended; ``announce``: is called for each part.
    """

    def __init__(self, block: Block, stack: ExitStack, announce: Callable[[str], None]) -> None:
        self._block, self._stack, self.announce = block, stack, announce
        self.live: list[Live] = []
        self._ended: dict[str, MeasuredRound | WorkerError] = {}
        self._last: WorkerProcess | None = None

    def prepare(self, rows: Sequence[Row]) -> None:
        """Spawn and prepare the workers, one after the other."""
        for row in rows:
            self.announce(row.name)
            self.wait_asleep(None)
            try:
                self.live.append(self._start_worker(row))
            except WorkerError as error:
                self._ended[row.id] = error
        for live in self.live:
            live.alive_with = tuple(other.row.id for other in self.live if other is not live)

    def _start_worker(self, row: Row) -> Live:
        pids = frozenset() if row.gpu_uuid is None else nvml.pids(row.gpu_uuid)
        worker = self._stack.enter_context(self._block.open_worker(row))
        cpus = tuple(row.job.cpus or available_cpus())
        live = Live(row, worker, Watch(worker.pid, cpus, row.gpu_uuid), len(cpus))
        self._last = worker
        live.prepared = live.ask(self._block.prepare(row), self._block.timeout)
        live.prepared_at = time.perf_counter()
        if row.gpu_uuid is not None:
            live.gpu_pids = nvml.pids(row.gpu_uuid) - pids
        return live

    def measure(self, metric: TimedMetric) -> None:
        """Warm up and time one metric in all workers whose backend supports its task."""
        able = [live for live in self.live if metric.task in live.row.tasks and self._fits(live, metric)]
        if able:
            self.announce(f"{metric.task} {metric.name} {metric.boundary}")
        for live in able:
            self.attempt(live, partial(self._warm_up, live, metric), metric)
        able = [live for live in able if live in self.live and isinstance(live.readings[-1].warm_up, WarmedUp)]
        begin, slices = time.monotonic(), self._block.slices(metric)
        for turn in range(2 * slices):  # twice as many turns as slices: disturbed slices are repeated
            order = able if turn % 2 == 0 else list(reversed(able))
            for live in order:
                if live in self.live and _count_undisturbed(live) < slices:
                    self.attempt(live, partial(self._time_slice, live, turn), metric)
        self._block.slice_seconds[metric] = (time.monotonic() - begin) / slices
        for live in [live for live in able if live in self.live]:
            self.attempt(live, partial(self._refuse_impossible, live, metric), metric)
        for live in [live for live in able if live in self.live]:
            self.attempt(live, partial(self._close, live, metric), metric)

    def _refuse_impossible(self, live: Live, metric: TimedMetric) -> None:
        """A worker may wait in its warm-up and not in its slices."""
        steps = [one.noise.step for one in live.readings[-1].slices if one.noise.step is not None]
        if steps and (why := self._block.why_impossible(live.row, metric, statistics.median(steps))):
            raise WorkerError("failed", why)

    def _close(self, live: Live, metric: TimedMetric) -> None:
        request = self._block.closing(live.row, metric)
        if request is not None:
            live.readings[-1].closing = request, live.ask(request, self._block.timeout)

    def _fits(self, live: Live, metric: TimedMetric) -> bool:
        """Whether no batch of this size or smaller has run out of memory before."""
        limit = self._block.too_large.get((live.row.id, metric.task))
        if limit is None or metric.batch_size < limit:
            return True
        live.readings.append(MetricReadings(metric, Missing(f"out of memory: batch {limit} did not fit into memory")))
        return False

    def _note_too_large(self, live: Live, metric: TimedMetric) -> bool:
        """Whether a smaller batch of this task was tried; if so, note this size as too large; the row goes on."""
        done = [readings.metric for readings in live.readings]
        smaller = any(other.task == metric.task and other.batch_size < metric.batch_size for other in done)
        if smaller:
            self._block.too_large[live.row.id, metric.task] = metric.batch_size
        return smaller

    def finish(self) -> dict[str, MeasuredRound | WorkerError]:
        """Finish every worker and return its measurements, or its error, by row id."""
        for live in list(self.live):
            self.attempt(live, partial(self._finish, live))
        return self._ended

    def attempt(self, live: Live, job: Callable[[], object], metric: TimedMetric | None = None) -> None:
        """Do a job of a worker. An error ends only this worker; a batch of a metric that does not fit is noted for the
        next try."""
        try:
            job()
            if damage := self._block.damage(live.row):
                raise WorkerError("failed", damage)
        except WorkerError as error:
            if error.status == "out-of-memory" and metric is not None:
                self._note_too_large(live, metric)
            live.worker.kill()
            self.live.remove(live)
            self._ended[live.row.id] = error

    def _warm_up(self, live: Live, metric: TimedMetric) -> None:
        self.wait_asleep(live.worker)
        warm_up = live.ask(WarmUp(metric=metric, cut=self._known_cut(live, metric)), self._block.timeout)
        if isinstance(warm_up, NotTaken):
            warm_up = Missing(f"the file does not take batch size {warm_up.batch_size}: {warm_up.why}")
        elif isinstance(warm_up, Missing):
            if not self._note_too_large(live, metric):
                raise WorkerError("out-of-memory", warm_up.reason)
            warm_up = Missing(f"out of memory: {warm_up.reason}")
        if isinstance(warm_up, WarmedUp) and (
            why := self._block.why_impossible(live.row, metric, warm_up.step_seconds)
        ):
            raise WorkerError("failed", why)
        if isinstance(warm_up, WarmedUp) and warm_up.steady:
            self._block.cuts[live.row.id, metric] = warm_up.cut
        live.readings.append(MetricReadings(metric, warm_up))

    def _known_cut(self, live: Live, metric: TimedMetric) -> int | None:
        """Steps after which a metric is steady: none, if the same step was timed just before at the other boundary."""
        before = live.readings[-1] if live.readings else None
        other = before is not None and replace(before.metric, boundary=metric.boundary) == metric
        if before is not None and other and isinstance(before.warm_up, WarmedUp) and before.warm_up.steady:
            return 0
        return self._block.cuts.get((live.row.id, metric))

    def _time_slice(self, live: Live, turn: int) -> None:
        readings, timing = live.readings[-1], self._block.timing
        assert isinstance(readings.warm_up, WarmedUp)
        seconds = slice_seconds(readings.warm_up.step_seconds)
        if live.row.job.cpu_quota is not None:
            seconds = max(seconds, QUOTA_SECONDS)
        if readings.metric.task == "input":
            seconds = max(seconds, INPUT_SECONDS, INPUT_STEPS * readings.warm_up.step_seconds)
        asleep = self.wait_asleep(live.worker)
        seed = secrets.randbits(32)
        if readings.metric.task == "input":
            self._block.renew_files()
        live.worker.ask(Renew(seconds=seconds, seed=seed, keep=_shares()), self._block.timeout)
        before, held_back = live.watch.read(), live.worker.throttled()
        begin, cpu = time.perf_counter(), time.process_time()
        timed = live.worker.ask(TimeSlice(seconds=seconds), self._block.timeout + seconds)
        timing.timed += time.perf_counter() - begin
        timing.parent_cpu_while_timed += time.process_time() - cpu
        noise = live.watch.since(before, asleep, timed.counters)
        noise = replace(noise, held_back=_more(held_back, live.worker.throttled()))
        elapsed = None if os.environ.get(speed_variables.SIMULATED_TIME) else timed.elapsed
        step = timed.seconds * readings.metric.batch_size / timed.images
        noise = replace(noise, elapsed=elapsed, ready=timed.ready, step=step, after=self._cpu_after(live.worker))
        noise = replace(noise, stalled=timed.stalled, halves=timed.halves)
        live.fastest = _highest_clocks(live.fastest, noise)
        why_disturbed = reasons(noise, timed.elapsed, live.cpus, live.fastest)
        self.watch_peak(live, readings.metric.task)
        asked, kept, outputs, batch_error = self._block.read_kept(live.row, readings.metric), None, None, None
        if asked is not None:
            outputs = live.worker.ask(asked, self._block.timeout)
            kept = Kept(seed, asked, outputs)
            batch_error = self._block.batch_error(kept, readings.metric)
        if outputs is not None and outputs.seconds:
            noise = replace(noise, read=outputs.seconds[0])
        readings.slices.append(SliceReading(timed, turn, noise, why_disturbed, kept, batch_error))

    def watch_peak(self, live: Live, task: str) -> None:
        """Keep the largest sum of the peaks of the worker's tree, with the shared memory that none of it maps.

        Raises:
            WorkerError: a process' peak fell, which only a reset can do.
        """
        peaks = process_tree.peaks(live.worker.pid)
        before = live.peaks.get(task, {})
        fallen = [pid for pid, peak in peaks.items() if peak < (1 - PEAK_SLACK) * before.get(pid, 0)]
        if fallen:
            fell = f"{before[fallen[0]]:,} to {peaks[fallen[0]]:,} bytes"
            raise WorkerError(
                "failed", f"self-check peak_memory: the peak of its memory fell from {fell}: it was reset"
            )
        live.peaks[task] = peaks
        shared = process_tree.unmapped_shared(live.worker.pid)
        live.seen[task] = max(live.seen.get(task, 0), sum(peaks.values()) + shared)

    def _cpu_after(self, worker: WorkerProcess) -> float | None:
        """CPU seconds of the worker's tree from now until it sleeps: what it still does was not done in time."""
        begin = process_tree.cpu_seconds(worker.pid)
        self._wait_until_asleep(worker)
        end = process_tree.cpu_seconds(worker.pid)
        return None if begin is None or end is None else end - begin

    def _finish(self, live: Live) -> None:
        assert live.prepared is not None
        memory = _device_memory(live)
        finished = live.ask(Finish(), self._block.timeout)
        pace = _clock_pace(live.prepared, finished, time.perf_counter() - live.prepared_at)
        peaks = {task: max(peak, live.seen.get(task, 0)) for task, peak in finished.peak_rss.items()}
        finished = replace(finished, peak_rss=peaks)
        self._ended[live.row.id] = MeasuredRound(
            live.prepared, live.alive_with, live.readings, finished, memory, pace, live.load
        )

    def wait_asleep(self, next_worker: WorkerProcess | None) -> bool | None:
        """Wait until the last worker sleeps, unless the same worker runs next."""
        last, self._last = self._last, next_worker or self._last
        if last is None or last is next_worker:
            return True
        return self._wait_until_asleep(last)

    def _wait_until_asleep(self, worker: WorkerProcess) -> bool | None:
        begin = time.perf_counter()
        asleep = worker.wait_asleep(ASLEEP_SECONDS)
        self._block.timing.asleep_wait += time.perf_counter() - begin
        return asleep


def _shares() -> tuple[float, ...]:
    """The places in a slice of the steps whose outputs are kept: nobody can foresee them."""
    return tuple(secrets.SystemRandom().random() for _ in range(STEPS_KEPT))


def _more(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _count_undisturbed(live: Live) -> int:
    """Number of slices of the current metric without a known disturbance."""
    return sum(not reading.reasons for reading in live.readings[-1].slices)


def _highest_clocks(so_far: Noise, noise: Noise) -> Noise:
    """``so_far`` with the higher clock frequencies of the two."""
    clocks = {
        name: max((value for value in (getattr(so_far, name), getattr(noise, name)) if value is not None), default=None)
        for name in ("frequency", "gpu_clock")
    }
    return replace(so_far, **clocks)


def _clock_pace(prepared: Prepared, finished: Finished, elapsed: float) -> float | None:
    """Seconds of the worker's clock per second of the parent's; None: too short a time to tell, or simulated time."""
    if prepared.clock is None or finished.clock is None or os.environ.get(speed_variables.SIMULATED_TIME):
        return None
    return (finished.clock - prepared.clock) / elapsed if elapsed >= PACE_SECONDS else None


def _device_memory(live: Live) -> DeviceMemory | Missing:
    """The worker's GPU memory after its last slice (allocators keep the peak)."""
    if live.row.gpu_uuid is None:
        return Missing("this row runs on the CPU")
    used, method = nvml.process_memory(live.row.gpu_uuid, live.worker.pid, live.gpu_pids, live.gpu_growth)
    return Missing(method) if used is None else DeviceMemory(used, method)


def alive_together(
    rows: Sequence[Row], held: Mapping[str, int], available: int, gpu_available: Mapping[str, int]
) -> Iterator[list[Row]]:
    """Groups of at most ``MOST_ALIVE`` rows that fit into memory together. ``held``: peak bytes as in
    ``Workspace.held_bytes``."""
    group: list[Row] = []
    left, gpu_left = MEMORY_SHARE * available, {uuid: MEMORY_SHARE * free for uuid, free in gpu_available.items()}
    host, boards = left, dict(gpu_left)
    for row in rows:
        needs, uuid = held.get(row.id, 0), row.gpu_uuid
        gpu_needs = held.get(f"{row.id}@{uuid}", 0)
        too_large = needs > host or (uuid is not None and gpu_needs > boards.get(uuid, 0))
        if group and (too_large or len(group) == MOST_ALIVE):
            yield group
            group, host, boards = [], left, dict(gpu_left)
        group.append(row)
        host -= needs
        if uuid is not None:
            boards[uuid] = boards.get(uuid, 0) - gpu_needs
    if group:
        yield group

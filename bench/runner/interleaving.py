"""One randomized block: a fresh worker per row, alive together, taking turns in short slices of timed work.

Only one worker runs at a time. Before another's slice the parent waits, outside the clock, until every thread of the
last one sleeps. The order of a turn is the block's, then its reverse, and so on, so that a steady drift of the machine
falls on all rows alike (counterbalancing).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from bench.machine import nvml
from bench.machine.host import available_cpus
from bench.machine.placement import slice_seconds
from bench.machine.slice_noise import Noise, Watch, reasons
from bench.runner.plan import FigurePlan, Row
from bench.runner.worker_process import Child, WorkerError

ASLEEP_SECONDS = 1.0
"""A worker whose threads still run after so long lets the next slice begin, which is then marked."""
MEMORY_SHARE = 0.7
"""Of the memory available, the part that workers alive together may take by what was seen of them."""


@dataclass
class Timing:
    """Where a run's wall time went, in seconds; ``phases`` adds up what all its workers told."""

    wall: float = 0.0
    timed: float = 0.0
    """The parent waited for slices."""
    parent_cpu_while_timed: float = 0.0
    """CPU time of the parent meanwhile."""
    asleep_wait: float = 0.0
    """Until the threads of the worker before slept."""
    phases: dict[str, float] = field(default_factory=dict)

    def add(self, phases: Mapping[str, float]) -> None:
        """The phases of a worker that has ended."""
        for name, seconds in phases.items():
            self.phases[name] = self.phases.get(name, 0.0) + seconds


@dataclass
class Block:
    """How a block is measured; ``measure`` may be called again and again."""

    open_worker: Callable[[Row], Child]
    request: Callable[[Row], dict[str, Any]]
    timeout: float
    slices: int
    timing: Timing
    too_large: dict[tuple[str, str], int] = field(default_factory=dict)
    """By row name and task: the batch size at which memory ended. Larger ones are not tried again."""

    def measure(
        self, rows: Sequence[Row], figures: Sequence[FigurePlan], says: Callable[[str], None]
    ) -> dict[str, dict[str, Any] | WorkerError]:
        """By row name: what its worker measured, or why it did not."""
        with ExitStack() as stack:
            turns = _Turns(self, stack, says)
            turns.prepare(rows)
            for figure in figures:
                turns.figure(figure)
            return turns.finish()


@dataclass
class _Live:
    """A worker that is alive, and what is known of it."""

    row: Row
    child: Child
    watch: Watch
    cpus: int
    prepared: dict[str, Any] = field(default_factory=dict)
    figures: list[tuple[FigurePlan, dict[str, Any]]] = field(default_factory=list)
    fastest: Noise = field(default_factory=Noise)
    gpu_pids: frozenset[int] = frozenset()
    gpu_growth: int = 0

    def ask(self, command: str, timeout: float, **content: Any) -> dict[str, Any]:
        """As ``Child.ask``; on a GPU the growth of the board's use during our own turns is ours."""
        if self.row.gpu_uuid is None:
            return self.child.ask(command, timeout, **content)
        before = nvml.used_memory(self.row.gpu_uuid)
        answer = self.child.ask(command, timeout, **content)
        after = nvml.used_memory(self.row.gpu_uuid)
        self.gpu_growth += (after or 0) - (before or 0)
        return answer


class _Turns:
    """The live workers of one block."""

    def __init__(self, block: Block, stack: ExitStack, says: Callable[[str], None]) -> None:
        self._block, self._stack, self._says = block, stack, says
        self._live: list[_Live] = []
        self._ended: dict[str, dict[str, Any] | WorkerError] = {}
        self._last: Child | None = None
        self._turn = 0

    def prepare(self, rows: Sequence[Row]) -> None:
        """Spawn and make ready, one after the other."""
        for row in rows:
            self._says(row.name)
            self._wait_asleep(None)
            try:
                self._live.append(self._prepared(row))
            except WorkerError as error:
                self._ended[row.name] = error
        for live in self._live:
            live.prepared["alive_with"] = [other.row.name for other in self._live if other is not live]

    def _prepared(self, row: Row) -> _Live:
        pids = frozenset() if row.gpu_uuid is None else nvml.pids(row.gpu_uuid)
        child = self._stack.enter_context(self._block.open_worker(row))
        cpus = tuple(row.job.cpus or available_cpus())
        live = _Live(row, child, Watch(child.pid, cpus, row.gpu_uuid), len(cpus))
        self._last = child
        live.prepared = live.ask("prepare", self._block.timeout, **self._block.request(row))
        if row.gpu_uuid is not None:
            live.gpu_pids = nvml.pids(row.gpu_uuid) - pids
        return live

    def figure(self, figure: FigurePlan) -> None:
        """Warm up and time one figure in all workers that can do it."""
        able = [live for live in self._live if figure.task in live.row.tasks and self._fits(live, figure)]
        if able:
            self._says(f"{figure.task} {figure.name} {figure.boundary}")
        for live in able:
            self._guarded(live, self._warm_up, figure)
        able = [live for live in able if live in self._live and "out_of_memory" not in live.figures[-1][1]]
        for turn in range(2 * self._block.slices):  # as many again, for those that were disturbed
            order = able if turn % 2 == 0 else list(reversed(able))
            for live in order:
                if live in self._live and _clean(live, figure) < self._block.slices:
                    self._turn = turn
                    self._guarded(live, self._slice, figure)

    def _fits(self, live: _Live, figure: FigurePlan) -> bool:
        """Whether memory has not ended at this batch size or a smaller one before."""
        limit = self._block.too_large.get((live.row.name, figure.task))
        if limit is None or figure.batch_size < limit:
            return True
        live.figures.append((figure, {"out_of_memory": f"batch {limit} did not fit into memory"}))
        return False

    def _ends_memory(self, live: _Live, figure: FigurePlan) -> bool:
        """Whether a smaller batch of this task has fitted: then memory ends here, and the row goes on without."""
        smaller = any(f.task == figure.task and f.batch_size < figure.batch_size for f, _ in live.figures)
        if smaller:
            self._block.too_large[live.row.name, figure.task] = figure.batch_size
        return smaller

    def finish(self) -> dict[str, dict[str, Any] | WorkerError]:
        """The last words of all workers."""
        for live in list(self._live):
            self._guarded(live, self._finish, None)
        return self._ended

    def _guarded(self, live: _Live, job: Callable[[_Live, Any], None], figure: FigurePlan | None) -> None:
        try:
            job(live, figure)
        except WorkerError as error:
            if error.status == "out-of-memory" and figure is not None:
                self._ends_memory(live, figure)
            self._drop(live, error)
        except (KeyError, TypeError, AttributeError) as error:
            reason = f"the worker's answer does not hold: {type(error).__name__}: {error}"
            self._drop(live, WorkerError("failed", reason))

    def _drop(self, live: _Live, error: WorkerError) -> None:
        live.child.kill()
        self._live.remove(live)
        self._ended[live.row.name] = error

    def _warm_up(self, live: _Live, figure: FigurePlan) -> None:
        self._wait_asleep(live.child)
        warm_up = live.ask("warm_up", self._block.timeout, figure=figure.to_dict())
        if "out_of_memory" in warm_up:
            if not self._ends_memory(live, figure):
                raise WorkerError("out-of-memory", warm_up["out_of_memory"])
            live.figures.append((figure, warm_up))
            return
        live.figures.append((figure, {"warm_up": warm_up, "slices": []}))

    def _slice(self, live: _Live, figure: FigurePlan) -> None:
        measured = live.figures[-1][1]
        seconds = slice_seconds(measured["warm_up"]["step_seconds"])
        timeout, timing = self._block.timeout + seconds, self._block.timing
        asleep = self._wait_asleep(live.child)
        before = live.watch.read()
        begin, cpu = time.perf_counter(), time.process_time()
        timed = live.child.ask("slice", timeout, figure=figure.to_dict(), seconds=seconds)
        timing.timed += time.perf_counter() - begin
        timing.parent_cpu_while_timed += time.process_time() - cpu
        noise = live.watch.since(before, asleep, timed.pop("own"))
        live.fastest = _fastest(live.fastest, noise)
        why = reasons(noise, timed["elapsed"], live.cpus, live.fastest)
        measured["slices"].append({**timed, "turn": self._turn, "noise": noise.to_dict(), "reasons": why})

    def _finish(self, live: _Live, _: Any) -> None:
        device_memory = _device_memory(live)
        finished = live.ask("finish", self._block.timeout)
        self._ended[live.row.name] = {
            "prepared": live.prepared,
            "figures": live.figures,
            "finished": finished,
            **device_memory,
        }

    def _wait_asleep(self, coming: Child | None) -> bool | None:
        """Until the worker that ran last sleeps, if another one comes."""
        last, self._last = self._last, coming or self._last
        if last is None or last is coming:
            return True
        begin = time.perf_counter()
        asleep = last.wait_asleep(ASLEEP_SECONDS)
        self._block.timing.asleep_wait += time.perf_counter() - begin
        return asleep


def _clean(live: _Live, figure: FigurePlan) -> int:
    """Slices of the present figure that nothing disturbed, as far as can be seen."""
    planned, measured = live.figures[-1]
    assert planned == figure
    return sum(not piece["reasons"] for piece in measured["slices"])


def _fastest(so_far: Noise, noise: Noise) -> Noise:
    """The highest clocks of both."""
    clocks = {
        name: max((value for value in (getattr(so_far, name), getattr(noise, name)) if value is not None), default=None)
        for name in ("frequency", "gpu_clock")
    }
    return replace(so_far, **clocks)


def _device_memory(live: _Live) -> dict[str, Any]:
    """What the worker holds on its GPU after the last slice (allocators keep what they reached), and how that was
    found."""
    if live.row.gpu_uuid is None:
        return {"device_memory": None, "device_memory_method": "this row runs on the CPU"}
    used, method = nvml.process_memory(live.row.gpu_uuid, live.child.pid, live.gpu_pids, live.gpu_growth)
    return {"device_memory": used, "device_memory_method": method}


def alive_together(
    rows: Sequence[Row], held: Mapping[str, int], available: int, gpu_available: Mapping[str, int]
) -> Iterator[list[Row]]:
    """Rows in groups that fit into memory together: ``held`` are bytes by row name, seen of earlier workers of the
    row (host memory under its name, GPU memory under ``name@uuid``)."""
    group: list[Row] = []
    left, gpu_left = MEMORY_SHARE * available, {uuid: MEMORY_SHARE * free for uuid, free in gpu_available.items()}
    host, boards = left, dict(gpu_left)
    for row in rows:
        needs, uuid = held.get(row.name, 0), row.gpu_uuid
        gpu_needs = held.get(f"{row.name}@{uuid}", 0)
        if group and (needs > host or (uuid is not None and gpu_needs > boards.get(uuid, 0))):
            yield group
            group, host, boards = [], left, dict(gpu_left)
        group.append(row)
        host -= needs
        if uuid is not None:
            boards[uuid] = boards.get(uuid, 0) - gpu_needs
    if group:
        yield group

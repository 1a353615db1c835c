"""Turns of live workers: order, waiting for the last worker, repeated slices, failures; grouping by memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from worker_replies import finished, row

from bench.machine.slice_noise import Noise
from bench.runner import interleaving
from bench.runner.interleaving import MOST_ALIVE, Block, alive_together
from bench.runner.plan import Row
from bench.runner.worker_process import WorkerError
from bench.runner.workspace import Timing
from bench.worker.protocol import (
    KeptOutputs,
    Prepare,
    Prepared,
    ReadKept,
    Renew,
    Renewed,
    Request,
    TimedMetric,
    TimedSlice,
    TimeSlice,
    WarmedUp,
    WarmUp,
    Work,
    command_of,
)

THROUGHPUT = TimedMetric("throughput", "infer", 8, "device")
TRAINING = TimedMetric("throughput", "train", 8, "device")


ANSWERS = {
    "prepare": Prepared(first_call=0.1, cold_start=1.0),
    "warm_up": WarmedUp(steps=10, steady=True, step_seconds=0.01),
    "slice": TimedSlice(seconds=0.1, images=80, latencies=None, counters={"switches": 1}, elapsed=0.1, ready=0.0),
    "renew": Renewed(batches=4),
    "read_kept": KeptOutputs(steps=(1,), batches=(1,), count=4, values=(((0.5,),),), seconds=(1e-5,)),
    "finish": finished(),
}


class FakeWorker:
    """Appends every event to a list that all workers of a test share."""

    def __init__(self, name: str, events: list[str], fails_at: str | None = None) -> None:
        self.pid, self.name, self.events, self.fails_at, self.killed = 0, name, events, fails_at, False

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.killed = True

    def kill(self) -> None:
        self.killed = True

    def wait_asleep(self, timeout: float) -> bool:
        self.events.append(f"{self.name} asleep")
        return True

    def throttled(self) -> None:
        """It has no quota of CPU time."""

    def ask(self, request: Request[Any], timeout: float) -> Any:
        command = command_of(request)
        self.events.append(f"{self.name} {command}")
        if command == self.fails_at:
            raise WorkerError("crashed", "it is gone")
        return ANSWERS[command]


class FakeWatch:
    """Returns the noise that a test puts into the queue; a quiet reading if the queue is empty."""

    queue: list[Noise] = []  # noqa: RUF012

    def __init__(self, *_: Any) -> None:
        pass

    def read(self) -> None:
        pass

    def since(self, before: None, asleep: bool | None, counters: dict[str, int]) -> Noise:
        return self.queue.pop(0) if self.queue else Noise(others=0.0, ran=0.1, waited=0.0, asleep=asleep, **counters)


BUSY = Noise(others=0.5, ran=0.1, waited=0.0)


@pytest.fixture(autouse=True)
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeWatch]]:
    monkeypatch.setattr(interleaving, "Watch", FakeWatch)
    FakeWatch.queue = []
    yield FakeWatch
    FakeWatch.queue = []


def one(name: str, **changes: Any) -> Row:
    made = row(name)
    return replace(made, name=name, job=replace(made.job, cpus=(0,)), **changes)


def id_of(name: str) -> str:
    return one(name).id


def measure(
    rows: list[Row], metrics: list[TimedMetric], slices: int = 3, **fails: str
) -> tuple[dict[str, Any], list[str]]:
    """Outcomes by row name, and all events in order."""
    events: list[str] = []
    workers = {r.id: FakeWorker(r.name, events, fails.get(r.name)) for r in rows}
    prepare = Prepare(work=Work(job=rows[0].job, model=None, recipe={}, data=Path()))
    block = Block(lambda r: workers[r.id], lambda r: prepare, 60.0, lambda metric: slices, Timing())  # type: ignore[arg-type,return-value]
    outcomes = block.measure(rows, metrics, lambda part: None)
    assert all(worker.killed for worker in workers.values())
    return {r.name: outcomes[r.id] for r in rows}, events


@pytest.mark.parametrize(("quota", "longer"), [(None, False), (1.5, True)])
def test_under_a_quota_a_slice_lasts_several_of_its_periods(quota: float | None, longer: bool) -> None:
    asked: list[float] = []

    class Worker(FakeWorker):
        def ask(self, request: Request[Any], timeout: float) -> Any:
            if isinstance(request, TimeSlice):
                asked.append(request.seconds)
            return super().ask(request, timeout)

    measured = one("a")
    measured = replace(measured, job=replace(measured.job, cpu_quota=quota))
    prepare = Prepare(work=Work(job=measured.job, model=None, recipe={}, data=Path()))
    block = Block(lambda r: Worker("a", []), lambda r: prepare, 60.0, lambda metric: 2, Timing())  # type: ignore[arg-type,return-value]
    block.measure([measured], [THROUGHPUT], lambda part: None)
    assert len(asked) == 2
    assert (min(asked) >= 1.0) is longer


def test_an_input_pipeline_reads_new_files_in_long_slices_and_its_batches_are_judged_at_once() -> None:
    events: list[str] = []
    pipeline = TimedMetric("input_throughput", "input", 8, "end-to-end")
    lasted: list[float] = []

    class Worker(FakeWorker):
        def ask(self, request: Request[Any], timeout: float) -> Any:
            answer = super().ask(request, timeout)
            if isinstance(request, TimeSlice):
                lasted.append(request.seconds)
                return replace(answer, stalled=0.03, halves=1.5)
            return replace(answer, step_seconds=0.2) if isinstance(request, WarmUp) else answer

    measured = one("a", tasks=frozenset({"input"}))
    prepare = Prepare(work=Work(job=measured.job, model=None, recipe={}, data=Path()))
    block = Block(
        lambda r: Worker("a", events), lambda r: prepare, 60.0, lambda metric: 2, Timing(),  # type: ignore[arg-type,return-value]
        read_kept=lambda row, metric: ReadKept(rows=(0,)),
        renew_files=lambda: events.append("files"),
        batch_error=lambda kept, metric: 0.5,
    )  # fmt: skip
    (readings,) = block.measure([measured], [pipeline], lambda part: None)[measured.id].metrics  # type: ignore[union-attr]
    assert [one.batch_error for one in readings.slices] == [0.5, 0.5]
    assert {(one.noise.stalled, one.noise.halves) for one in readings.slices} == {(0.03, 1.5)}
    assert lasted == [1.6, 1.6], "eight steps"
    asked = [event for event in events if event == "files" or event in ("a renew", "a slice")]
    assert asked == ["files", "a renew", "a slice"] * 2


def test_other_metrics_read_no_files() -> None:
    renewed: list[int] = []
    measured = one("a")
    prepare = Prepare(work=Work(job=measured.job, model=None, recipe={}, data=Path()))
    block = Block(
        lambda r: FakeWorker("a", []), lambda r: prepare, 60.0, lambda metric: 2, Timing(),  # type: ignore[arg-type,return-value]
        renew_files=lambda: renewed.append(1),
    )  # fmt: skip
    block.measure([measured], [THROUGHPUT], lambda part: None)
    assert renewed == []


def test_inputs_are_renewed_before_the_clock_and_outputs_read_after_it() -> None:
    events: list[str] = []
    worker = FakeWorker("a", events)
    seeds = set()

    def ask(request: Request[Any], timeout: float) -> Any:
        if isinstance(request, Renew):
            seeds.add((request.seed, request.keep))
        return FakeWorker.ask(worker, request, timeout)

    worker.ask = ask  # type: ignore[method-assign]
    prepare = Prepare(work=Work(job=one("a").job, model=None, recipe={}, data=Path()))
    asked = lambda row, metric: ReadKept(rows=(0, 7))  # noqa: E731
    block = Block(lambda r: worker, lambda r: prepare, 60.0, lambda metric: 3, Timing(), {}, asked)  # type: ignore[arg-type,return-value]
    outcome = block.measure([one("a")], [THROUGHPUT], lambda part: None)[id_of("a")]
    around = [event.split()[1] for event in events if event.split()[1] in ("renew", "slice", "read_kept")]
    assert around == 3 * ["renew", "slice", "read_kept"]
    assert len(seeds) == 3, "every slice has its own"
    kept = [reading.kept for reading in outcome.metrics[0].slices]
    assert {each.seed for each in kept} == {seed for seed, _ in seeds}
    assert {each.asked.rows for each in kept} == {(0, 7)}
    assert outcome.metrics[0].slices[0].noise.read == 1e-5
    assert outcome.metrics[0].slices[0].noise.step == 0.01


def test_a_step_that_cannot_be_ends_the_row_before_it_is_timed() -> None:
    events: list[str] = []
    worker = FakeWorker("a", events)
    prepare = Prepare(work=Work(job=one("a").job, model=None, recipe={}, data=Path()))
    impossible = lambda row, metric, seconds: f"impossible: {seconds:g} s"  # noqa: E731
    settings: Any = (
        lambda r: worker,
        lambda r: prepare,
        60.0,
        lambda metric: 3,
        Timing(),
        {},
        lambda metric: (),
        impossible,
    )
    outcome = Block(*settings).measure([one("a")], [THROUGHPUT], lambda part: None)[id_of("a")]
    assert isinstance(outcome, WorkerError)
    assert (outcome.status, outcome.reason) == ("failed", "impossible: 0.01 s")
    assert not [event for event in events if event.endswith("slice")]


def test_a_worker_that_waits_in_its_warm_up_only_is_refused_by_its_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its warm-up says 0.01 s for a step, its slices 0.1 s for 800 images in steps of 8: 0.001 s."""
    monkeypatch.setitem(ANSWERS, "slice", replace(ANSWERS["slice"], images=800))
    worker = FakeWorker("a", [])
    prepare = Prepare(work=Work(job=one("a").job, model=None, recipe={}, data=Path()))
    block = Block(lambda r: worker, lambda r: prepare, 60.0, lambda metric: 3, Timing())  # type: ignore[arg-type, return-value]
    block.why_impossible = lambda row, metric, seconds: f"impossible: {seconds:g} s" if seconds < 0.005 else ""
    outcome = block.measure([one("a")], [THROUGHPUT], lambda part: None)[id_of("a")]
    assert isinstance(outcome, WorkerError)
    assert (outcome.status, outcome.reason) == ("failed", "impossible: 0.001 s")


def test_a_peak_that_falls_was_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    falling = iter([{1: 3 * 10**8, 2: 10**8}, {1: 3 * 10**8}, {1: 2 * 10**8}])
    monkeypatch.setattr(interleaving.process_tree, "peaks", lambda pid: next(falling))
    outcomes, _ = measure([one("a")], [THROUGHPUT], slices=3)
    assert outcomes["a"].reason.startswith("self-check peak_memory: the peak of its memory fell from 300,000,000")


def test_the_parent_sees_a_helper_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([{1: 10**8, 2: 10**9}, {1: 10**8}])
    monkeypatch.setattr(interleaving.process_tree, "peaks", lambda pid: next(seen))
    shared = iter([10**7, 0])
    monkeypatch.setattr(interleaving.process_tree, "unmapped_shared", lambda pid: next(shared))
    outcomes, _ = measure([one("a")], [THROUGHPUT], slices=2)
    assert outcomes["a"].finished.peak_rss == {"infer": 1_110_000_000, "train": 200_000_000}


def test_turns_are_in_the_rounds_order_and_back(watch: type[FakeWatch]) -> None:
    outcomes, events = measure([one("a"), one("b"), one("c")], [THROUGHPUT])
    slices = [event[0] for event in events if event.endswith("slice")]
    assert "".join(slices) == "abc" + "cba" + "abc"
    assert [reading.turn for reading in outcomes["b"].metrics[0].slices] == [0, 1, 2]
    assert outcomes["a"].alive_with == (id_of("b"), id_of("c"))


def test_before_another_workers_slice_the_last_one_sleeps() -> None:
    _, events = measure([one("a"), one("b")], [THROUGHPUT])
    last = None
    for i, event in enumerate(events):
        name, what = event.split()
        if what in ("slice", "warm_up", "prepare"):
            if last not in (None, name):
                assert f"{last} asleep" in events[events.index(event) if last is None else max(0, i - 2) : i]
            last = name


def test_inference_of_all_comes_before_training_of_any() -> None:
    _, events = measure([one("a"), one("b", tasks=frozenset({"infer"}))], [THROUGHPUT, TRAINING])
    assert [event for event in events if event.endswith("warm_up")] == ["a warm_up", "b warm_up", "a warm_up"]


def test_disturbed_slices_are_measured_again_and_all_are_kept(watch: type[FakeWatch]) -> None:
    watch.queue = [BUSY, BUSY]
    outcomes, _ = measure([one("a")], [THROUGHPUT])
    slices = outcomes["a"].metrics[0].slices
    assert [bool(reading.reasons) for reading in slices] == [True, True, False, False, False]
    assert "other processes used" in slices[0].reasons[0]


def test_measuring_again_is_bounded(watch: type[FakeWatch]) -> None:
    watch.queue = [BUSY] * 100
    outcomes, _ = measure([one("a"), one("b")], [THROUGHPUT])
    assert [len(outcomes[name].metrics[0].slices) for name in "ab"] == [6, 6]


@pytest.mark.parametrize("command", ["prepare", "warm_up", "slice", "finish"])
def test_a_worker_that_fails_costs_only_itself(command: str) -> None:
    outcomes, _ = measure([one("a"), one("b")], [THROUGHPUT], b=command)
    assert isinstance(outcomes["b"], WorkerError)
    assert len(outcomes["a"].metrics[0].slices) == 3


@contextmanager
def clocks(values: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(interleaving.nvml, "used_memory", lambda uuid: values.pop(0) if values else 900)
    monkeypatch.setattr(interleaving.nvml, "pids", lambda uuid: frozenset())
    yield


def test_growth_of_the_board_counts_in_a_workers_own_turns_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, frozenset[int], int]] = []

    def process_memory(uuid: str, pid: int, new_pids: frozenset[int], growth: int) -> tuple[int, str]:
        seen.append((pid, new_pids, growth))
        return growth, "growth"

    monkeypatch.setattr(interleaving.nvml, "process_memory", process_memory)
    # before and after: prepare of a (+100), of b (+200), warm-up of a (+5), of b (+7)
    with clocks([0, 100, 100, 300, 300, 305, 305, 312], monkeypatch):
        outcomes, _ = measure([one("a", gpu_uuid="GPU-0"), one("b", gpu_uuid="GPU-0")], [THROUGHPUT])
    assert (outcomes["a"].device_memory.bytes, outcomes["b"].device_memory.bytes) == (105, 207)


def test_rows_are_alive_together_if_they_fit_into_memory() -> None:
    rows = [one(name) for name in "abcd"]
    held = {id_of("a"): 30, id_of("b"): 30, id_of("c"): 30, id_of("d"): 500}
    names = [[r.name for r in group] for group in alive_together(rows, held, 100, {})]
    assert names == [["a", "b"], ["c"], ["d"]], "70 of 100 bytes may be used; a row that fits nowhere runs alone"
    assert len(list(alive_together(rows, {}, 0, {}))) == 1, "a row of unknown size fits"
    many = [row("a")] * (2 * MOST_ALIVE + 1)
    assert [len(group) for group in alive_together(many, {}, 0, {})] == [MOST_ALIVE, MOST_ALIVE, 1]


def test_the_memory_of_each_gpu_is_shared_by_its_rows() -> None:
    rows = [one("a", gpu_uuid="x"), one("b", gpu_uuid="y"), one("c", gpu_uuid="x"), one("d")]
    held = {f"{id_of(name)}@{board}": 60 for name, board in ("ax", "by", "cx")}
    names = [[r.name for r in group] for group in alive_together(rows, held, 10**9, {"x": 100, "y": 100})]
    assert names == [["a", "b"], ["c", "d"]]


def test_a_warm_step_is_not_warmed_up_at_the_other_boundary_nor_in_the_next_process() -> None:
    cuts: list[tuple[str, int | None]] = []
    worker = FakeWorker("a", [])

    def ask(request: Request[Any], timeout: float) -> Any:
        if isinstance(request, WarmUp):
            cuts.append((request.metric.boundary, request.cut))
            return WarmedUp(steps=20, steady=True, step_seconds=0.01, cut=6)
        return FakeWorker.ask(worker, request, timeout)

    worker.ask = ask  # type: ignore[method-assign]
    prepare = Prepare(work=Work(job=one("a").job, model=None, recipe={}, data=Path()))
    block = Block(lambda r: worker, lambda r: prepare, 60.0, lambda metric: 1, Timing())  # type: ignore[arg-type,return-value]
    both = [replace(THROUGHPUT, boundary="end-to-end"), replace(THROUGHPUT, boundary="device")]
    for _ in range(2):
        block.measure([one("a")], both, lambda part: None)
    assert cuts == [("end-to-end", None), ("device", 0), ("end-to-end", 6), ("device", 0)]
    assert set(block.slice_seconds) == set(both)

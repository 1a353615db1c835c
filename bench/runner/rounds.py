"""Interleaved rounds: a fresh worker per row and round; the workers of a round are alive together and take turns."""

from __future__ import annotations

import math
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import backends
from backends.model import ModelSpec
from bench.analysis.ratios import round_ratio, widest, with_ratios
from bench.machine import allocators, nvml
from bench.machine.host import available_memory
from bench.records.record import Sample
from bench.runner import page_faults, roof
from bench.runner.budget import (
    MOST_ROUNDS,
    ROW_SECONDS,
    USUAL_SLICES,
    RoundCost,
    mean_cost,
    rounds_left,
    slices_of_round,
)
from bench.runner.interleaving import (
    MEMORY_SHARE,
    MOST_ALIVE,
    Block,
    Kept,
    MeasuredRound,
    MetricReadings,
    Turns,
    alive_together,
)
from bench.runner.judges import timed_batches, timed_file, timed_outputs, timed_training
from bench.runner.judges.file_certificate import allowed_of_file
from bench.runner.judges.result import Result
from bench.runner.judges.timed_outputs import rows_asked
from bench.runner.load_turns import LoadTurns
from bench.runner.plan import Row
from bench.runner.record_builder import sample, throughput
from bench.runner.results import Results
from bench.runner.worker_process import WorkerError
from bench.runner.workspace import Workspace
from bench.values import Missing
from bench.worker.group import processes_of, rank_folder
from bench.worker.protocol import Close, Closed, ReadKept, Recompute, TimedMetric, WarmedUp

ROUNDS_JUDGED, LATER_JUDGED = 3, 4
"""What was timed is judged in so many rounds of a row, and in one of so many later ones, drawn: a gate has many."""
LATE_SHARE = 0.1
"""A budget that is overrun by less is none to speak of."""
ARENA_PAIRS = 3
"""Pairs of processes with and without the arena settings."""
STARTING, PAIR_SECONDS = ("spawn", "import", "build", "first_call"), 0.8
"""The phases of a worker before it is timed, and what its warm-up and slices of one metric take."""


@dataclass
class Rounds:
    """The rounds of a plan: at least ``plan.rounds``, and more until its precision target is reached or its budget is
    spent.

    ``began``: monotonic time at which the run began, for its budget.
    """

    workspace: Workspace
    results: Results
    began: float
    slices: dict[TimedMetric, int] = field(default_factory=dict)
    """By metric, where the profile's number is not the one."""
    _too_large: dict[tuple[str, str], int] = field(default_factory=dict)
    _cuts: dict[tuple[str, TimedMetric], int] = field(default_factory=dict)
    _closings: dict[str, TimedMetric | None] = field(default_factory=dict)
    """By row id: the metric of its living worker that closing steps follow."""

    def run_all(self) -> None:
        """Measure all rounds, then try the arena allocator settings on rows that page faults slow down."""
        plan = self.results.plan
        if plan.budget is None:
            while (missing := self.results.rounds_missing()) > 0:
                number = len(self.results.schedule)
                self._measure_round(number, number + missing)
        else:
            self._fill(plan.budget)
        if plan.budget is not None and not plan.request.placement.profile.fixed:
            self.slices = dict.fromkeys(plan.metrics, USUAL_SLICES)
        self._try_arena()

    def _fill(self, budget: float) -> None:
        """Measure rounds until the budget is spent, or the precision target is reached."""
        plan = self.results.plan
        profile, costs = plan.request.placement.profile, list[RoundCost]()
        fewest = len(self.results.schedule) + self.results.rounds_missing()
        usual = dict.fromkeys(plan.metrics, profile.slices if profile.fixed else USUAL_SLICES)
        coming, self.slices = fewest, usual
        deadline = self.began + budget
        if plan.request.budget is None:  # a long training leaves the rounds their time
            deadline = max(deadline, time.monotonic() + ROW_SECONDS * len(plan.order(0)))
        while any(self.results[row].status == "ok" for row in plan.order(0)):
            number = len(self.results.schedule)
            if number >= fewest and time.monotonic() >= deadline:
                return
            if costs:
                cost = mean_cost(costs[1:] or costs)  # the first round warms up at length
                left = deadline - time.monotonic() - self._reserve()
                coming = rounds_left(cost, usual, left, fewest - number, max(fewest, MOST_ROUNDS) - number)
                if coming <= 0 or (number >= fewest and self._is_precise()):
                    return
                if not profile.fixed:
                    self.slices = slices_of_round(cost, left / coming, self._spreads())
                late = coming * cost.of(self.slices) - left
                if number == 2 and late > LATE_SHARE * budget:
                    text = f"{fewest} rounds end about {late:.0f} s after the budget of {budget:.0f} s"
                    print(f"note: {text}; --rounds N measures fewer, --budget allows more", file=sys.stderr, flush=True)
            begin = time.monotonic()
            slice_seconds = self._measure_round(number, number + coming)
            in_slices = math.fsum(each * self.slices[metric] for metric, each in slice_seconds.items())
            costs.append(RoundCost(max(0.0, time.monotonic() - begin - in_slices), slice_seconds))

    def _is_precise(self) -> bool:
        target = self.results.plan.request.precision_target
        widest_ratio = None if target is None else widest(with_ratios(self.results.records()))
        return target is not None and (widest_ratio is None or widest_ratio[0] <= target)

    def _spreads(self) -> dict[TimedMetric, float]:
        """Standard deviation of the logarithm of a slice's step time within a process, over all rows, by metric."""
        variances: dict[TimedMetric, list[float]] = {}
        for row in self.results.plan.order(0):
            for measured in self.results[row].rounds.values():
                for readings in measured.metrics:
                    steps = [one.timed.seconds / one.timed.images for one in readings.slices if not one.reasons]
                    if len(steps) > 1:
                        variances.setdefault(readings.metric, []).append(statistics.variance(map(math.log, steps)))
        return {metric: math.sqrt(statistics.fmean(values)) for metric, values in variances.items()}

    def block(self, kind: str) -> Block:
        """The settings of a block; ``kind`` names the logs of its workers."""
        request = self.results.plan.request
        return Block(
            lambda row: self.workspace.spawn(row, kind),
            self.workspace.prepare,
            request.timeout,
            lambda metric: self.slices.get(metric, request.placement.profile.slices),
            self.workspace.timing,
            self._too_large,
            self._read_kept,
            self._why_impossible,
            self.workspace.damage,
            self._closing,
            self._cuts,
            self._load,
            self.workspace.renew_files,
            self._batch_error,
        )

    def _batch_error(self, kept: Kept, metric: TimedMetric) -> float | None:
        files, recipe = self.workspace.pictures, self.results.plan.request.workload.recipe
        if metric.task != "input" or files is None:
            return None
        with self.workspace.timing.judges(timed_batches.NAME):
            return timed_batches.error(kept, files, metric.batch_size, recipe)

    @property
    def _load(self) -> Callable[[Turns], None] | None:
        request = self.results.plan.request
        if request.load is None or not isinstance(request.workload.model, ModelSpec):
            return None
        return LoadTurns(request.load, request.workload.model, request.timeout, self.workspace.folder).measure

    def _closing(self, row: Row, metric: TimedMetric) -> Close | None:
        judge = self.workspace.timed_training
        if judge is None or not metric.trains:
            return None
        if row.id not in self._closings:
            self._closings[row.id] = self._draw_closing(row)
        if metric != self._closings[row.id]:
            return None
        seed = secrets.randbits(32)
        size = timed_training.images_of_a_step(judge.model, metric.batch_size)
        out = self.workspace.folder(row) / f"closing-{seed}.npz"
        return Close(seed=seed, rate=judge.rate, size=size, steps=timed_training.STEPS, out=out)

    def _draw_closing(self, row: Row) -> TimedMetric | None:
        """The training metric of this worker that closing steps follow; None: none."""
        judged = len(self.results[row].rounds) < ROUNDS_JUDGED or secrets.randbelow(LATER_JUDGED) == 0
        metrics = [metric for metric in self.results.plan.metrics if metric.trains]
        return secrets.choice(metrics) if judged and metrics else None

    def _why_impossible(self, row: Row, metric: TimedMetric, seconds: float) -> str:
        model = self.results.plan.request.workload.model
        return roof.why_impossible(model, row.job, metric, seconds) if isinstance(model, ModelSpec) else ""

    def _read_kept(self, row: Row, metric: TimedMetric) -> ReadKept | None:
        """What is asked for of a slice's outputs."""
        if metric.task == "train":
            return None
        if metric.task == "input":
            files = self.workspace.pictures
            assert files is not None
            count = timed_batches.rows_asked(metric.batch_size, files.pixels[0].size)
            return ReadKept(rows=tuple(sorted(secrets.SystemRandom().sample(range(metric.batch_size), count))))
        if row.file is not None:
            return ReadKept(elements=secrets.randbits(32)) if self.results[row].repeats else None
        judge = self.workspace.timed_outputs
        return None if judge is None else ReadKept(rows=rows_asked(judge.model, metric.batch_size))

    def keep(self, row: Row, outcome: MeasuredRound | WorkerError) -> None:
        """Add a worker's measurements to its row's result; an error ends the row."""
        result = self.results[row]
        self._closings.pop(row.id, None)
        if isinstance(outcome, WorkerError):
            result.fail(outcome.status, outcome.reason, outcome.log)
        else:
            self.workspace.keep_report(row, outcome.finished.report)
            result.rounds.keep(len(self.results.schedule) - 1, outcome)
            closings = [
                (*readings.closing, earlier) for readings, earlier in _with_earlier_steps(outcome) if readings.closing
            ]
            if closings or len(result.rounds) <= ROUNDS_JUDGED or secrets.randbelow(LATER_JUDGED) == 0:
                try:
                    result.timed += self._judge(row, outcome, closings)
                except WorkerError as error:
                    result.fail(error.status, f"what it timed cannot be judged: {error.reason}", error.log)
            for request, _, _ in closings:
                for rank in range(processes_of(row.job)):
                    self.workspace.discard(rank_folder(request.out.parent, rank) / request.out.name)

    def _judge(self, row: Row, outcome: MeasuredRound, closings: list[tuple[Close, Closed, int]]) -> list[Result]:
        """The checks of what was timed."""
        checks, outputs, training = list[Result](), self.workspace.timed_outputs, self.workspace.timed_training
        if row.file is not None:
            checks += self._judge_file(row, outcome)
        if outputs is not None:
            with self.workspace.timing.judges(timed_outputs.NAME):
                verdict = outputs.judge(row, (row.source or row).fit_id, outcome)
            checks += [] if isinstance(verdict, Missing) else [verdict]
        batches = timed_batches.judge(outcome)
        checks += [] if isinstance(batches, Missing) else [batches]
        if training is not None and closings:
            with self.workspace.timing.judges(timed_training.NAME):
                checks.append(training.judge(row.job, *secrets.choice(closings)))
        return checks

    def _judge_file(self, row: Row, outcome: MeasuredRound) -> list[Result]:
        found = timed_file.timed(outcome)
        if not found:
            return []
        drawn = tuple(drawn for drawn, _, _ in found)
        request = Recompute(work=self.workspace.work(row), drawn=drawn, seconds=timed_file.SECONDS)
        with self.workspace.timing.judges(timed_outputs.NAME):
            recomputed = self.workspace.ask_fresh_worker(row, "recompute", request)
        allowed = allowed_of_file(backends.describe(row.job.backend), row.job)
        result = timed_file.judge(found, recomputed, allowed)
        return [] if result is None else [result]

    def _measure_round(self, number: int, total: int) -> dict[TimedMetric, float]:
        """Measure a block of all rows that are still ok; it counts for a row only if its worker finished. ``total``:
        the expected number of rounds. The seconds of one slice of every row, by metric."""
        plan = self.results.plan
        order = plan.order(number)
        self.results.schedule.append([row.id for row in order])
        rows = [row for row in order if self.results[row].status == "ok"]
        boards = {row.gpu_uuid: nvml.free_memory(row.gpu_uuid) or 0 for row in rows if row.gpu_uuid is not None}
        self.results.expect_rounds(total - number)
        seconds: dict[TimedMetric, float] = {}
        rows, available = self._that_fit(rows)
        for group in alive_together(rows, self.workspace.held_bytes, available, boards):
            self._keep_group(self._measure_group(group, f"measure {number + 1}/{total}", seconds), group)
        self.results.report(rows)
        self.results.done += len(order)
        return seconds

    def _keep_group(self, outcomes: dict[str, MeasuredRound | WorkerError], group: Sequence[Row]) -> None:
        for row in group:
            self.keep(row, outcomes[row.id])
            changed = self.results[row].changed_versions()
            if changed and not self.results.allow_changes:
                self.results[row].fail("failed", f"changed during the run: {changed}")

    def _that_fit(self, rows: Sequence[Row]) -> tuple[list[Row], int]:
        """The rows whose workers fit into the memory that is free, and its bytes; the others end. Before the first
        round, what all rows need together is said if that is too much."""
        held, free = self.workspace.held_bytes, available_memory()
        for row in rows:
            if held.get(row.id, 0) > free:
                needs = f"a worker of it held {held[row.id] / 1e9:.2g} GB, {free / 1e9:.2g} GB are free"
                self.results[row].fail("out-of-memory", f"not started: {needs}")
        fitting = [row for row in rows if self.results[row].status == "ok"]
        needed = sum(held.get(row.id, 0) for row in fitting)
        text = ""
        if needed > MEMORY_SHARE * free:
            text = f"all rows together need {needed / 1e9:.2g} GB, {free / 1e9:.2g} GB of memory are free"
        elif len(fitting) > MOST_ALIVE:
            text = f"at most {MOST_ALIVE} of {len(fitting)} rows are alive together"
        if text and len(self.results.schedule) == 1:
            print(f"note: {text}: they take turns in groups, ratios are within a group", file=sys.stderr, flush=True)
        return fitting, free

    def _measure_group(
        self, group: Sequence[Row], what: str, seconds: dict[TimedMetric, float]
    ) -> dict[str, MeasuredRound | WorkerError]:
        """Measure a block of these rows. A row whose worker died at a batch size is measured again without it. What a
        slice of every row costs is added to ``seconds``."""
        block, plan = self.block(what), self.results.plan
        outcomes: dict[str, MeasuredRound | WorkerError] = {}
        rows: Sequence[Row] = group
        while rows:
            before = dict(self._too_large)
            outcomes |= block.measure(rows, plan.metrics, self.results.announcer(what))
            narrowed = {row_id for (row_id, _), _ in self._too_large.items() - before.items()}
            rows = [row for row in rows if row.id in narrowed and isinstance(outcomes[row.id], WorkerError)]
        for metric, cost in block.slice_seconds.items():
            seconds[metric] = seconds.get(metric, 0.0) + cost
        return outcomes

    def _try_arena(self) -> None:
        """Measure whether glibc's arena settings speed up the rows that page faults slow down."""
        count = min(ARENA_PAIRS, len(self.results.schedule))
        for row in self.results.plan.rows:
            result = self.results[row]
            record = self.results.records([row])
            metric = page_faults.worst_metric(record[0], self.results.plan.metrics) if record else None
            if metric is not None and not result.arena:
                try:
                    pairs = [self._arena_pair(row, metric, number, count) for number in range(count)]
                    result.arena.append((metric, pairs))
                except WorkerError as error:
                    result.arena_error = f"{error.status}: {error.reason}"
                self.results.report([row])

    def _reserve(self) -> float:
        """Seconds that trying the arena allocator settings will take, from what the rows' workers have taken."""
        seconds = 0.0
        for row in self.results.plan.order(0):
            record = self.results.records([row])
            if record and page_faults.worst_metric(record[0], self.results.plan.metrics) is not None:
                last = self.results[row].last_round
                phases = {} if last is None else last.finished.report.phases
                seconds += 2 * ARENA_PAIRS * (PAIR_SECONDS + math.fsum(phases.get(name, 0.0) for name in STARTING))
        return seconds

    def _arena_pair(self, row: Row, metric: TimedMetric, number: int, count: int) -> float:
        """Ratio of the images/s of two workers that take turns: with the arena settings over without."""
        variant = f"--allocator {allocators.ARENA}"
        job = replace(row.job, allocator=allocators.ARENA)
        twin = replace(row, name=f"{row.name} {variant}", variant=variant, job=job)
        what = f"allocator {number + 1}/{count}"
        pair = [row, twin] if number % 2 else [twin, row]
        samples: list[Sample] = []
        block = self.block(what)
        block.closing, block.read_kept = (lambda row, metric: None), (lambda row, metric: None)  # the rounds are judged
        outcomes = block.measure(pair, [metric], self.results.announcer(what))
        for side in (twin, row):
            outcome = outcomes[side.id]
            if isinstance(outcome, WorkerError):
                raise outcome
            samples.append(sample(number, outcome.metrics[0], throughput, keep=True))
        return round_ratio(metric.name, *samples)


def _with_earlier_steps(measured: MeasuredRound) -> Iterator[tuple[MetricReadings, int]]:
    """The metrics of training, and how many updates the worker had made when each of them ended, at least."""
    steps = 0
    for readings in measured.metrics:
        if readings.metric.trains and isinstance(readings.warm_up, WarmedUp):
            images = sum(one.timed.images for one in readings.slices)
            steps += readings.warm_up.steps + images // readings.metric.batch_size
            yield readings, steps

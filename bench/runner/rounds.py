"""Interleaved rounds: a fresh worker per row and round; the workers of a round are alive together and take turns."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from backends.model import ModelSpec
from bench.analysis.ratios import round_ratio, widest, with_ratios
from bench.machine import allocators, nvml
from bench.machine.host import available_memory
from bench.records.record import Sample
from bench.runner import page_faults, roof, timed_training
from bench.runner.interleaving import Block, MeasuredRound, alive_together
from bench.runner.plan import DEFAULT_BUDGET, Row
from bench.runner.record_builder import sample, throughput
from bench.runner.results import Results
from bench.runner.timed_outputs import rows_asked
from bench.runner.worker_process import WorkerError
from bench.runner.workspace import Workspace
from bench.values import Missing
from bench.worker.protocol import CheckResult, Close, Closed, TimedMetric

ROUNDS_JUDGED, LATER_JUDGED = 3, 4
"""What was timed is judged in so many rounds of a row, and in one of so many later ones, drawn: a gate has many."""


@dataclass
class Rounds:
    """The rounds of a plan: at least ``plan.rounds``, and more until its precision target is reached.

    ``began``: monotonic time at which the run began, for its budget.
    """

    workspace: Workspace
    results: Results
    began: float
    _too_large: dict[tuple[str, str], int] = field(default_factory=dict)
    _last_round: float = 0.0
    """Seconds."""

    def run_all(self) -> None:
        """Measure all rounds, then try the arena allocator settings on rows that page faults slow down."""
        plan = self.results.plan
        while len(self.results.schedule) < plan.rounds or self._needs_more_rounds():
            begin = time.monotonic()
            self._measure_round(len(self.results.schedule))
            self._last_round = time.monotonic() - begin
        self._try_arena()

    def block(self, kind: str) -> Block:
        """The settings of a block; ``kind`` names the logs of its workers."""
        request = self.results.plan.request
        return Block(
            lambda row: self.workspace.spawn(row, kind),
            self.workspace.prepare,
            request.timeout,
            request.placement.profile.slices,
            self.workspace.timing,
            self._too_large,
            self._rows_read,
            self._why_impossible,
            self.workspace.damage,
            self._closing,
        )

    def _closing(self, row: Row, metric: TimedMetric) -> Close | None:
        judge = self.workspace.timed_training
        if judge is None or metric.task != "train":
            return None
        seed = secrets.randbits(32)
        size = timed_training.images_of_a_step(judge.model, metric.batch_size)
        out = self.workspace.folder(row) / f"closing-{seed}.npz"
        return Close(seed=seed, rate=judge.rate, size=size, steps=timed_training.STEPS, out=out)

    def _why_impossible(self, row: Row, metric: TimedMetric, seconds: float) -> str:
        model = self.results.plan.request.workload.model
        return roof.why_impossible(model, row.job, metric, seconds) if isinstance(model, ModelSpec) else ""

    def _rows_read(self, metric: TimedMetric) -> tuple[int, ...]:
        judge = self.workspace.timed_outputs
        if judge is None or metric.task == "train":
            return ()
        return rows_asked(judge.model, metric.batch_size)

    def keep(self, row: Row, outcome: MeasuredRound | WorkerError) -> None:
        """Add a worker's measurements to its row's result; an error ends the row."""
        result = self.results[row]
        if isinstance(outcome, WorkerError):
            result.fail(outcome.status, outcome.reason, outcome.log)
        else:
            self.workspace.keep_report(row, outcome.finished.report)
            result.rounds.append(outcome)
            closings = [readings.closing for readings in outcome.metrics if readings.closing is not None]
            if len(result.rounds) <= ROUNDS_JUDGED or secrets.randbelow(LATER_JUDGED) == 0:
                result.timed += self._judge(row, outcome, closings)
            for request, _ in closings:
                self.workspace.discard(request.out)

    def _judge(self, row: Row, outcome: MeasuredRound, closings: list[tuple[Close, Closed]]) -> list[CheckResult]:
        """The checks of what was timed."""
        checks, outputs, training = [], self.workspace.timed_outputs, self.workspace.timed_training
        if outputs is not None:
            verdict = outputs.judge(row, (row.source or row).fit_id, outcome)
            checks += [] if isinstance(verdict, Missing) else [verdict]
        if training is not None and closings:
            checks.append(training.judge(row.job.precision, *secrets.choice(closings)))
        return checks

    def _needs_more_rounds(self) -> bool:
        """Whether the ratios are still wider than the precision target and the budget allows one more round."""
        request = self.results.plan.request
        if request.precision_target is None:
            return False
        spent = time.monotonic() - self.began
        if spent + self._last_round > (request.budget or DEFAULT_BUDGET):
            return False
        widest_ratio = widest(with_ratios(self.results.records()))
        return widest_ratio is not None and widest_ratio[0] > request.precision_target

    def _measure_round(self, number: int) -> None:
        """Measure a block of all rows that are still ok; it counts for a row only if its worker finished."""
        plan = self.results.plan
        order = plan.order(number)
        self.results.schedule.append([row.id for row in order])
        rows = [row for row in order if self.results[row].status == "ok"]
        boards = {row.gpu_uuid: nvml.free_memory(row.gpu_uuid) or 0 for row in rows if row.gpu_uuid is not None}
        for group in alive_together(rows, self.workspace.held_bytes, available_memory(), boards):
            what = f"measure {number + 1}/{max(plan.rounds, number + 1)}"
            outcomes = self._measure_group(group, what)
            for row in group:
                self.keep(row, outcomes[row.id])
        self.results.report(rows)
        self.results.done += len(order)

    def _measure_group(self, group: Sequence[Row], what: str) -> dict[str, MeasuredRound | WorkerError]:
        """Measure a block of these rows. A row whose worker died at a batch size is measured again without it."""
        block, plan = self.block(what), self.results.plan
        outcomes: dict[str, MeasuredRound | WorkerError] = {}
        rows: Sequence[Row] = group
        while rows:
            before = dict(self._too_large)
            outcomes |= block.measure(rows, plan.metrics, self.results.announcer(what))
            narrowed = {row_id for (row_id, _), _ in self._too_large.items() - before.items()}
            rows = [row for row in rows if row.id in narrowed and isinstance(outcomes[row.id], WorkerError)]
        return outcomes

    def _try_arena(self) -> None:
        """Measure whether glibc's arena settings speed up the rows that page faults slow down."""
        for row in self.results.plan.rows:
            result = self.results[row]
            record = self.results.records([row])
            metric = page_faults.worst_metric(record[0], self.results.plan.metrics) if record else None
            if metric is not None:
                try:
                    pairs = [self._arena_pair(row, metric, i) for i in range(len(self.results.schedule))]
                    result.arena.append((metric, pairs))
                except WorkerError as error:
                    result.arena_error = f"{error.status}: {error.reason}"
                self.results.report([row])

    def _arena_pair(self, row: Row, metric: TimedMetric, number: int) -> float:
        """Ratio of the images/s of two workers that take turns: with the arena settings over without."""
        variant = f"--allocator {allocators.ARENA}"
        job = replace(row.job, allocator=allocators.ARENA)
        twin = replace(row, name=f"{row.name} {variant}", variant=variant, job=job)
        what = f"allocator {number + 1}/{len(self.results.schedule)}"
        pair = [row, twin] if number % 2 else [twin, row]
        samples: list[Sample] = []
        outcomes = self.block(what).measure(pair, [metric], self.results.announcer(what))
        for side in (twin, row):
            outcome = outcomes[side.id]
            if isinstance(outcome, WorkerError):
                raise outcome
            samples.append(sample(number, outcome.metrics[0], throughput, keep=True))
        return round_ratio(metric.name, *samples)

"""The gate: measure base and present of every row as pairs of live workers, until every verdict is settled.

A pair is two fresh workers of one row, one in each environment, which take turns; the side that begins alternates. At
preplanned looks all unsettled metrics are judged (``sequential_test``). A row whose metrics are all settled is not
measured any more.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict

from backends.base import BUILD
from bench.analysis import sequential_test
from bench.analysis.sequential_test import ALPHA, Evidence, Verdict
from bench.gate.gated_metric import (
    ACCURACY_IMAGES,
    IN_PAIRS,
    Criteria,
    GatedMetric,
    as_change,
    is_timed,
    needs,
    read_pair,
    turns_of_pair,
)
from bench.gate.pair_length import PairLength
from bench.gate.validity import Validity
from bench.machine.host import fingerprint
from bench.records.explanation import Explained
from bench.records.gate_result import Check, Environment, MetricVerdict, Pair, Sides
from bench.records.record import Resumption
from bench.runner import explaining
from bench.runner.interleaving import MeasuredRound
from bench.runner.plan import Plan, Row, Side
from bench.runner.results import Results
from bench.runner.rounds import Rounds
from bench.runner.row_jobs import RowJobs, trainings
from bench.runner.workspace import DatasetInputs, Workspace
from bench.workloads.datasets.dataset import Dataset

BASE, PRESENT = "base", "present"
PAIRS = "pairs"
"""The part of a check's checkpoint that tells how far its pairs are."""
SECOND_TRIES = 4
"""Maximum number of a row's disturbed pairs that are measured again."""
SETTLED = ("regression", "improvement", "no change")


def two_sided(plan: Plan, base: Side, present: Side, criteria: Criteria) -> Plan:
    """The plan with every row in both environments and only the metrics that the criteria need. Rows that the user did
    not name and that cannot run in the present environment are left out."""
    pairs = [(row.on_side(base), row.on_side(present)) for row in plan.rows]
    rows = [row for pair in pairs for row in pair if row.required or pair[1].problem is None]
    wanted = set(IN_PAIRS) & set(criteria.metrics)
    metrics = [
        metric
        for metric in plan.metrics
        if metric.boundary == criteria.boundary
        and (metric.name in wanted or (metric.name == "throughput" and "memory" in wanted))
    ]
    return replace(plan, rows=tuple(rows), metrics=tuple(metrics))


def expected_jobs(plan: Plan, criteria: Criteria) -> int:
    """Number of jobs of a check until its first look, for progress."""
    requested = sum(row.requested for row in plan.rows) // 2
    return len(plan.rows) + sum(trainings(plan, row, trains=False) for row in plan.rows) + criteria.looks[0] * requested


class PairsCourse(BaseModel):
    """How far the pairs of a check are."""

    model_config = ConfigDict(extra="forbid")

    rounds: int = 0
    """Whole rounds: a pair of every row that was not settled."""
    seconds: float = 0.0
    second_tries: dict[str, int] = {}


@dataclass(frozen=True)
class Earlier:
    """What the sittings before this one measured. Its looks are judged again, from the pairs that they had."""

    course: PairsCourse = field(default_factory=PairsCourse)
    pairs: Mapping[GatedMetric, Sequence[Pair]] = field(default_factory=dict)
    resumed: Sequence[Resumption] = ()


@dataclass
class Gate:
    """One check of a ``two_sided`` plan. ``keep`` is called with the current check after every round of pairs, and with
    what it goes on from after an early end."""

    results: Results
    dataset: Dataset
    base: Side
    present: Side
    criteria: Criteria
    name: str
    command: str
    keep: Callable[[Check, Mapping[str, bytes]], None] = lambda check, parts: None
    earlier: Earlier | None = None
    """What an earlier sitting measured; None: this is the first."""
    explains: bool = False
    """Whether a regression of a speed is followed by profiles of both sides."""
    too_short: str = ""
    """Why the budget cannot do; then nothing is measured, and every verdict is inconclusive."""
    pairs: dict[GatedMetric, list[Pair]] = field(default_factory=dict)
    verdicts: dict[GatedMetric, Verdict] = field(default_factory=dict)
    explained: dict[GatedMetric, Explained] = field(default_factory=dict)
    """Why regressed metrics changed."""
    seconds: float = 0.0
    """Wall time of measuring pairs."""
    _lengths: dict[str, PairLength] = field(default_factory=dict)
    """By row id."""
    _machine_at_end: dict[str, Any] = field(default_factory=dict)
    _second_tries: dict[str, int] = field(default_factory=dict)
    _last_round: float = 0.0
    """Seconds."""

    def __post_init__(self) -> None:
        plan = self.results.plan
        self._workspace = Workspace(plan, DatasetInputs(self.dataset), self.results.timing)
        trains = "accuracy" in self.criteria.metrics
        self._jobs = RowJobs(self._workspace, self.results, self.dataset, trains)
        self._rounds = Rounds(self._workspace, self.results, began=time.monotonic())
        self._validity = Validity(self.results, self.base, self.base.work_tree)

    def run(self) -> None:
        """Certify, fit and measure. KeyboardInterrupt passes through; the verdicts so far remain."""
        with self.certified():
            self.measure()
            if self.explains:
                self._explain()
        self._machine_at_end = fingerprint()  # unpinned, as at the start

    @contextmanager
    def certified(self) -> Iterator[None]:
        """Within this context all rows are certified and fitted, and their files exist."""
        self.results.report_problems()
        with self._workspace.opened():
            self._jobs.run_all()
            for difference in different_builds(self._versions(self.base), self._versions(self.present)):
                print(f"note: {difference}", file=sys.stderr, flush=True)
            yield

    def measure(self) -> None:
        """Measure and judge from the start; may be called repeatedly."""
        earlier = self.earlier or Earlier()
        self.pairs = {metric: [] for metric in self._gated_metrics()}
        self.verdicts, self._lengths, self.seconds = {}, {}, earlier.course.seconds
        self._second_tries = dict(earlier.course.second_tries)
        self._judge_accuracy()
        if self.earlier is None:
            self.keep(self.check(), self._parts(0))
        number = taken = 0
        begin = time.monotonic() - self.seconds
        for look in self.criteria.looks:
            number = max(number, min(look, earlier.course.rounds))
            self._take_up(earlier.pairs, taken, number)
            taken = number
            while number < look and self._unsettled() and self._affordable(begin):
                start = time.monotonic()
                self._measure_round(number)
                self._last_round, self.seconds = time.monotonic() - start, time.monotonic() - begin
                number = taken = number + 1
                self.keep(self.check(), self._parts(number))
            self._judge(look)
            if number < look:
                break

    def _explain(self) -> None:
        """Profile both sides of every speed that regressed."""
        timed = {(m.name, m.task, m.batch_size, m.boundary): m for m in self.results.plan.metrics}
        for metric, verdict in self.verdicts.items():
            name = "latency" if metric.name.startswith("latency") else metric.name
            wanted = timed.get((name, metric.task, metric.batch_size, metric.boundary))  # type: ignore[arg-type]
            if verdict.kind == "regression" and wanted is not None:
                sides = self._sides(metric.row)
                announce = self.results.announcer("explain")
                timeout = self.results.plan.request.timeout
                self.explained[metric] = explaining.compare(self._workspace, sides, wanted, timeout, announce)

    def _take_up(self, pairs: Mapping[GatedMetric, Sequence[Pair]], start: int, stop: int) -> None:
        """Add the pairs of earlier rounds from ``start`` to ``stop``."""
        for metric, so_far in self.pairs.items():
            if metric.name != "accuracy":
                so_far += [pair for pair in pairs.get(metric, ()) if start <= pair.number < stop]

    def _parts(self, rounds: int) -> dict[str, bytes]:
        """What the check goes on from after so many rounds of pairs."""
        course = PairsCourse(rounds=rounds, seconds=self.seconds, second_tries=self._second_tries)
        return {PAIRS: course.model_dump_json().encode(), **self.results.parts(self.results.plan.rows)}

    def refuse(self) -> Check:
        """The check of which nothing is measured, because it is ``too_short``."""
        self.pairs = {metric: [] for metric in self._gated_metrics()}
        return self.check()

    def _affordable(self, begin: float) -> bool:
        return time.monotonic() - begin + self._last_round <= self.criteria.budget

    def _gated_metrics(self) -> list[GatedMetric]:
        metrics = []
        for row in self._rows_of(self.base):
            row_id = row.job.row.id
            statuses = {self.results[side].status for side in self._sides(row_id)}
            if row.required or not statuses & {"unavailable", "unsupported"}:
                metrics += self.criteria.gated_metrics(row_id, row.tasks, self.results.plan.metrics)
        return metrics

    def _rows_of(self, side: Side) -> list[Row]:
        return [row for row in self.results.plan.rows if row.side == side and row.requested]

    def _sides(self, row_id: str) -> tuple[Row, Row]:
        """The base and present row of a row id without its side."""
        rows = {(row.job.row.id, row.side): row for row in self.results.plan.rows}
        return rows[row_id, self.base], rows[row_id, self.present]

    def _is_valid(self, row_id: str) -> bool:
        """Whether both sides of a row are ok so far and comparable."""
        return not any(self._validity.problem(row) for row in self._sides(row_id))

    def _unsettled(self) -> dict[str, list[GatedMetric]]:
        """The metrics that need more pairs, by row."""
        unsettled: dict[str, list[GatedMetric]] = {}
        for metric in self.pairs:
            settled = metric in self.verdicts and self.verdicts[metric].kind in SETTLED
            if metric.name != "accuracy" and not settled:
                unsettled.setdefault(metric.row, []).append(metric)
        return {row_id: metrics for row_id, metrics in unsettled.items() if self._is_valid(row_id)}

    def _measure_round(self, number: int) -> None:
        """Measure one pair of every row with unsettled metrics, in an order drawn from the seed."""
        seed = self.results.plan.request.seed
        rows = self._unsettled()
        for row_id in random.Random(f"{seed}/{number}").sample(sorted(rows), len(rows)):
            heads = random.Random(f"{seed}/{row_id}/{number // 2}").random() < 0.5
            base_first = heads != bool(number % 2)  # of every two pairs, each side begins one
            while self._measure_pair(row_id, rows[row_id], number, base_first):
                self._second_tries[row_id] = self._second_tries.get(row_id, 0) + 1

    def _measure_pair(self, row_id: str, gated: Sequence[GatedMetric], number: int, base_first: bool) -> bool:
        """Measure one pair. Whether it has to be measured again."""
        base, present = self._sides(row_id)
        what = f"pair {number + 1}"
        metrics = [metric for metric in self.results.plan.metrics if any(needs(one, metric) for one in gated)]
        ordered = [base, present] if base_first else [present, base]
        self.results.schedule.append([row.id for row in ordered])
        block, begin = self._rounds.block(what), time.monotonic()
        length = self._lengths.setdefault(row_id, PairLength(self.results.plan.request.placement.profile.slices))
        self._rounds.slices = length.slices
        outcomes = block.measure(ordered, metrics, self.results.announcer(what))
        seconds = time.monotonic() - begin
        for row in ordered:
            self._rounds.keep(row, outcomes[row.id])
        both = [outcomes[base.id], outcomes[present.id]]
        measured = [outcome for outcome in both if isinstance(outcome, MeasuredRound)]
        if len(measured) < 2 or not self._is_valid(row_id):
            return False
        if self._versions_changed(base) or self._versions_changed(present):
            return False
        pairs = {one: read_pair(one, number, base_first, measured[0], measured[1]) for one in gated}
        for one, pair in pairs.items():
            self.pairs[one].append(pair)
        turns = {timed: turns_of_pair(one, *measured) for one in gated for timed in metrics if is_timed(one, timed)}
        length.add(turns, seconds, block.slice_seconds)
        again = any(not pair.counts for pair in pairs.values())
        return again and self._second_tries.get(row_id, 0) < SECOND_TRIES

    def _versions_changed(self, row: Row) -> bool:
        """Whether a side's versions differ from those of its first worker; if so, both sides fail, unless the user
        went on with other ones."""
        if self.results.allow_changes:
            return False
        changed = self._validity.changed_versions(row)
        for side in self._sides(row.job.row.id) if changed else ():
            self.results[side].fail("failed", changed)
        return bool(changed)

    def _judge(self, look: int) -> None:
        """Judge all unsettled metrics at a look."""
        gated = [one for metrics in self._unsettled().values() for one in metrics]
        evidence = {one: known for one in gated if (known := self._evidence(one)) is not None}
        margins = {one: self._margin(one) for one in evidence}
        share = sequential_test.share(look, self.criteria.looks)
        self.verdicts |= sequential_test.judge(evidence, margins, share)

    def _evidence(self, metric: GatedMetric) -> Evidence | None:
        pairs = [pair for pair in self.pairs[metric] if pair.counts]
        return sequential_test.crossover([pair.harm for pair in pairs], [pair.base_first for pair in pairs])

    def _margin(self, metric: GatedMetric) -> float:
        margin = self.criteria.margins[metric.criterion]
        return max(margin, ACCURACY_IMAGES / len(self.dataset.test_y)) if metric.name == "accuracy" else margin

    def _judge_accuracy(self) -> None:
        """Train both sides with the remaining seeds, and judge the accuracies."""
        gated = [one for one in self.pairs if one.name == "accuracy" and self._is_valid(one.row)]
        for metric in gated:
            for number in range(self.criteria.seeds):
                base, present = (self._accuracy(row, number) for row in self._sides(metric.row))
                if base is not None and present is not None:
                    pair = Pair(number=number, base_first=True, base=base, present=present, harm=base - present)
                    self.pairs[metric].append(pair)
        by_metric = {one: sequential_test.paired([pair.harm for pair in self.pairs[one]]) for one in gated}
        evidence = {metric: known for metric, known in by_metric.items() if known is not None}
        self.verdicts |= sequential_test.judge(evidence, {one: self._margin(one) for one in evidence}, ALPHA)

    def _accuracy(self, row: Row, number: int) -> float | None:
        """Test accuracy of the training with the ``number``-th seed; None if the row fails."""
        result = self.results[row]
        if number == len(result.fits) and result.status == "ok":
            self._jobs.attempt(row, f"seed {number + 1}", partial(self._jobs.fit, row, number))
        if result.status != "ok" or number >= len(result.fits):
            return None
        return result.fits[number].scores.accuracy

    def sides(self) -> Sides:
        """The records of all rows in both environments."""
        base, present = (self.results.records(self._rows_of(side)) for side in (self.base, self.present))
        return Sides(base=base, present=present)

    def check(self) -> Check:
        """The current state of the check."""
        context = self.results.context
        return Check(
            name=self.name,
            command=self.command,
            started_at=context.started_at,
            base=Environment(label=self.base.label, versions=self._versions(self.base)),
            present=Environment(label=self.present.label, versions=self._versions(self.present)),
            figures=[self._verdict(metric) for metric in self.pairs],
            looks=list(self.criteria.looks),
            alpha=ALPHA,
            seconds=self.seconds,
            turn=self._workspace.timing.turn,
            resumed=[] if self.earlier is None else list(self.earlier.resumed),
            machine=context.machine,
            data=context.data,
            commit=context.commit,
        )

    def _versions(self, side: Side) -> dict[str, str]:
        """The package versions that a side's workers reported."""
        versions: dict[str, str] = {}
        for row in self._rows_of(side):
            for _, _, report in self.results[row].reports:
                versions |= report.versions
        return dict(sorted(versions.items()))

    def _verdict(self, metric: GatedMetric) -> MetricVerdict:
        pairs, verdict = self.pairs[metric], self.verdicts.get(metric)
        label = _without_side(self._sides(metric.row)[0])
        fields: dict[str, Any] = {**metric._asdict(), "label": label, "unit": metric.metric.unit, "pairs": pairs}
        fields["margin"] = self._margin(metric)
        if self.too_short:
            return MetricVerdict(**fields, verdict="inconclusive", reason=self.too_short)
        reason = self._why_invalid(metric)
        if reason:
            return MetricVerdict(**fields, verdict="invalid", reason=reason)
        if verdict is None:
            budget_ended = "the budget ended before the first look (--budget)"
            if self._last_round:
                budget_ended += f"; {budget_that_would_do(self.criteria.looks[0] * self._last_round)}"
            hint = "--seeds 2 or more" if metric.name == "accuracy" else budget_ended
            return MetricVerdict(**fields, verdict="inconclusive", reason=f"{len(pairs)} pairs are too few: {hint}")
        low, change, high = (as_change(metric, value) for value in (verdict.low, verdict.harm, verdict.high))
        fields |= {"low": min(low, high), "high": max(low, high), "change": change, "smallest": verdict.smallest}
        fields["explained"] = self.explained.get(metric)
        return MetricVerdict(**fields, verdict=verdict.kind, reason=verdict.reason)

    def _why_invalid(self, metric: GatedMetric) -> str:
        """The reason why a metric has no verdict; empty if there is none."""
        for row in self._sides(metric.row):
            if problem := self._validity.problem(row):
                return problem
        pairs = self.pairs[metric]
        disturbed = [pair for pair in pairs if not pair.counts]
        if pairs and 2 * len(disturbed) > len(pairs):
            return f"{len(disturbed)} of {len(pairs)} pairs were disturbed: {disturbed[-1].reason}"
        machine = self.results.context.machine
        end = self._machine_at_end or machine
        changed = [name for name in ("id", "governor", "driver") if end.get(name) != machine.get(name)]
        return f"the machine changed during the check: {', '.join(changed)}" if changed else ""


def budget_that_would_do(seconds: float) -> str:
    """The option for a check that needs so many seconds until its first look, with a fifth to spare."""
    return f"--budget {math.ceil(1.2 * seconds)}s would do"


def different_builds(base: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """The packages of which the sides have different builds, such as one for CUDA and one for the CPU: then a change is
    of the build as much as of the version."""
    names = [name for name in base if name.endswith(BUILD) and present.get(name, base[name]) != base[name]]
    return [
        f"the sides have different builds of {name.removesuffix(BUILD)}: base {base[name]}, present {present[name]};"
        " a change may be of the build, not of the version (--extra-index-url)"
        for name in names
    ]


def _without_side(row: Row) -> str:
    """The row's name without its side."""
    return row.name.removesuffix(f" ({row.side.name})") if row.side else row.name

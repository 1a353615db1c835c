"""Which operators a row's step is made of, from live workers under their framework's own profiler.

Two sides are profiled in turns, in pairs of fresh workers; the side that begins alternates. The profiler makes a step
slower: by how much is measured in every process, and said.
"""

from __future__ import annotations

import math
import secrets
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.analysis.attribution import BETWEEN, UNMAPPED, Blame, Part, attribute
from bench.analysis.attribution import Profile as SideProfile
from bench.analysis.intervals import arithmetic_mean
from bench.records.explanation import Explained, Explanation, OperatorTime, PartTime, StepProfile
from bench.runner.plan import Plan, Row
from bench.runner.progress import Shown
from bench.runner.results import Results
from bench.runner.row_jobs import RowJobs
from bench.runner.run import begin
from bench.runner.worker_process import WorkerError
from bench.runner.workspace import DatasetInputs, Workspace
from bench.values import Missing
from bench.worker.protocol import Finish, NotTaken, Profile, Profiled, TimedMetric, WarmUp
from bench.workloads.datasets.dataset import Dataset

SECONDS = 0.5
"""Of a step, repeated, in every process; without the profiler and with it."""
PAIRS = 8
"""Of processes, to explain a change."""


def overhead(profiles: Sequence[Profiled]) -> float:
    """What the profiler adds to a step, as a fraction: geometric mean over processes."""
    return math.exp(statistics.fmean(math.log(each.profiled / each.plain) for each in profiles)) - 1


def side(profiled: Profiled) -> SideProfile:
    """Seconds of one process' step by layer and direction, with what is of no layer and the time between operators."""
    parts: dict[Part, float] = {}
    for operator in profiled.operators:
        part = (operator.layer or UNMAPPED, operator.backward)
        parts[part] = parts.get(part, 0.0) + operator.seconds
    between = profiled.profiled - math.fsum(parts.values())
    parts[BETWEEN, False] = max(0.0, between)
    return SideProfile(profiled.profiled, parts)


def profile(workspace: Workspace, row: Row, metric: TimedMetric, timeout: float) -> Profiled:
    """One fresh worker of a row under its framework's profiler.

    Raises:
        WorkerError: it failed, or its backend has no profiler.
    """
    with workspace.spawn(row, "explain") as worker:
        worker.ask(workspace.prepare(row), timeout)
        warm = worker.ask(WarmUp(metric=metric), timeout)
        if isinstance(warm, Missing | NotTaken):
            raise WorkerError("failed", warm.reason if isinstance(warm, Missing) else warm.why)
        profiled = worker.ask(Profile(seconds=SECONDS, seed=secrets.randbits(32)), timeout)
        worker.ask(Finish(), timeout)
    return profiled


def profiles(
    workspace: Workspace,
    rows: Sequence[Row],
    metric: TimedMetric,
    count: int,
    timeout: float,
    announce: Callable[[str], None],
) -> list[list[Profiled]]:
    """So many profiles of every row, in turns.

    Raises:
        WorkerError: see ``profile``.
    """
    found: list[list[Profiled]] = [[] for _ in rows]
    for number in range(count):
        order = list(enumerate(rows))
        for place, row in order if number % 2 == 0 else reversed(order):
            announce(f"{row.name} {number + 1}/{count}")
            found[place].append(profile(workspace, row, metric, timeout))
    return found


def explain_row(plan: Plan, row: Row, dataset: Dataset, count: int) -> StepProfile | Missing:
    """Certify a row, untrained, and profile it in so many fresh processes."""
    request = plan.request
    metric = next(each for each in plan.metrics if each.name == "throughput" and each.boundary == "device")
    needed = {row.id, *([row.source.id] if row.source is not None else [])}
    plan = replace(plan, rows=tuple(each for each in plan.rows if each.id in needed))
    _, context = begin(dataset, request.workload)
    workspace = Workspace(plan, DatasetInputs(dataset))
    with workspace.opened(), Shown() as observer:
        results = Results(plan, context, observer, len(plan.rows) + 1, workspace.timing)
        RowJobs(workspace, results, dataset, trains=False).run_all()
        result = results[row]
        if result.status != "ok" or not all(check.passed for check in result.checks):
            return Missing(result.error or "it is not comparable; bench run shows its certificate")
        try:
            (found,) = profiles(workspace, [row], metric, count, request.timeout, results.announcer("profile"))
        except WorkerError as error:
            return Missing(error.reason)
    return _summarized(row, metric, found)


def _summarized(row: Row, metric: TimedMetric, found: Sequence[Profiled]) -> StepProfile:
    sides = [side(profiled) for profiled in found]
    parts = [_part(part, sides, found) for part in {part for one in sides for part in one.parts}]
    return StepProfile(
        name=row.name,
        task=metric.task,
        batch_size=metric.batch_size,
        step=statistics.fmean(one.step for one in sides),
        overhead=overhead(found),
        processes=len(found),
        parts=sorted(parts, key=lambda part: -part.seconds),
    )


def _part(part: Part, sides: Sequence[SideProfile], found: Sequence[Profiled]) -> PartTime:
    estimate = arithmetic_mean([one.parts.get(part, 0.0) for one in sides])
    return PartTime(
        layer=part[0],
        backward=part[1],
        seconds=estimate.value,
        low=None if estimate.low is None else max(0.0, estimate.low),
        high=estimate.high,
        operators=[] if part[0] == BETWEEN else _operators(part, found),
    )


def _operators(part: Part, found: Sequence[Profiled]) -> list[OperatorTime]:
    spent: dict[tuple[str, str, str], float] = {}
    for profiled in found:
        for each in profiled.operators:
            if (each.layer or UNMAPPED, each.backward) == part:
                key = (each.name, each.kind, each.note)
                spent[key] = spent.get(key, 0.0) + each.seconds / len(found)
    times = [OperatorTime(name=name, kind=kind, note=note, seconds=s) for (name, kind, note), s in spent.items()]
    return sorted(times, key=lambda each: -each.seconds)


def compare(
    workspace: Workspace,
    sides: Sequence[Row],
    metric: TimedMetric,
    timeout: float,
    announce: Callable[[str], None],
) -> Explained:
    """Why the step of the second row takes longer than that of the first."""
    try:
        base, present = profiles(workspace, sides, metric, PAIRS, timeout, announce)
    except WorkerError as error:
        return Explained(reason=error.reason)
    pairs = [(side(one), side(other)) for one, other in zip(base, present, strict=True)]
    longer = [other.step / one.step - 1 for one, other in pairs]
    return Explained(
        parts=[_stored(blame) for blame in attribute(pairs)],
        change=statistics.fmean(longer),
        overhead=overhead([*base, *present]),
        pairs=len(pairs),
    )


def _stored(blame: Blame) -> Explanation:
    return Explanation(
        layer=blame.layer, backward=blame.backward, seconds=blame.base, change=blame.change, low=blame.change_low,
        high=blame.change_high, explains=blame.explains, explains_low=blame.low, explains_high=blame.high,
        blamed=blame.blamed,
    )  # fmt: skip

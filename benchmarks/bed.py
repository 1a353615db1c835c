"""The test bed of the experiments: it certifies and fits rows as ``bench run`` does, then measures blocks of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.machine.host import fingerprint
from bench.machine.placement import Placement, place
from bench.records.record import Data
from bench.runner.interleaving import MeasuredRound
from bench.runner.plan import Plan, Request, Row
from bench.runner.planner import make_plan
from bench.runner.record_builder import Context
from bench.runner.results import Results, Silent
from bench.runner.rounds import Rounds
from bench.runner.row_jobs import RowJobs
from bench.runner.worker_process import WorkerError
from bench.runner.workspace import DatasetInputs, Workspace
from bench.worker.protocol import TimedMetric
from bench.workloads.datasets import digits
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES, Workload

RESULTS = Path(__file__).parent / "results"


@dataclass
class Bed:
    """Rows that are certified and fitted and can be measured."""

    workspace: Workspace
    results: Results
    rounds: Rounds

    def row(self, name: str) -> Row:
        """The row with this name (as in tables)."""
        return next(row for row in self.results.plan.rows if row.name == name)

    def metric(self, name: str, task: str, boundary: str) -> TimedMetric:
        """The planned metric with these fields."""
        planned = self.results.plan.metrics
        return next(m for m in planned if (m.name, m.task, m.boundary) == (name, task, boundary))

    def measure(self, rows: Sequence[Row], metrics: Sequence[TimedMetric]) -> dict[str, MeasuredRound]:
        """Measure one block in fresh workers; returns the result by row id."""
        outcomes = self.rounds.block("evidence").measure(rows, metrics, lambda part: None)
        for outcome in outcomes.values():
            if isinstance(outcome, WorkerError):
                raise SystemExit(f"{outcome.status}: {outcome.reason}\n{outcome.log}")
        return {row_id: outcome for row_id, outcome in outcomes.items() if isinstance(outcome, MeasuredRound)}


def article_plan(
    backends: Sequence[str], placement: Placement, model: str = "article-keras", quick: bool = False
) -> Plan:
    """A plan with the embedded data. If ``quick``, nothing is trained: the initial weights are exported."""
    recipe = RECIPES["article-keras"]
    workload = Workload(MODELS[model], "digits", replace(recipe, epochs=0) if quick else recipe)
    return make_plan(Request(tuple(backends), workload, devices="cpu", placement=placement))


def run(
    backends: Sequence[str], placement: Placement, experiment: Callable[[Bed], None], model: str, quick: bool = False
) -> None:
    """Certify and fit the rows, then run the experiment."""
    plan, dataset = article_plan(backends, placement, model, quick), digits.load()
    data = Data(name=dataset.name, sha256=dataset.sha256, train=len(dataset.train_y), test=len(dataset.test_y))
    context = Context(fingerprint(), data, None, datetime.now(UTC).isoformat(timespec="seconds"))
    workspace = Workspace(plan, DatasetInputs(dataset))
    results = Results(plan, context, Silent(), total=0)
    with workspace.opened():
        RowJobs(workspace, results, dataset).run_all()
        for row in plan.rows:
            result = results[row]
            if result.status != "ok":
                raise SystemExit(f"{row.name}: {result.status}: {result.error}")
        experiment(Bed(workspace, results, Rounds(workspace, results, began=time.monotonic())))


def placement_of(profile: str, slices: int | None = None) -> Placement:
    """The placement of a profile; ``slices`` replaces its number of slices."""
    placement = place(profile)
    return placement if slices is None else replace(placement, profile=replace(placement.profile, slices=slices))


def write(name: str, content: dict[str, Any], quick: bool) -> None:
    """Write the raw numbers with the machine and the time. A quick run writes nothing."""
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        document = {"machine": fingerprint(), "measured_at": datetime.now(UTC).isoformat(timespec="seconds"), **content}
        (RESULTS / name).write_text(json.dumps(document, separators=(",", ":")) + "\n")


def placement_values(placement: Placement) -> dict[str, Any]:
    """The plain values of a placement, for JSON."""
    return asdict(placement)

"""What the evidence is measured on: rows certified and fitted as ``bench run`` does it, then blocks of them at will."""

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
    """Rows that are certified and fitted, to be measured in any way."""

    workspace: Workspace
    results: Results
    rounds: Rounds

    def row(self, name: str) -> Row:
        """A row by its name in tables."""
        return next(row for row in self.results.plan.rows if row.name == name)

    def metric(self, name: str, task: str, boundary: str) -> TimedMetric:
        """A planned metric."""
        planned = self.results.plan.metrics
        return next(m for m in planned if (m.name, m.task, m.boundary) == (name, task, boundary))

    def measured(self, rows: Sequence[Row], metrics: Sequence[TimedMetric]) -> dict[str, MeasuredRound]:
        """One block: by row id, what its fresh worker measured."""
        outcomes = self.rounds.block("evidence").measure(rows, metrics, lambda part: None)
        for outcome in outcomes.values():
            if isinstance(outcome, WorkerError):
                raise SystemExit(f"{outcome.status}: {outcome.reason}\n{outcome.log}")
        return {row_id: outcome for row_id, outcome in outcomes.items() if isinstance(outcome, MeasuredRound)}


def lay_out(backends: Sequence[str], placement: Placement, model: str = "article-keras", quick: bool = False) -> Plan:
    """A plan on the embedded data; a quick one exports the initial weights."""
    recipe = RECIPES["article-keras"]
    workload = Workload(MODELS[model], "digits", replace(recipe, epochs=0) if quick else recipe)
    return make_plan(Request(tuple(backends), workload, devices="cpu", placement=placement))


def run(
    backends: Sequence[str], placement: Placement, experiment: Callable[[Bed], None], model: str, quick: bool = False
) -> None:
    """Certify and fit the rows, then the experiment."""
    plan, dataset = lay_out(backends, placement, model, quick), digits.load()
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


def placed(profile: str, slices: int | None = None) -> Placement:
    """A profile's placement, with fewer slices for a trial."""
    placement = place(profile)
    return placement if slices is None else replace(placement, profile=replace(placement.profile, slices=slices))


def write(name: str, content: dict[str, Any], quick: bool) -> None:
    """The raw numbers, beside the machine and the placement they were measured on; a trial writes nothing."""
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        document = {"machine": fingerprint(), "measured_at": datetime.now(UTC).isoformat(timespec="seconds"), **content}
        (RESULTS / name).write_text(json.dumps(document, separators=(",", ":")) + "\n")


def described(placement: Placement) -> dict[str, Any]:
    """Plain values of a placement."""
    return asdict(placement)

"""What the evidence is measured on: rows certified and fitted as ``bench run`` does it, then blocks of them at will."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.machine.host import fingerprint
from bench.machine.placement import Placement, place
from bench.records.record import Data
from bench.runner.plan import FigurePlan, Plan, Request, Row
from bench.runner.planner import make
from bench.runner.record_builder import Context
from bench.runner.rounds import Runner, Silent
from bench.runner.worker_process import WorkerError
from bench.workloads.datasets import digits
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES, Workload

RESULTS = Path(__file__).parent / "results"


@dataclass
class Bed(Runner):
    """A runner that hands its certified and fitted rows to ``experiment`` instead of measuring rounds."""

    experiment: Callable[[Bed], None] = print

    def _jobs(self) -> None:
        for row in self.plan.rows:
            self._guarded(row, "certify", self._certify)
            if "fit" in row.tasks:
                self._guarded(row, "fit", self._fit)
            result = self.results[row.name]
            if result.status != "ok":
                raise SystemExit(f"{row.name}: {result.status}: {result.error}")
        self.experiment(self)

    def row(self, name: str) -> Row:
        """A row by its name in tables."""
        return next(row for row in self.plan.rows if row.name == name)

    def figure(self, name: str, task: str, boundary: str) -> FigurePlan:
        """A planned figure."""
        return next(f for f in self.plan.figures if (f.name, f.task, f.boundary) == (name, task, boundary))

    def measured(self, rows: Sequence[Row], figures: Sequence[FigurePlan]) -> dict[str, dict[str, Any]]:
        """One block: by row name, what its fresh worker measured."""
        outcomes = self._block("evidence").measure(rows, figures, lambda part: None)
        for outcome in outcomes.values():
            if isinstance(outcome, WorkerError):
                raise SystemExit(f"{outcome.status}: {outcome.reason}\n{outcome.log}")
        return {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, dict)}

    @property
    def scratch(self) -> Path:
        """Where the workers' data is."""
        return self._scratch

    def fitted(self, row: Row) -> Path:
        """The folder of a row's weights and ONNX file."""
        return self._folder(row)


def lay_out(backends: Sequence[str], placement: Placement, model: str = "article-keras", quick: bool = False) -> Plan:
    """A plan on the embedded data; a quick one exports the initial weights."""
    recipe = RECIPES["article-keras"]
    workload = Workload(MODELS[model], "digits", replace(recipe, epochs=0) if quick else recipe)
    return make(Request(tuple(backends), workload, devices="cpu", placement=placement))


def run(
    backends: Sequence[str], placement: Placement, experiment: Callable[[Bed], None], model: str, quick: bool = False
) -> None:
    """Certify and fit the rows, then the experiment."""
    plan, dataset = lay_out(backends, placement, model, quick), digits.load()
    data = Data(name=dataset.name, sha256=dataset.sha256, train=len(dataset.train_y), test=len(dataset.test_y))
    context = Context(fingerprint(), data, None, datetime.now(UTC).isoformat(timespec="seconds"))
    Bed(plan, dataset, context, Silent(), experiment=experiment).run()


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

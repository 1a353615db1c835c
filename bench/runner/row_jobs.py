"""The jobs of a row before it is measured: certify, then fit, each in a fresh worker.

A failed row ends only itself and the rows that read its file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.runner import classification
from bench.runner.plan import Plan, Row, batch_of_first_call
from bench.runner.results import Results
from bench.runner.row_result import RowResult
from bench.runner.worker_process import WorkerError
from bench.runner.workspace import Workspace
from bench.worker.protocol import Certify, Fit, NotExported
from bench.workloads.datasets.dataset import Dataset

UNTRAINED = "not trained: only the speed of the seeded initial weights was asked for"


def trainings(plan: Plan, row: Row, trains: bool = True) -> int:
    """How often a row is trained."""
    if "fit" not in row.tasks:
        return 0
    return plan.request.seeds if row.requested and trains else 1


@dataclass
class RowJobs:
    """Certify and fit rows. ``trains`` False: the seeded initial weights are exported and timed, without training."""

    workspace: Workspace
    results: Results
    dataset: Dataset
    trains: bool = True

    def run_all(self) -> None:
        """Certify and fit every row, sources before the rows that read their files."""
        for row in self.results.plan.rows:
            self.run(row)

    def run(self, row: Row) -> None:
        """Certify a row and train it with every seed."""
        self.attempt(row, "certify", partial(self._certify, row))
        count = trainings(self.results.plan, row, self.trains)
        for number in range(count):
            phase = "fit" if number == 0 else f"fit {number + 1}/{count}"
            self.attempt(row, phase, partial(self.fit, row, number))

    def attempt(self, row: Row, phase: str, job: Callable[[], None]) -> None:
        """Do a job, if its row is still ok; an error ends the row, not the run."""
        result = self.results[row]
        if result.status == "ok" and row.source is not None:
            self._inherit(row, result)
        if result.status == "ok":
            self.results.announcer(phase)(row.name)
            try:
                job()
            except WorkerError as error:
                result.fail(error.status, error.reason, error.log)
            except OSError as error:
                result.fail("failed", f"{phase}: {error}")
            self.results.report([row])
        self.results.done += 1

    def _inherit(self, row: Row, result: RowResult) -> None:
        """End a runtime's row if its source has no ONNX file."""
        source = result.source
        assert source is not None
        export = source.export
        if export is None:
            excusable = source.status in ("unavailable", "unsupported")
            reason = f"no ONNX file: {source.name} is {source.status}: {source.error}"
            result.fail(source.status if excusable else "failed", reason)
            self.results.report([row])
        elif isinstance(export, NotExported):
            result.fail(export.status, f"no ONNX file: {source.name}: {export.reason}")
            self.results.report([row])

    def _certify(self, row: Row) -> None:
        result = self.results[row]
        result.untrained = "" if self.trains else UNTRAINED
        folder = self.workspace.folder(row)
        plan = self.results.plan.request
        sizes = (row.first_batch, *plan.batch_sizes)
        if row.source is None:
            self.workspace.write_expected(row)
        request = Certify(work=self.workspace.work(row), out=folder, batches=sizes)
        result.certified = self.workspace.ask_fresh_worker(row, "certify", request)
        if row.source is None and "fit" not in row.tasks and (judge := self.workspace.timed_outputs) is not None:
            judge.keep_weights(row.fit_id, judge.model.initial_weights(row.job.seed) | dict(plan.init or {}))
        if result.certified.batch is not None:
            self.workspace.first_batches[row.fit_id] = batch_of_first_call(row.first_batch, result.certified.batch)
        if row.source is not None and self.trains:
            result.classes = self._class_report(folder)

    def fit(self, row: Row, number: int = 0) -> None:
        """Train with the ``number``-th seed; only the first training is exported and timed.

        Raises:
            WorkerError: the training did not finish.
        """
        result, folder = self.results[row], self.workspace.folder(row)
        if number:
            folder = folder / str(number)
            folder.mkdir(exist_ok=True)
        work = self.workspace.work(row)
        work = replace(work, job=replace(row.job, seed=row.job.seed + number))
        if not self.trains:
            work = replace(work, recipe={**work.recipe, "epochs": 0})
        target = self.results.plan.request.target_accuracy
        request = Fit(work=work, out=folder, exports=number == 0, target_accuracy=target)
        result.fits.append(self.workspace.ask_fresh_worker(row, "fit", request))
        if number == 0 and self.workspace.timed_outputs is not None:
            with np.load(folder / "weights.npz", allow_pickle=False) as stored:
                self.workspace.timed_outputs.keep_weights(row.fit_id, dict(stored))
        if number == 0 and self.trains:
            result.classes = self._class_report(folder)
            self.results.observer.trained(row.id, folder / "weights.npz")

    def _class_report(self, folder: Path) -> classification.ClassReport:
        logits = np.load(folder / "logits.npy", allow_pickle=False)
        return classification.class_report(logits, self.dataset.test_y, self.dataset.classes)

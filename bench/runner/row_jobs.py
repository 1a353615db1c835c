"""The jobs of a row before it is measured: certify, then fit, each in a fresh worker.

A failed row ends only itself and the rows that read its file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import numpy as np

from backends.base import Labels, Unsupported
from backends.model import ModelSpec, Weights
from bench.runner.judges import certificate, scoring
from bench.runner.judges.trained import Watched
from bench.runner.plan import Plan, Row
from bench.runner.results import Results
from bench.runner.row_judge import RowJudge
from bench.runner.row_result import RowResult
from bench.runner.worker_process import WorkerError
from bench.runner.workspace import Workspace
from bench.worker.protocol import (
    Certify,
    Evaluation,
    Exported,
    Exports,
    Fit,
    NotExported,
    evaluation_file,
)
from bench.workloads.datasets.dataset import Dataset

SCALED = "not trained to the end: --processes measures steps, which the certificate holds against those of one process"
UNTRAINED = "not trained: only the speed of the seeded initial weights was asked for"


def trainings(plan: Plan, row: Row, trains: bool = True) -> int:
    """How often a row is trained."""
    if "fit" not in row.tasks:
        return 0
    return plan.request.seeds if row.requested and trains else 1


@dataclass
class RowJobs:
    """Certify and fit rows. ``trains`` False: the seeded initial weights are exported and timed, without training.
    ``finds_limit``: each framework also measures the machine's limit."""

    workspace: Workspace
    results: Results
    dataset: Dataset
    trains: bool = True
    finds_limit: bool = False

    @cached_property
    def _judge(self) -> RowJudge:
        return RowJudge(self.workspace, self.results, self.dataset, self.trains)

    def run_all(self) -> None:
        """Certify and fit every row, sources before the rows that read their files."""
        for row in self.results.plan.rows:
            self.run(row)

    def run(self, row: Row) -> None:
        """Certify a row and train it with every seed; of a row that goes on, only what is missing."""
        result = self.results[row]
        if self._goes_on(row):
            self.attempt(row, "restore", partial(self._restore, row))
        else:
            self.attempt(row, "certify", partial(self._certify, row))
        count = trainings(self.results.plan, row, self.trains)
        for number in range(len(result.fits), count):
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
            except Unsupported as error:
                result.fail("unsupported", str(error))
            except OSError as error:
                result.fail("failed", f"{phase}: {error}")
            self.results.report([row])
        self.results.done += 1

    def _goes_on(self, row: Row) -> bool:
        """Whether a row was certified and its files can be written again. A file that was converted is made with the
        certificate."""
        result = self.results[row]
        if result.restored and result.fits and self.trains and self.results.weights(row) is None:
            result.begin_anew()
        return result.restored and self.workspace.work(row).converted is None

    def _why_untrained(self, row: Row) -> str:
        if row.job.processes is not None:
            return SCALED
        return "" if self.trains else UNTRAINED

    def _restore(self, row: Row) -> None:
        """Write the files of a certified row again, from the weights that it had trained.

        Raises:
            WorkerError: it comes to other weights, another file or other outputs, or its packages changed.
        """
        result, folder = self.results[row], self.workspace.folder(row)
        result.untrained = self._why_untrained(row)
        assert result.certified is not None
        for _, _, report in result.reports:
            self.workspace.keep_peak(row.id, report.peak_rss)
        if row.file is not None:
            self._judge.keep_first_batch(row, result.certified)
        if not result.fits:
            self._judge.keep_initial_weights(row)
            return
        work = self.workspace.work(row)
        work = replace(work, recipe={**work.recipe, "epochs": 0})
        stored = self.results.weights(row) if self.trains else None
        if stored is not None:
            work = replace(work, start=folder / "stored.npz")
            np.savez(folder / "stored.npz", **cast("dict[str, Any]", stored))
        written = tuple(name for name, export in result.exports.items() if isinstance(export, Exported))
        request = Fit(work=work, out=folder, exports=written)
        exported = self.workspace.ask_fresh_worker(row, "restore", request)
        if not self.results.allow_changes and (changed := result.changed_versions(exported.report)):
            raise WorkerError("failed", f"it cannot go on: {changed} (--anyway goes on)")
        self.workspace.discard(folder / "stored.npz")
        weights = self._judge.read_weights(folder)
        if stored is not None and not _same(weights, stored):
            raise WorkerError("failed", "self-check stored_weights: the worker does not hold the weights that it got")
        if self.workspace.timed_outputs is not None:
            self.workspace.timed_outputs.keep_weights(row.fit_id, weights)
        self._judge.logits(row, result, weights, self._judge.read_logits(folder))
        for name in written:
            again = exported.exports.get(name)
            if not isinstance(again, Exported):
                why = again.reason if again is not None else "nothing was exported"
                raise WorkerError("failed", f"its {name} file cannot be exported again: {why}")
        self._judge_export(row, result, weights, exported.exports)

    def _inherit(self, row: Row, result: RowResult) -> None:
        """End a runtime's row if its source has no file for it."""
        source = result.source
        assert source is not None
        assert row.reads is not None
        export = source.exports.get(row.reads)
        if export is None:
            excusable = source.status in ("unavailable", "unsupported")
            reason = f"no {row.reads} file: {source.name} is {source.status}: {source.error}"
            result.fail(source.status if excusable else "failed", reason)
            self.results.report([row])
        elif isinstance(export, NotExported):
            result.fail(export.status, f"no {row.reads} file: {source.name}: {export.reason}")
            self.results.report([row])

    def _certify(self, row: Row) -> None:
        result = self.results[row]
        result.untrained = self._why_untrained(row)
        folder = self.workspace.folder(row)
        plan = self.results.plan.request
        sizes = (row.first_batch, *plan.batch_sizes)
        expected = None
        if row.source is None and isinstance(plan.workload.model, ModelSpec):
            expected = self.workspace.expected(row)
        limit = self.finds_limit and bool(self.results.plan.metrics) and row.job.cpu_quota is None  # a quota hides it
        limit = limit and row.job.processes in (None, 1)
        request = Certify(work=self.workspace.work(row), out=folder, batches=sizes, kernels=limit)
        result.certified = self.workspace.ask_fresh_worker(row, "certify", request)
        if row.file is not None:
            self._judge.file(row, result, result.certified)
        elif expected is not None:
            self._judge.backend(row, result, expected)
        else:
            self._judge.runtime(row, result)
        result.checks += certificate.stated_precision(row.job, result.certified.report.settings)

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
        watched = self._judge.trainings.draw() if self._judge.trainings is not None else Watched(0, ())
        request = Fit(
            work=work, out=folder, exports=() if number else self._formats(row), often=target is not None,
            watched=watched.weights, asked=watched.losses,
        )  # fmt: skip
        numbers = itertools.count()

        def hear(evaluation: Evaluation) -> None:
            score = partial(
                scoring.curve_point, evaluation, next(numbers), folder, self._labels(), len(self.dataset.classes)
            )
            self.results.observer.evaluated(row.id, work.job.seed, score)

        trained = self.workspace.ask_fresh_worker(row, "fit", request, hear)
        if trained.fit_seconds > trained.report.life:
            took = f"a training of {trained.fit_seconds:,.1f} s in a life of {trained.report.life:,.1f} s"
            raise WorkerError("failed", f"self-check clock: {took}")
        fitted = scoring.fitted(trained, folder, self._labels(), len(self.dataset.classes), target)
        for evaluation in range(len(trained.evaluations)):
            self.workspace.discard(folder / evaluation_file(evaluation))
        weights = self._judge.read_weights(folder)
        if number == 0 and self.workspace.timed_outputs is not None:
            self.workspace.timed_outputs.keep_weights(row.fit_id, weights)
        self._judge.logits(row, result, weights, self._judge.read_logits(folder))
        self._judge.training(row, result, work.job.seed, weights, watched, trained, folder)
        self._judge_export(row, result, weights, trained.exports)
        result.fits.append(fitted)
        if number == 0 and self.trains:
            result.classes = self._judge.class_report(folder)
            self.results.observer.trained(row.id, folder / "weights.npz")

    def _formats(self, row: Row) -> tuple[str, ...]:
        """The formats that a row's model is written in: its first, and those that other rows read."""
        read = {other.reads for other in self.results.plan.rows if other.source and other.source.fit_id == row.fit_id}
        return tuple(name for number, name in enumerate(row.writes) if number == 0 or name in read)

    def _judge_export(self, row: Row, result: RowResult, weights: Weights, exports: Exports) -> None:
        """An ONNX file is judged by itself; others by the outputs of the rows that read them."""
        if isinstance(exports.get("onnx"), Exported):
            self._judge.export(row, result, weights)

    def _labels(self) -> dict[str, Labels]:
        """By split, of those that a worker evaluates."""
        labels, recipe = self.dataset.train_y, self.results.plan.request.workload.recipe
        return {"validation": labels[len(labels) - recipe.held_out(len(labels)) :], "test": self.dataset.test_y}


def _same(weights: Weights, others: Weights) -> bool:
    return set(weights) == set(others) and all(np.array_equal(weights[name], others[name]) for name in others)

"""Judges what a row's workers did before it was measured: its certificate, its trainings, its exported file, its logits
on the test split. The judges are in ``bench.runner.judges``; here they meet the run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import backends
from backends.base import model_file
from backends.model import ModelSpec, Weights
from bench.array_files import read_arrays
from bench.runner import classification
from bench.runner.judges import certificate, exported_file, file_certificate, scoring, timed_outputs
from bench.runner.judges import trained as trained_judge
from bench.runner.judges.trained import TrainingJudge, Watched
from bench.runner.plan import Row, batch_of_first_call
from bench.runner.results import Results
from bench.runner.row_result import RowResult
from bench.runner.worker_process import WorkerError
from bench.runner.workspace import Workspace
from bench.values import Missing
from bench.worker import file_outputs, reference_judge
from bench.worker.certificate_outputs import CertificateOutputs, with_whole_losses
from bench.worker.group import processes_of, rank_folder
from bench.worker.inputs import batch_of
from bench.worker.protocol import (
    ALL_VALUES,
    CERTIFICATE_OUTPUTS,
    FILE_OUTPUTS,
    WATCHED_WEIGHTS,
    Certified,
    ShowValues,
    Trained,
    Work,
)
from bench.worker.reference_outputs import Expected, Trial, raise_betas
from bench.worker.training import Split
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.preprocessing import normalize

SOME_IMAGES = 64
"""Images of the test split that an exported file is tried on."""


@dataclass
class RowJudge:
    """Judges the rows of a run. ``trains`` False: nothing is trained, so nothing is scored."""

    workspace: Workspace
    results: Results
    dataset: Dataset
    trains: bool

    def backend(self, row: Row, result: RowResult, expected: Expected) -> None:
        """Compare a backend that trains with the reference."""
        request, job, file = self.results.plan.request, row.job, self.workspace.folder(row) / CERTIFICATE_OUTPUTS
        model, recipe = request.workload.model, request.workload.recipe
        assert isinstance(model, ModelSpec)
        initial = model.initial_weights(job.seed) | dict(request.init or {})
        judge = certificate.Judge(
            backends.describe(job.backend), job.precision, job.device, model,
            raise_betas(model, initial), expected, Trial(recipe, frozenset(request.frozen)),
        )  # fmt: skip
        files = [rank_folder(file.parent, rank) / file.name for rank in range(processes_of(job))]
        try:
            with self.workspace.timing.judges("certificate"):
                outputs = with_whole_losses([CertificateOutputs.read(each) for each in files])
                result.checks = certificate.worst_of([judge.judge(each) for each in outputs])
                if result.certified is not None:
                    result.checks += certificate.stated_denormals(outputs[0], result.certified.report.settings)
        except (ValueError, OSError) as unreadable:
            raise WorkerError("failed", f"the worker's {unreadable}") from unreadable
        for each in files:
            self.workspace.discard(each)
        self.keep_initial_weights(row)

    def keep_initial_weights(self, row: Row) -> None:
        """What a backend that does not train is timed with."""
        request, timed = self.results.plan.request, self.workspace.timed_outputs
        model = request.workload.model
        if timed is not None and "fit" not in row.tasks and row.source is None and isinstance(model, ModelSpec):
            timed.keep_weights(row.fit_id, model.initial_weights(row.job.seed) | dict(request.init or {}))

    def keep_first_batch(self, row: Row, certified: Certified) -> None:
        """The batch size that a user's file takes."""
        if certified.batch is not None:
            self.workspace.first_batches[row.fit_id] = batch_of_first_call(row.first_batch, certified.batch)

    def file(self, row: Row, result: RowResult, certified: Certified) -> None:
        """Compare a runtime's outputs for a user's file with those of two judges."""
        size, work, adapter = certified.certified_batch, self.workspace.work(row), backends.describe(row.job.backend)
        assert work.file is not None, "a user's file is not converted"
        if size is None or certified.batch is None:
            raise WorkerError("failed", "the worker does not say at which batch size it ran the file")
        self.keep_first_batch(row, certified)
        calls = self._file_outputs(self.workspace.folder(row) / FILE_OUTPUTS)
        with self.workspace.timing.judges(file_certificate.CHECK):
            found = self.workspace.file_judge.judge(adapter, row.job, work.file, batch_of(work, size)[0], size, calls)
        check = found.result
        if not check.passed and (where := self._first_node(row, work, size, check.tolerance)):
            check = replace(check, note=f"{check.note}; {where}")
        result.checks, result.uncertified, result.repeats = [check], found.uncertified, found.repeats

    def _first_node(self, row: Row, work: Work, size: int, allowed: float) -> str:
        """The first node whose value parts from the unoptimized runtime's; why that is not known, if it is not."""
        folder = self.workspace.folder(row)
        assert work.file is not None
        try:
            nodes = reference_judge.with_all_outputs(work.file, folder / "all-values.onnx")
            request = ShowValues(work=work, out=folder, shown=folder / "all-values.onnx", batch=size)
            self.workspace.ask_fresh_worker(row, "nodes", request)
            return file_certificate.first_node(self._file_outputs(folder / ALL_VALUES), nodes, allowed)
        except (WorkerError, OSError, ValueError) as error:
            return f"which node differs is not known: {error}"

    def _file_outputs(self, path: Path) -> dict[str, file_outputs.Outputs]:
        try:
            return file_outputs.read(path)
        except ValueError as unreadable:
            raise WorkerError("failed", f"the worker's {unreadable}") from unreadable

    @cached_property
    def trainings(self) -> TrainingJudge | None:
        """The judge of trainings; None: nothing is trained."""
        request, data = self.results.plan.request, self.dataset
        model, recipe = request.workload.model, request.workload.recipe
        if not self.trains or recipe.epochs == 0 or not isinstance(model, ModelSpec):
            return None
        count = len(data.train_y) - recipe.held_out(len(data.train_y))
        split = Split("train", data.train_x[:count], data.train_y[:count], recipe.mean, recipe.std)
        training = replace(recipe.training, frozen=frozenset(request.frozen))
        return TrainingJudge(model, recipe, training, split, request.target_accuracy is not None)

    def training(
        self,
        row: Row,
        result: RowResult,
        seed: int,
        weights: Weights,
        watched: Watched,
        trained: Trained,
        folder: Path,
    ) -> None:
        """Compare steps of a training with what the reference makes of the same weights and batches."""
        judge = self.trainings
        if judge is None or not watched.pairs:
            return
        start = judge.model.initial_weights(seed) | dict(self.results.plan.request.init or {})
        details = {name: value for check in result.checks for name, value in check.details.items()}
        followed = details.get("momentum_form" if judge.training.optimizer.name == "sgd" else "adam_form")
        forms = () if followed is None else (followed,)
        precision = row.job.precision
        with self.workspace.timing.judges(trained_judge.NAME):
            result.timed.append(judge.judge(precision, seed, start, weights, watched, trained, folder, forms))
        self.workspace.discard(folder / WATCHED_WEIGHTS)

    def export(self, row: Row, result: RowResult, weights: Weights) -> None:
        """Compare the exported file with the weights that were exported."""
        request = self.results.plan.request
        model, recipe = request.workload.model, request.workload.recipe
        if not isinstance(model, ModelSpec):
            return
        images = normalize(self.dataset.test_x[:SOME_IMAGES], recipe.mean, recipe.std)
        file = self.workspace.folder(row) / model_file("onnx")
        with self.workspace.timing.judges(exported_file.NAME):
            facts, judge = exported_file.facts_of(file, model, weights, images), self.workspace.timed_outputs
        if isinstance(facts, Missing) or judge is None:
            return
        note = f"{exported_file.IMAGES} images with noise, against onnx.reference"
        result.timed.append(judge.result(exported_file.NAME, row, facts.error, note))
        if facts.flops is not None:
            result.timed.append(exported_file.count_check(facts.flops, model))

    def runtime(self, row: Row, result: RowResult) -> None:
        """Compare a runtime's logits on the test split with its source's and with the reference's, and score them."""
        assert row.source is not None
        folder, adapter = self.workspace.folder(row), backends.describe(row.job.backend)
        got, want = self.read_logits(folder), self.read_logits(self.workspace.folder(row.source))
        result.checks = certificate.certify_runtime(adapter, row.job, got, want, self.dataset.test_y)
        self.logits(row, result, None, got)
        if self.trains:
            result.scores = scoring.score(got, self.dataset.test_y)
            result.classes = self.class_report(folder)

    def logits(self, row: Row, result: RowResult, weights: Weights | None, logits: scoring.Logits) -> None:
        judge, recipe = self.workspace.timed_outputs, self.results.plan.request.workload.recipe
        if judge is not None:
            pixels = self.dataset.test_x
            with self.workspace.timing.judges(timed_outputs.LOGITS_NAME):
                verdict = judge.judge_logits(
                    row, weights, logits, lambda places: normalize(pixels[places], recipe.mean, recipe.std)
                )
            result.timed += [] if isinstance(verdict, Missing) else [verdict]

    def read_logits(self, folder: Path) -> scoring.Logits:
        return scoring.read_logits(folder / scoring.LOGITS, len(self.dataset.test_y), len(self.dataset.classes))

    def read_weights(self, folder: Path) -> Weights:
        try:
            return read_arrays(folder / "weights.npz")
        except ValueError as unreadable:
            raise WorkerError("failed", f"the worker's {unreadable}") from unreadable

    def class_report(self, folder: Path) -> classification.ClassReport:
        return classification.class_report(self.read_logits(folder), self.dataset.test_y, self.dataset.classes)

"""The parent: runs a plan's jobs in workers, one at a time, and keeps what they measured.

Order: every row is certified, then fitted (sources before the runtimes that read their files), then measured, a
fresh process per row and round. A row that fails costs only itself and the rows that read its file.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench import nvml
from bench.child import Child, WorkerError, worker_environment
from bench.datasets import Dataset, normalize
from bench.errors import BenchError
from bench.job import Record
from bench.plan import SLICE_SECONDS, FigurePlan, Plan, Row
from bench.summary import Context, RowResult, to_record
from bench.training import SAMPLE


class Observer(Protocol):
    """Is told what begins and what a row came to; shows progress, keeps records."""

    def begins(self, row: Row, phase: str, done: int, total: int) -> None:
        """A job begins: ``done`` of ``total`` jobs are over."""

    def changed(self, record: Record) -> None:
        """A job of a row has ended, whatever its outcome: this is all that is known of the row now."""


@dataclass
class Runner:
    """One run of a plan. ``results`` is whole at any moment; Ctrl-C loses the job that it interrupts, no more."""

    plan: Plan
    dataset: Dataset
    context: Context
    observer: Observer
    results: dict[tuple[Any, ...], RowResult] = field(default_factory=dict)
    _done: int = 0

    def run(self) -> None:
        """Do everything. KeyboardInterrupt passes through, with unfinished rows marked ``interrupted``."""
        for row in self.plan.rows:
            source = None if row.source is None else self.results[row.source.job.row]
            self.results[row.job.row] = RowResult(row, self.plan, source)
            if row.problem is not None:
                self.results[row.job.row].fail(*row.problem)
                self._report(row)
        with tempfile.TemporaryDirectory(prefix="evenbench-") as folder:
            try:
                self._scratch = Path(folder)
                self._write_data()
                self._jobs()
            except KeyboardInterrupt:
                self._interrupted()
                raise

    def _write_data(self) -> None:
        try:
            _write_data(self._scratch, self.dataset, self.plan)
        except OSError as error:
            reason = error.strerror or error
            raise BenchError(
                f"cannot write the data for the workers to {self._scratch}: {reason}; set TMPDIR"
            ) from error

    def _jobs(self) -> None:
        for row in self.plan.rows:
            self._guarded(row, "certify", self._certify)
            if "fit" in row.tasks:
                self._guarded(row, "fit", self._fit)
        for number, order in enumerate(self.plan.rounds):
            for row in order:
                self._guarded(row, f"measure {number + 1}/{len(self.plan.rounds)}", self._measure)

    def _guarded(self, row: Row, phase: str, job: Callable[[Row, RowResult], None]) -> None:
        result = self.results[row.job.row]
        if result.status == "ok" and row.source is not None:
            self._inherit(row, result)
        if result.status == "ok":
            self.observer.begins(row, phase, self._done, self._total)
            try:
                job(row, result)
            except WorkerError as error:
                result.fail(error.status, error.reason, error.log)
            except OSError as error:
                result.fail("failed", f"{phase}: {error}")
            self._report(row)
        self._done += 1

    @property
    def _total(self) -> int:
        fits = sum("fit" in row.tasks for row in self.plan.rows)
        return len(self.plan.rows) + fits + sum(len(order) for order in self.plan.rounds)

    def _inherit(self, row: Row, result: RowResult) -> None:
        """A runtime's row ends with its source's export."""
        source = result.source
        assert source is not None
        export = source.fitted.get("export") if source.fitted else None
        if export is None:
            excusable = source.status in ("unavailable", "unsupported")
            reason = f"no ONNX file: {source.label} is {source.status}: {source.error}"
            result.fail(source.status if excusable else "failed", reason)
            self._report(row)
        elif export["status"] != "ok":
            result.fail(export["status"], f"no ONNX file: {source.label}: {export['reason']}")
            self._report(row)

    def _report(self, row: Row) -> None:
        if row.asked:
            self.observer.changed(to_record(self.results[row.job.row], self.context))

    def _interrupted(self) -> None:
        for row in self.plan.rows:
            result = self.results[row.job.row]
            unfinished = len(result.rounds) < len(self.plan.rounds)
            if result.status == "ok" and row.asked and unfinished:
                result.fail("interrupted", "stopped by the user")
                self._report(row)

    @contextmanager
    def _worker(self, row: Row, kind: str) -> Iterator[Child]:
        log = self._scratch / f"{_slug(row)}-{kind}.log"
        environment = worker_environment(row.python, row.job.threads, row.gpu_uuid, self._scratch)
        try:
            child = Child(row.python, environment, log)
        except OSError as error:
            raise WorkerError("unavailable", f"cannot start {row.python}: {error.strerror}") from error
        with child:
            yield child

    def _folder(self, row: Row) -> Path:
        folder = self._scratch / f"{_slug(row)}-fit"
        folder.mkdir(exist_ok=True)
        return folder

    def _common(self, row: Row) -> dict[str, Any]:
        workload, job = self.plan.request.workload, row.job
        recipe = workload.recipe
        request: dict[str, Any] = {
            "backend": job.backend,
            "device": job.device,
            "precision": job.precision,
            "mode": job.mode,
            "threads": job.threads,
            "seed": job.seed,
            "model": workload.model.to_dict(),
            "optimizer": asdict(recipe.optimizer),
            "learning_rate": recipe.learning_rate,
            "batch_size": recipe.batch_size,
            "epochs": recipe.epochs,
            "mean": recipe.mean,
            "std": recipe.std,
            "data": str(self._scratch),
        }
        if row.source is not None:
            folder = self._folder(row.source)
            request |= {"onnx": str(folder / "model.onnx"), "source_logits": str(folder / "logits.npy")}
        return request

    def _certify(self, row: Row, result: RowResult) -> None:
        with self._worker(row, "certify") as child:
            result.certified = child.ask("certify", self.plan.request.timeout, **self._common(row))

    def _fit(self, row: Row, result: RowResult) -> None:
        with self._worker(row, "fit") as child:
            out = str(self._folder(row))
            result.fitted = child.ask("fit", self.plan.request.timeout, out=out, **self._common(row))

    def _measure(self, row: Row, result: RowResult) -> None:
        """One round of one row; it counts only when it came to its end."""
        timeout = self.plan.request.timeout
        request = self._common(row)
        if "fit" in row.tasks:
            request["weights"] = str(self._folder(row) / "weights.npz")
        slices: list[tuple[FigurePlan, dict[str, Any]]] = []
        used_before = None if row.gpu_uuid is None else nvml.used_memory(row.gpu_uuid)
        with self._worker(row, "measure") as child:
            prepared = child.ask("prepare", timeout, **request)
            for figure in self.plan.figures:
                if figure.task in row.tasks:
                    plain = figure.to_dict()
                    warm_up = child.ask("warm_up", timeout, figure=plain)
                    timed = child.ask("slice", timeout + SLICE_SECONDS, figure=plain, seconds=SLICE_SECONDS)
                    slices.append((figure, {**timed, "warm_up_steps": warm_up["steps"]}))
            device_memory = self._device_memory(row, child, used_before)
            finished = child.ask("finish", timeout)
        result.rounds.append({"prepared": prepared, "slices": slices, "finished": finished, **device_memory})

    def _device_memory(self, row: Row, child: Child, used_before: int | None) -> dict[str, Any]:
        """What the worker holds on its GPU after the last slice (allocators keep what they reached), and how that
        was found."""
        if row.gpu_uuid is None:
            return {"device_memory": None, "device_memory_method": "this row runs on the CPU"}
        used, method = nvml.process_memory(row.gpu_uuid, child.pid, used_before)
        return {"device_memory": used, "device_memory_method": method}


def _slug(row: Row) -> str:
    """The row as part of a file name."""
    return "-".join(re.sub(r"\W", "_", part) for part in row.job.row if part)


def _write_data(folder: Path, dataset: Dataset, plan: Plan) -> None:
    """The data set as workers read it: pixels and labels of both splits, and a normalized sample of real images."""
    recipe, request = plan.request.workload.recipe, plan.request
    size = min(len(dataset.train_y), max(SAMPLE, 4 * request.batch_size))
    chosen = np.random.default_rng(request.seed).permutation(len(dataset.train_y))[:size]
    arrays: dict[str, Any] = {
        "train_x": dataset.train_x,
        "train_y": dataset.train_y,
        "test_x": dataset.test_x,
        "test_y": dataset.test_y,
        "sample_x": normalize(dataset.train_x[chosen], recipe.mean, recipe.std),
        "sample_y": dataset.train_y[chosen],
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)

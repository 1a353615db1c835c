"""The parent: runs a plan's jobs in workers, one at a time, and keeps what they measured.

Order: every row is certified, then fitted (sources before the runtimes that read their files), then measured in
rounds: a fresh process per row and round, those of a round alive together and taking turns (``block``). A row that
fails costs only itself and the rows that read its file.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.analysis.ratios import of_round, widest, with_ratios
from bench.errors import BenchError
from bench.machine import allocators, nvml
from bench.machine.host import available_memory, pinned
from bench.records.record import Record, Sample
from bench.runner import classification, page_faults
from bench.runner.interleaving import Block, Timing, alive_together
from bench.runner.plan import DEFAULT_BUDGET, FigurePlan, Plan, Row
from bench.runner.record_builder import Context, RowResult, sample, throughput, to_record
from bench.runner.worker_process import Child, WorkerError, worker_environment
from bench.worker.training import SAMPLE
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.preprocessing import normalize

INIT = "init.npz"
UNTRAINED = "not trained: only the speed of the seeded initial weights was asked for"


class Observer(Protocol):
    """Is told what begins and what a row came to; shows progress, keeps records."""

    def begins(self, what: str, done: int, total: int) -> None:
        """A job begins, or a part of one: ``done`` of ``total`` jobs are over."""

    def changed(self, records: Sequence[Record]) -> None:
        """A job of a row, or a round of all of them, has ended, whatever its outcome: this is all that is known of
        these rows now."""

    def trained(self, row: str, weights: Path) -> None:
        """A row was trained with the first seed; its weights are in this file (npz, canonical names) for now."""


class Silent:
    """An observer that shows and keeps nothing."""

    def begins(self, what: str, done: int, total: int) -> None:
        """Nothing is shown."""

    def changed(self, records: Sequence[Record]) -> None:
        """Nothing is kept."""

    def trained(self, row: str, weights: Path) -> None:
        """Nothing is kept."""


@dataclass
class Runner:
    """One run of a plan. ``results`` is whole at any moment; Ctrl-C loses the job that it interrupts, no more."""

    plan: Plan
    dataset: Dataset
    context: Context
    observer: Observer
    results: dict[str, RowResult] = field(default_factory=dict)
    """By row name."""
    schedule: list[list[str]] = field(default_factory=list)
    """Row names of every round that has begun, in their order."""
    timing: Timing = field(default_factory=Timing)
    trains: bool = True
    """False: the seeded initial weights are exported and timed as they are."""
    _held: dict[str, int] = field(default_factory=dict)
    _too_large: dict[tuple[str, str], int] = field(default_factory=dict)
    _done: int = 0

    def run(self) -> None:
        """Do everything. KeyboardInterrupt passes through, with unfinished rows marked ``interrupted``."""
        for row in self.plan.rows:
            source = None if row.source is None else self.results[row.source.name]
            self.results[row.name] = RowResult(row, self.plan, source)
            if row.problem is not None:
                self.results[row.name].fail(*row.problem)
                self._report([row])
        self._began = time.monotonic()
        placement = self.plan.request.placement
        with tempfile.TemporaryDirectory(prefix="evenbench-") as folder, pinned(placement.parent_cpus):
            try:
                self._scratch = Path(folder)
                self._write_data()
                self._jobs()
            except KeyboardInterrupt:
                self._interrupted()
                raise
            finally:
                self.timing.wall = time.monotonic() - self._began

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
            for number in range(self.trainings(row)):
                phase = "fit" if number == 0 else f"fit {number + 1}/{self.trainings(row)}"
                self._guarded(row, phase, partial(self._fit, number=number))
        self._measure()

    def trainings(self, row: Row) -> int:
        """How often a row is trained."""
        return 0 if "fit" not in row.tasks else self.plan.request.seeds if row.asked and self.trains else 1

    def _measure(self) -> None:
        """Rounds of all rows, as many as the plan asks for and the precision target needs."""
        while len(self.schedule) < self.plan.rounds or self._wants_more():
            begin = time.monotonic()
            self._round(len(self.schedule))
            self._last_round = time.monotonic() - begin
        self._try_arena()

    def _wants_more(self) -> bool:
        """Whether the ratios are not yet as narrow as asked for, and the budget has room for one more round."""
        request = self.plan.request
        if request.precision_target is None:
            return False
        spent = time.monotonic() - self._began
        if spent + self._last_round > (request.budget or DEFAULT_BUDGET):
            return False
        reached = widest(
            with_ratios([to_record(self.results[r.name], self.context) for r in self.plan.rows if r.asked])
        )
        return reached is not None and reached[0] > request.precision_target

    def _round(self, number: int) -> None:
        """A block of all rows that are still ok; it counts for a row only when its worker came to its end."""
        order = self.plan.order(number)
        self.schedule.append([row.name for row in order])
        rows = [row for row in order if self.results[row.name].status == "ok"]
        boards = {row.gpu_uuid: nvml.free_memory(row.gpu_uuid) or 0 for row in rows if row.gpu_uuid is not None}
        for group in alive_together(rows, self._held, available_memory(), boards):
            what = f"measure {number + 1}/{max(self.plan.rounds, number + 1)}"
            for name, outcome in self._measured(group, what).items():
                self._keep(self.results[name], outcome)
        self._report(rows)
        self._done += len(order)

    def _measured(self, group: Sequence[Row], what: str) -> dict[str, dict[str, Any] | WorkerError]:
        """A block of these rows; one whose worker was killed at a batch that did not fit is measured again without."""
        block = self._block(what)
        outcomes: dict[str, dict[str, Any] | WorkerError] = {}
        rows: Sequence[Row] = group
        while rows:
            before = dict(self._too_large)
            outcomes |= block.measure(rows, self.plan.figures, self._says(what))
            narrowed = {name for (name, _), _ in self._too_large.items() - before.items()}
            rows = [row for row in rows if row.name in narrowed and isinstance(outcomes[row.name], WorkerError)]
        return outcomes

    def _keep(self, result: RowResult, outcome: dict[str, Any] | WorkerError) -> None:
        if isinstance(outcome, WorkerError):
            result.fail(outcome.status, outcome.reason, outcome.log)
        else:
            try:
                self._ended(result.row, outcome["finished"])
                result.rounds.append(outcome)
            except WorkerError as error:
                result.fail(error.status, error.reason)

    def _block(self, kind: str) -> Block:
        request, slices = self.plan.request, self.plan.request.placement.profile.slices
        return Block(
            lambda row: self._spawn(row, kind),
            self._measure_request,
            request.timeout,
            slices,
            self.timing,
            self._too_large,
        )

    def _says(self, what: str) -> Callable[[str], None]:
        return lambda part: self.observer.begins(f"{part}: {what}", self._done, self._total)

    def _try_arena(self) -> None:
        """Whether glibc's arena settings make a row faster that spends its time on page faults."""
        for row in self.plan.rows:
            result = self.results[row.name]
            figure = page_faults.worst(to_record(result, self.context), self.plan.figures) if row.asked else None
            if figure is not None:
                try:
                    result.arena.append((figure, [self._arena_pair(row, figure, i) for i in range(len(self.schedule))]))
                except WorkerError as error:
                    result.arena_error = f"{error.status}: {error.reason}"
                self._report([row])

    def _arena_pair(self, row: Row, figure: FigurePlan, number: int) -> float:
        """Ratio of the images/s of two workers that take turns, with the settings over without."""
        job = row.job.model_copy(update={"allocator": allocators.ARENA})
        twin = replace(row, name=f"{row.name} --allocator arena", job=job)
        what = f"allocator {number + 1}/{len(self.schedule)}"
        pair = [row, twin] if number % 2 else [twin, row]
        samples: list[Sample] = []
        outcomes = self._block(what).measure(pair, [figure], self._says(what))
        for side in (twin, row):
            outcome = outcomes[side.name]
            if isinstance(outcome, WorkerError):
                raise outcome
            samples.append(sample(number, outcome["figures"][0][1], throughput, keep=True))
        return of_round(figure.name, *samples)

    def _guarded(self, row: Row, phase: str, job: Callable[[Row, RowResult], None]) -> None:
        result = self.results[row.name]
        if result.status == "ok" and row.source is not None:
            self._inherit(row, result)
        if result.status == "ok":
            self._says(phase)(row.name)
            try:
                job(row, result)
            except WorkerError as error:
                result.fail(error.status, error.reason, error.log)
            except OSError as error:
                result.fail("failed", f"{phase}: {error}")
            self._report([row])
        self._done += 1

    @property
    def _total(self) -> int:
        fits = sum(self.trainings(row) for row in self.plan.rows)
        rounds = max(self.plan.rounds, len(self.schedule))
        return len(self.plan.rows) + fits + rounds * len(self.plan.order(0))

    def _inherit(self, row: Row, result: RowResult) -> None:
        """A runtime's row ends with its source's export."""
        source = result.source
        assert source is not None
        export = source.fitted.get("export") if source.fitted else None
        if export is None:
            excusable = source.status in ("unavailable", "unsupported")
            reason = f"no ONNX file: {source.label} is {source.status}: {source.error}"
            result.fail(source.status if excusable else "failed", reason)
            self._report([row])
        elif export["status"] != "ok":
            result.fail(export["status"], f"no ONNX file: {source.label}: {export['reason']}")
            self._report([row])

    def _report(self, rows: Sequence[Row]) -> None:
        self.observer.changed([to_record(self.results[row.name], self.context) for row in rows if row.asked])

    def _interrupted(self) -> None:
        stopped = []
        for row in self.plan.rows:
            result = self.results[row.name]
            unfinished = len(result.rounds) < self.plan.rounds
            if result.status == "ok" and row.asked and unfinished:
                result.fail("interrupted", "stopped by the user")
                stopped.append(row)
        self._report(stopped)

    def _spawn(self, row: Row, kind: str) -> Child:
        log = self._scratch / f"{_slug(row.name)}-{_slug(kind)}.log"
        environment = worker_environment(row, self._scratch)
        try:
            return Child(row.python, environment, log)
        except OSError as error:
            raise WorkerError("unavailable", f"cannot start {row.python}: {error.strerror}") from error

    def _ended(self, row: Row, told: dict[str, Any]) -> None:
        """Keep what a worker tells at its end for later decisions: the memory it held, where its time went."""
        try:
            self.timing.add(told["phases"])
            self._held[row.name] = max(self._held.get(row.name, 0), told["held"])
        except (KeyError, TypeError, AttributeError) as error:
            raise WorkerError("failed", f"the worker's answer does not hold: {error}") from error

    def _folder(self, row: Row) -> Path:
        folder = self._scratch / f"{_slug(row.label)}-fit"
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
            "recipe": recipe.to_dict(),
            "frozen": sorted(self.plan.request.frozen),
            "init": None if self.plan.request.init is None else str(self._scratch / INIT),
            "data": str(self._scratch),
            "first_batch": self.plan.request.first_batch,
        }
        if row.source is not None:
            folder = self._folder(row.source)
            request |= {"onnx": str(folder / "model.onnx"), "source_logits": str(folder / "logits.npy")}
            if job.precision != row.source.job.precision:
                request["converted"] = str(self._folder(row) / "model.onnx")
        return request

    def _certify(self, row: Row, result: RowResult) -> None:
        result.untrained = "" if self.trains else UNTRAINED
        folder = self._folder(row)
        result.certified = self._ask_one(row, "certify", {**self._common(row), "out": str(folder)})
        if row.source is not None and self.trains:
            result.scores = self._scores(folder)

    def _fit(self, row: Row, result: RowResult, number: int = 0) -> None:
        """The training of the ``number``-th seed; what is exported and timed is the first one's."""
        folder = self._folder(row)
        if number:
            folder = folder / str(number)
            folder.mkdir(exist_ok=True)
        request = {**self._common(row), "out": str(folder), "exports": number == 0}
        request |= {"seed": row.job.seed + number, "target_accuracy": self.plan.request.target_accuracy}
        if not self.trains:
            request["recipe"] = {**request["recipe"], "epochs": 0}
        result.fits.append(self._ask_one(row, "fit", request))
        if number == 0 and self.trains:
            result.scores = self._scores(folder)
            self.observer.trained(row.name, folder / "weights.npz")

    def _scores(self, folder: Path) -> dict[str, Any]:
        logits = np.load(folder / "logits.npy", allow_pickle=False)
        return classification.scores(logits, self.dataset.test_y, self.dataset.classes)

    def _ask_one(self, row: Row, command: str, request: dict[str, Any]) -> dict[str, Any]:
        """The answer of a fresh worker to its one request."""
        used_before = None if row.gpu_uuid is None else nvml.used_memory(row.gpu_uuid)
        with self._spawn(row, command) as child:
            answer = child.ask(command, self.plan.request.timeout, **request)
            if row.gpu_uuid is not None:
                growth = (nvml.used_memory(row.gpu_uuid) or 0) - (used_before or 0)
                key = f"{row.name}@{row.gpu_uuid}"
                self._held[key] = max(self._held.get(key, 0), growth)
        self._ended(row, answer)
        return answer

    def _measure_request(self, row: Row) -> dict[str, Any]:
        request = self._common(row)
        if "fit" in row.tasks:
            request["weights"] = str(self._folder(row) / "weights.npz")
        return request


def _slug(name: str) -> str:
    """A row's name as part of a file name."""
    return re.sub(r"\W+", "_", name)


def _write_data(folder: Path, dataset: Dataset, plan: Plan) -> None:
    """The data set as workers read it: pixels and labels of both splits, and a normalized sample of real images."""
    recipe, request = plan.request.workload.recipe, plan.request
    size = min(len(dataset.train_y), max(SAMPLE, 4 * max(request.batch_sizes)))
    trained = len(dataset.train_y) - recipe.held_out(len(dataset.train_y))
    chosen = np.random.default_rng(request.seed).permutation(trained)[:size]
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
    if request.init is not None:
        weights: dict[str, Any] = request.init
        np.savez(folder / INIT, **weights)

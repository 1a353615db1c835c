"""The scratch folder of a run: the files of its workers, and how workers are spawned."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from filelock import FileLock, Timeout

import backends
from backends.base import SUFFIXES, Images, Labels, model_file
from backends.model import ModelSpec
from bench.errors import BenchError
from bench.machine import nvml, reaper, speed_variables, turn
from bench.machine.host import pinned
from bench.machine.limits import Limits
from bench.runner.image_files import FOLDER, PictureFiles
from bench.runner.judges import timed_batches
from bench.runner.judges.file_certificate import FileJudge
from bench.runner.judges.timed_outputs import TimedOutputs
from bench.runner.judges.timed_training import TimedTraining
from bench.runner.plan import Plan, Row
from bench.runner.timing import Timing
from bench.runner.worker_environment import TEMPORARY, worker_environment
from bench.runner.worker_process import WorkerError, WorkerProcess
from bench.worker.group import parts_of, processes_of
from bench.worker.protocol import EXPECTED, Evaluation, Expect, Prepare, Request, Work, WorkerReport, certified_batch
from bench.worker.reference_outputs import Expected
from bench.worker.training import SAMPLE
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.preprocessing import normalize


class _Reports(Protocol):
    """A reply that ends with a report."""

    @property
    def report(self) -> WorkerReport: ...


PREFIX = "evenbench-"
"""Of the scratch folders' names."""
OWNER = "owner.lock"
"""The file in a scratch folder that its run holds locked."""
KEPT_SUFFIXES = {".npy", ".npz", ".png", *SUFFIXES.values()}
"""Of the files that no worker but their own may change."""
COPIES = 20
"""Of a model's weights that a row has in scratch at most: of its certificate, watched steps and closing steps, the
trained weights, the exported file and its conversion."""
USUAL_FILE = 2**30
"""Bytes of a file that a worker of a small model may write."""
LIFE_SLACK, LIFE_SHARE = 1.0, 0.05
"""Seconds, and share of its life, by which a worker's clock may differ from the parent's: answers wait for a core."""
JUST_BEGUN = 60.0
"""Seconds in which a run may have made its folder and not yet locked it."""
Reply = TypeVar("Reply", bound=_Reports)


class Inputs(Protocol):
    """The inputs of a run's workers: a data set's images, or random inputs for a user's file."""

    def write(self, folder: Path, plan: Plan) -> None:
        """Write the files that workers read into the scratch folder."""

    def bytes(self, plan: Plan) -> int:
        """Bytes of these files, about."""

    def files(self, folder: Path, row: Row) -> dict[str, Any]:
        """The fields of a row's ``Work`` that name these files."""

    def sample(self, plan: Plan) -> tuple[Images, Labels] | None:
        """The normalized images for timing and certificates, and their labels; None: the inputs are of a user's file,
        and what their outputs must be is not known here."""

    def pictures(self, plan: Plan) -> PictureFiles | None:
        """The image files that input pipelines read; None: none is timed."""


@dataclass(frozen=True)
class DatasetInputs:
    """Pixels and labels of both splits, a normalized sample of images, and the run's starting weights, if any."""

    dataset: Dataset

    def write(self, folder: Path, plan: Plan) -> None:
        """Write ``.npy`` files, which workers map into memory: no labels of the test split, nor of the images that the
        recipe holds out."""
        request, data = plan.request, self.dataset
        trained = len(data.train_y) - request.workload.recipe.held_out(len(data.train_y))
        sample_x, sample_y = self.sample(plan)
        arrays: dict[str, Any] = {
            "train_x": data.train_x,
            "train_y": data.train_y[:trained],
            "test_x": data.test_x,
            "sample_x": sample_x,
            "sample_y": sample_y,
        }
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        if request.init is not None:
            weights: dict[str, Any] = request.init
            np.savez(folder / "start.npz", **weights)

    def bytes(self, plan: Plan) -> int:
        """Bytes of the pixels, labels and sample."""
        data, (sample, labels) = self.dataset, self.sample(plan)
        return sum(array.nbytes for array in (data.train_x, data.train_y, data.test_x, sample, labels))

    def sample(self, plan: Plan) -> tuple[Images, Labels]:
        """Random images of the training split, without those that are held out."""
        recipe, request, data = plan.request.workload.recipe, plan.request, self.dataset
        size = min(len(data.train_y), max(SAMPLE, 4 * max(request.batch_sizes)))
        trained = len(data.train_y) - recipe.held_out(len(data.train_y))
        chosen = np.random.default_rng(request.seed).permutation(trained)[:size]
        return normalize(data.train_x[chosen], recipe.mean, recipe.std), data.train_y[chosen]

    def pictures(self, plan: Plan) -> PictureFiles | None:
        """Random images of the training split."""
        request = plan.request
        if "input" not in request.tasks:
            return None
        held_out = request.workload.recipe.held_out(len(self.dataset.train_y))
        return PictureFiles.of(self.dataset, held_out, request.seed)

    def files(self, folder: Path, row: Row) -> dict[str, Any]:
        """The starting weights and the image files, if there are any."""
        start, images = folder / "start.npz", folder / FOLDER
        return {"start": start if start.exists() else None, "images": images if images.exists() else None}


class Workspace:
    """The scratch folder, the spawning of workers and their requests.

    ``held_bytes``: peak bytes of earlier workers; host memory by row id, GPU memory by ``id@uuid``.
    """

    def __init__(self, plan: Plan, inputs: Inputs, timing: Timing | None = None) -> None:
        self.plan = plan
        self.timing = timing or Timing()
        self.held_bytes: dict[str, int] = {}
        self.first_batches: dict[str, int] = {}
        """By ``Row.fit_id``: the batch size of the first call, where a user's file does not take the usual one."""
        self.file_judge = FileJudge()
        self._inputs = inputs
        self._expected: dict[int, Expected] = {}
        """By the parts in which a batch is normalized."""

    @cached_property
    def timed_outputs(self) -> TimedOutputs | None:
        """The judge of outputs of timed steps; None: of a user's file nobody knows what they must be."""
        model, sample = self.plan.request.workload.model, self._inputs.sample(self.plan)
        return TimedOutputs(model, sample[0]) if sample is not None and isinstance(model, ModelSpec) else None

    @cached_property
    def timed_training(self) -> TimedTraining | None:
        """The judge of training steps that follow the timed ones; None: a user's file is not trained."""
        request, sample = self.plan.request, self._inputs.sample(self.plan)
        if sample is None or not isinstance(request.workload.model, ModelSpec):
            return None
        recipe = request.workload.recipe
        training = replace(recipe.training, frozen=frozenset(request.frozen))
        return TimedTraining(request.workload.model, training, *sample)

    @cached_property
    def pictures(self) -> PictureFiles | None:
        """The image files that input pipelines read; None: none is timed."""
        return self._inputs.pictures(self.plan)

    def renew_files(self) -> None:
        """Change some of the image files."""
        if self.pictures is None:
            return
        with self.timing.judges(timed_batches.NAME):
            for path in self.pictures.renew(self.scratch):
                self._files[path] = _state(path)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Within this context no other timed command runs on this machine, the folder exists, with the inputs in it,
        and this process is off the workers' CPUs.

        Raises:
            BenchError: the data cannot be written.
        """
        used, told = tempfile.gettempdir(), os.environ.get("TMPDIR")
        if told and os.path.abspath(told) != used:
            print(f"note: TMPDIR={told} is no folder that can be written; scratch is in {used}", file=sys.stderr)
        remove_abandoned(Path(used))
        self._check_disk(Path(used))
        placement = self.plan.request.placement
        with (
            turn.taken(placement.lock, _tell) as found,
            tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder,
            FileLock(Path(folder) / OWNER),
            reaper.watching(),
        ):
            self.scratch = Path(folder)
            self.timing.turn = found.state
            self.timing.waited += found.waited
            with pinned(placement.parent_cpus):
                self._write_inputs()
                yield

    def _largest_file(self) -> int:
        """Bytes of a file that a worker may write: a log without end would fill the disk."""
        model = self.plan.request.workload.model
        read = [row.file.bytes for row in self.plan.rows if row.file is not None]
        weights = 4 * model.parameters if isinstance(model, ModelSpec) else 0
        return USUAL_FILE + COPIES * max([weights, *read])

    def _check_disk(self, folder: Path) -> None:
        """Before anything is measured.

        Raises:
            BenchError: there is too little space for the scratch folder.
        """
        model = self.plan.request.workload.model
        models = len(self.plan.rows) * COPIES * 4 * model.parameters if isinstance(model, ModelSpec) else 0
        needed, free = self._inputs.bytes(self.plan) + models, shutil.disk_usage(folder).free
        if needed > free:
            raise BenchError(
                f"the run needs about {needed / 1e9:.2g} GB of scratch, {folder} has {free / 1e9:.2g} GB free;"
                " set TMPDIR to a folder with more"
            )

    def _write_inputs(self) -> None:
        try:
            self._write_to(self.scratch)
            self._files = self._snapshot()
        except OSError as error:
            reason = error.strerror or error
            raise BenchError(
                f"cannot write the data for the workers to {self.scratch}: {reason}; set TMPDIR"
            ) from error

    def _write_to(self, folder: Path) -> None:
        self._inputs.write(folder, self.plan)
        if self.pictures is not None:
            self.pictures.write(folder)

    def expected(self, row: Row) -> Expected:
        """The reference's outputs for the certificates, computed once, by a worker of this interpreter that loads no
        backend. They are kept in this process only; the workers get the inputs.

        Raises:
            WorkerError: it failed, such as by too little memory.
        """
        model = self.plan.request.workload.model
        parts = parts_of(row.job, isinstance(model, ModelSpec) and model.normalizes)
        if parts not in self._expected:
            file = self.scratch / EXPECTED
            with self.spawn(replace(row, python=sys.executable, side=None), "reference", limited=False) as worker:
                request = Expect(work=self.work(row), out=file, parts=parts)
                computed = worker.ask(request, self.plan.request.timeout)
            self.timing.add({"reference": computed.seconds})
            self._expected[parts] = Expected.read(file)
            file.unlink()
            self._expected[parts].batch.write(self.scratch / certified_batch(parts))
            self._files = self._snapshot()
        return self._expected[parts]

    def damage(self, row: Row) -> str:
        """Which files of the run a row's worker changed that are not its own; empty if none. The data are restored."""
        now, own = self._snapshot(), self.folder(row)
        changed = [path for path, state in self._files.items() if now.get(path) != state and own not in path.parents]
        if changed:
            with tempfile.TemporaryDirectory(dir=self.scratch.parent) as folder:
                self._write_to(Path(folder))
                for path in changed:
                    again = Path(folder) / path.relative_to(self.scratch)
                    if again.exists():
                        again.replace(path)  # a new file: one that is open elsewhere stays as it is
        self._files = self._snapshot()
        names = ", ".join(str(path.relative_to(self.scratch)) for path in sorted(changed))
        return f"self-check own_files: it changed files that are not its own: {names}" if changed else ""

    def discard(self, path: Path) -> None:
        """Remove a file of a worker that is of no more use."""
        path.unlink(missing_ok=True)
        self._files.pop(path, None)

    def _snapshot(self) -> dict[Path, tuple[int, int]]:
        """Inode and time of the last change of every data file and model: the kernel sets that time, no process can."""
        found = {}
        for folder, folders, names in os.walk(self.scratch):
            if TEMPORARY in folders:  # of many files, and of no row
                folders.remove(TEMPORARY)
            for path in (Path(folder, name) for name in names if os.path.splitext(name)[1] in KEPT_SUFFIXES):
                found[path] = _state(path)
        return found

    def folder(self, row: Row) -> Path:
        """The folder of a row's weights, logits and model files; a twin on another allocator shares it."""
        folder = self.scratch / f"{_slug(row.fit_id)}-fit"
        folder.mkdir(exist_ok=True)
        return folder

    def spawn(self, row: Row, kind: str, limited: bool = True) -> WorkerProcess:
        """Start a fresh worker of a row; ``kind`` names its log. ``limited``: the user's limits of memory and CPU time
        hold.

        Raises:
            WorkerError: the interpreter cannot be started.
        """
        log = self.scratch / f"{_slug(row.id)}-{_slug(kind)}.log"
        try:
            placement = self.plan.request.placement
            allowed = Limits(file=placement.file or self._largest_file())
            if limited:
                allowed = replace(allowed, memory=placement.memory, cpu=placement.cpu_quota)
            several = processes_of(row.job) > 1
            return WorkerProcess(row.python, worker_environment(row, self.scratch), log, allowed, several)
        except OSError as error:
            raise WorkerError("unavailable", f"cannot start {row.python}: {error.strerror}") from error

    def work(self, row: Row) -> Work:
        """The part of a request that all jobs of a row share."""
        request = self.plan.request
        model = request.workload.model
        files: dict[str, Any] = self._inputs.files(self.scratch, row)
        if row.source is not None:
            assert row.reads is not None, "a row with a source reads its file"
            name = model_file(row.reads)
            files["file"] = self.folder(row.source) / name
            if row.job.precision != row.source.job.precision or backends.describe(row.job.backend).COMPILES:
                files["converted"] = self.folder(row) / name
        return Work(
            job=row.job,
            model=model.to_dict() if isinstance(model, ModelSpec) else None,
            recipe=asdict(request.workload.recipe),
            frozen_weights=tuple(sorted(request.frozen)),
            data=self.scratch,
            first_batch=row.first_batch,
            **files,
        )

    def prepare(self, row: Row) -> Prepare:
        """The first request of a measuring worker."""
        fitted = row if "fit" in row.tasks else row.source
        weights = None if fitted is None else self.folder(fitted) / "weights.npz"
        return Prepare(work=self.work(row), weights=weights, batch=self.first_batches.get(row.fit_id))

    def ask_fresh_worker(
        self, row: Row, kind: str, request: Request[Reply], hear: Callable[[Evaluation], None] | None = None
    ) -> Reply:
        """Start a fresh worker, send it one request, and return the reply, which holds a ``WorkerReport``. ``hear``: as
        of ``WorkerProcess.ask``.

        Raises:
            WorkerError: see ``WorkerProcess.ask``.
        """
        used_before = None if row.gpu_uuid is None else nvml.used_memory(row.gpu_uuid)
        with self.spawn(row, kind) as worker:
            reply = worker.ask(request, self.plan.request.timeout, hear)
            if problem := wrong_life(reply.report, time.monotonic() - worker.spawned_at):
                raise WorkerError("failed", problem)
            if damage := self.damage(row):
                raise WorkerError("failed", damage)
            if row.gpu_uuid is not None:
                growth = (nvml.used_memory(row.gpu_uuid) or 0) - (used_before or 0)
                self.keep_peak(f"{row.id}@{row.gpu_uuid}", growth)
        self.keep_report(row, reply.report)
        return reply

    def keep_report(self, row: Row, report: WorkerReport) -> None:
        """Add a finished worker's report to the timing and to the peak bytes."""
        self.timing.add(report.phases)
        self.keep_peak(row.id, report.peak_rss)

    def keep_peak(self, key: str, held: int) -> None:
        """Remember the most bytes that a row's workers held (``held_bytes``)."""
        self.held_bytes[key] = max(self.held_bytes.get(key, 0), held)


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_ino, state.st_ctime_ns


def wrong_life(report: WorkerReport, elapsed: float) -> str:
    """Why a worker's own times cannot be: ``elapsed`` seconds have passed since it was spawned, by the parent's clock;
    empty if they can. Both clocks are monotonic ones of the same machine."""
    if os.environ.get(speed_variables.SIMULATED_TIME):
        return ""
    longest = max([report.life, *report.phases.values()])
    if longest <= elapsed + LIFE_SLACK and report.life >= elapsed * (1 - LIFE_SHARE) - LIFE_SLACK:
        return ""
    says = f"the worker says {report.life:,.1f} s of life, {longest:,.1f} s at most of a phase"
    return f"self-check clock: {says}; {elapsed:,.1f} s have passed"


def _tell(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the scratch of runs that were killed: a living run holds the lock of its own, in any container."""
    for scratch in folder.glob(f"{PREFIX}*"):
        owner = scratch / OWNER
        try:
            if time.time() - owner.stat().st_mtime < JUST_BEGUN:
                continue
            with FileLock(owner, timeout=0):
                shutil.rmtree(scratch, ignore_errors=True)
        except (OSError, Timeout):
            continue  # of a living run, of another user, or of a version without locks


def _slug(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r"\W+", "_", name)

"""What the commands that measure share: the request of their options, its plan and data, the tables of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bench import quantities
from bench.cli.options import DeviceOptions, InterpreterOptions, PlaceOptions, RepeatOptions
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.runner.plan import Plan, Request
    from bench.runner.run import FinishedRun
    from bench.workloads.datasets.dataset import Dataset
    from bench.workloads.workload import Workload


def request(
    backends: str,
    workload: Workload,
    variants: tuple[str | None, str | None],
    device: DeviceOptions,
    place: PlaceOptions,
    interpreters: InterpreterOptions,
    repeat: RepeatOptions,
    profile: str = "deploy",
) -> Request:
    """What these options ask for; the command adds its own. ``backends``, ``variants``: lists as typed; the modes and
    the precisions, None for each backend's first.

    Raises:
        UsageError: an option that cannot be read.
    """
    from bench.runner.plan import DEFAULT, Request

    modes, precisions = (quantities.split_commas(each or DEFAULT) for each in variants)
    return Request(
        backends=quantities.split_commas(backends),
        workload=workload,
        modes=modes,
        precisions=precisions,
        devices=device.device or "auto",
        placement=place.placement(profile),
        seed=repeat.seed,
        timeout=repeat.timeout,
        data_dir=device.data_dir,
        pythons=interpreters.pythons,
    )


def plan_on_data(request: Request) -> tuple[Plan, Dataset]:
    """The plan of a request, and its data set, for whose images the model is made.

    Raises:
        UsageError: an unknown name (before anything is downloaded), or data that cannot be had or do not fit.
    """
    from bench.runner.planner import make_plan
    from bench.workloads.datasets import registry

    make_plan(request)
    dataset = registry.load(request.workload.dataset, request.data_dir)
    workload = request.workload.on(dataset)
    _check_memory(workload, len(dataset.train_y))
    return make_plan(replace(request, workload=workload)), dataset


def shown(finished: FinishedRun, format_name: str) -> int:
    """Print the tables of a run that has ended; its exit code."""
    from reports.content import tables
    from reports.render.terminal import show, with_notes

    notes = [f"run {finished.run.name} in {finished.stored_in}"]
    if finished.goes_on:
        notes.append(f"it is not whole: {finished.goes_on} does what is missing")
    show(with_notes(tables.document(finished.run), *notes), format_name)
    return finished.exit_code


def _check_memory(workload: Workload, images: int) -> None:
    """Raise UsageError if the reference of the certificate needs more memory than there is."""
    from backends.model import ModelSpec
    from bench.machine.host import available_memory
    from bench.worker.reference_outputs import bytes_needed

    assert isinstance(workload.model, ModelSpec), "a file has judges of its own"
    needed, free = bytes_needed(workload.model, images), available_memory()
    if needed > free:
        sides = "x".join(map(str, workload.model.input_shape))
        raise UsageError(
            f"certifying {workload.model.name} on {sides} images needs about {needed / 1e9:.1f} GB, this machine has"
            f" {free / 1e9:.1f} GB free; take smaller images or a smaller model"
        )

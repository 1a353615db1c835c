"""From the options of ``check``, ``bisect`` and ``baseline save`` to the job that is measured, and how it is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import quantities
from bench.cli import options
from bench.cli.options import (
    DeviceOptions,
    GateOptions,
    MetricOptions,
    PlaceOptions,
    RepeatOptions,
    RowOptions,
    WorkloadOptions,
)
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.gate.check_job import CheckJob
    from bench.gate.gated_metric import Criteria
    from bench.runner.plan import Request


def given(rows: RowOptions, workload: WorkloadOptions, device: DeviceOptions, metrics: MetricOptions) -> dict[str, Any]:
    """The fields of a ``CheckJob`` that the user gave.

    Raises:
        UsageError: ``--workload`` beside one of the three that it names, an unknown metric, task or boundary, several
            batch sizes.
    """
    from bench.gate.gated_metric import NAMES
    from bench.workloads.recipe import parse_changes

    values: dict[str, Any] = {**workload.names, "devices": device.device}
    lists = {"backends": rows.backend, "modes": rows.mode, "precisions": rows.precision, "metrics": metrics.chosen}
    values |= {name: None if text is None else quantities.split_commas(text) for name, text in lists.items()}
    values["changes"] = None if workload.changes is None else parse_changes(workload.changes)
    values["task"] = None if rows.task is None else options.one_of("task", rows.task, options.TASKS)
    if metrics.boundary is not None:
        values["boundary"] = options.one_of("boundary", metrics.boundary, options.BOUNDARIES)
    for name in values["metrics"] or ():
        options.one_of("metric", name, NAMES)
    if rows.batch_size is not None:
        sizes = options.batch_sizes(rows.batch_size)
        if len(sizes) > 1:
            raise UsageError(f"--batch-size {rows.batch_size}: a check judges one batch size; give one number")
        values["batch_size"] = sizes[0]
    return options.given_fields(values)


def criteria(job: CheckJob, gate: GateOptions, budget: str, seeds: int = 1) -> Criteria:
    """How the job is judged.

    Raises:
        UsageError: a margin or time that is none, or seeds without accuracy.
    """
    from bench.gate import margins
    from bench.gate.gated_metric import Criteria

    if seeds > 1 and "accuracy" not in job.metrics:
        raise UsageError("--seeds repeats the training for accuracy; add --metric accuracy")
    return Criteria(
        metrics=job.metrics,
        boundary=job.boundary,
        margins=margins.read(gate.margin or [], gate.margins),
        budget=quantities.seconds("--budget", budget),
        seeds=seeds,
    )


def request(
    job: CheckJob,
    profile: str,
    device: DeviceOptions,
    place: PlaceOptions | None = None,
    repeat: RepeatOptions | None = None,
    pythons: dict[str, str] | None = None,
) -> Request:
    """What the job asks of the planner.

    Raises:
        UsageError: an unknown name, profile or place.
    """
    from bench.runner.plan import Request

    repeat = repeat or RepeatOptions()
    return Request(
        backends=job.backends,
        workload=job.workload,
        modes=job.modes,
        precisions=job.precisions,
        task=job.task,
        devices=job.devices,
        batch_sizes=(job.batch_size,),
        placement=(place or PlaceOptions()).placement(profile),
        seed=repeat.seed,
        timeout=repeat.timeout,
        data_dir=device.data_dir,
        pythons=pythons or {},
    )

"""``bench explain``: which operators and layers a row's step is made of."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from bench.cli import measuring, options
from bench.cli.grouped import command
from bench.cli.options import DeviceOptions, InterpreterOptions, PlaceOptions, RepeatOptions, WorkloadOptions
from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from bench.runner.plan import Plan, Row

TASKS = ("train", "infer")


@dataclass(frozen=True)
class StepOptions:
    """Which step."""

    PANEL: ClassVar = "What to run"

    task: Annotated[str, typer.Option(help="train or infer.")] = "infer"
    batch_size: Annotated[int, typer.Option(min=1, help="Images of a step.")] = 128
    mode: Annotated[str | None, typer.Option(help="How it runs (default: the backend's first mode).")] = None
    precision: Annotated[str | None, typer.Option(help="Default: the backend's first precision.")] = None
    processes: Annotated[int, typer.Option(min=2, help="Fresh processes under the profiler.")] = 5


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    command(app, "explain")(explain)


def explain(
    row: Annotated[
        str, typer.Argument(metavar="ROW", help="A backend, or a runtime with its source: onnxruntime<-keras.")
    ],
    step: StepOptions,
    workload: WorkloadOptions,
    device: DeviceOptions,
    place: PlaceOptions,
    interpreters: InterpreterOptions,
    repeat: RepeatOptions,
    format_name: options.Format = "simple",
) -> None:
    """Show which layers and operators a row's step is made of, by its framework's own profiler.

    Exit code: 0; 2 usage, or the row cannot run or has no profiler; 130 on Ctrl-C.
    """
    from bench.runner.explaining import explain_row
    from bench.values import Missing
    from reports.content.operators import document
    from reports.render.terminal import show

    backend, _, source = (part.strip() for part in row.partition("<-"))
    common = measuring.request(
        f"{backend},{source}", workload.named(), (step.mode, step.precision), device, place, interpreters, repeat
    )
    task = options.one_of("task", step.task, TASKS)
    request = replace(common, task=task, batch_sizes=(step.batch_size,), rounds=1)
    plan, dataset = measuring.plan_on_data(request)
    options.end_as_ctrl_c()
    chosen = _chosen(plan, backend, source)
    try:
        explained = explain_row(plan, chosen, dataset, step.processes)
    except KeyboardInterrupt:
        sys.exit(options.INTERRUPTED)
    if isinstance(explained, Missing):
        raise BenchError(f"{chosen.name}: {explained.reason}")
    show(document(explained), format_name)


def _chosen(plan: Plan, backend: str, source: str) -> Row:
    """The row that was named.

    Raises:
        UsageError: none, or a runtime of several sources.
    """
    rows = [row for row in plan.rows if row.requested and row.job.backend == backend]
    if source:
        rows = [row for row in rows if row.job.source == source]
    if len(rows) != 1:
        names = ", ".join(f"{row.job.backend}<-{row.job.source}" for row in rows) or "none"
        raise UsageError(f"ROW {backend}{'<-' + source if source else ''} is not one row: {names}")
    (row,) = rows
    if row.problem is not None:
        raise BenchError(f"{row.name} is {row.problem[0]}: {row.problem[1]}")
    return row

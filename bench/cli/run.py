"""``bench run``: the main job."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from bench import quantities
from bench.cli import options
from bench.cli.grouped import command
from bench.cli.options import (
    DeviceOptions,
    InterpreterOptions,
    OutputOptions,
    PlaceOptions,
    RepeatOptions,
    RowOptions,
    WorkloadOptions,
)
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.records.record import Data
    from bench.runner.plan import Plan, Request
    from bench.runner.workspace import Inputs
    from bench.store.store import Store
    from bench.workloads.datasets.dataset import Dataset


@dataclass(frozen=True)
class FileOptions:
    """A file of the user's in place of a workload."""

    PANEL: ClassVar = "What to run"

    onnx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file of yours for the runtimes, instead of a workload.")
    ] = None
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT=SIDES", help="With --onnx: a shape left open, without the batch, such as x=3,224,224."
        ),
    ] = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """``INPUT=3,224,224`` entries by input.

        Raises:
            UsageError: another form.
        """
        sizes = {}
        for entry in self.input_shape or []:
            name, separator, text = entry.rpartition("=")
            sides = quantities.split_commas(text)
            if not (name and separator and sides and all(side.isdigit() and int(side) > 0 for side in sides)):
                raise UsageError(f"--input-shape {entry}: not INPUT=SIDES without the batch, such as x=3,224,224")
            sizes[name] = tuple(int(side) for side in sides)
        return sizes


@dataclass(frozen=True)
class StartOptions:
    """What training begins with."""

    PANEL: ClassVar = "What to run"

    init: Annotated[
        str | None, typer.Option(metavar="RUN[:ROW]", help="Begin with the weights that a stored run trained.")
    ] = None
    new_head: Annotated[bool, typer.Option("--new-head", help="With --init: draw the last dense layer anew.")] = False
    freeze: Annotated[bool, typer.Option("--freeze", help="With --init: train the last dense layer only.")] = False


@dataclass(frozen=True)
class CareOptions:
    """How often is measured and trained."""

    PANEL: ClassVar = "How carefully"

    profile: Annotated[str, typer.Option(help="deploy (as users run it) or precise (pinned, for small effects).")] = (
        "deploy"
    )
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Fresh processes per row (default: deploy 3, precise 5).")
    ] = None
    precision_target: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Add rounds until the ratios' half-width is this, such as 2%.")
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The most time for --precision-target, such as 90s, 5m (default: 5m)."),
    ] = None
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per row: accuracy with an interval, and a verdict.")] = 1
    accuracy_margin: Annotated[
        str, typer.Option(metavar="POINTS", help="Accuracies this near are the same, such as 2% or 0.02.")
    ] = "2%"
    target_accuracy: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Time training until this accuracy, such as 0.7 or 70%.")
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    command(app, "run")(run)


def run(
    workload: WorkloadOptions,
    file: FileOptions,
    start: StartOptions,
    rows: RowOptions,
    device: DeviceOptions,
    place: PlaceOptions,
    interpreters: InterpreterOptions,
    care: CareOptions,
    repeat: RepeatOptions,
    output: OutputOptions,
) -> None:
    """Certify, train, export and time backends on one workload, and tabulate them.

    Exit code: 0; 1 if a row that was asked for is not ok and comparable; 2 usage; 130 on Ctrl-C.
    """
    from bench.runner.plan import ALL, DEFAULT, Request

    _refuse_contradictions(file, start, care)
    request = Request(
        backends=quantities.split_commas(rows.backend or ALL),
        workload=workload.named(),
        modes=quantities.split_commas(rows.mode or DEFAULT),
        precisions=quantities.split_commas(rows.precision or DEFAULT),
        task=options.one_of("task", rows.task or "all", options.TASKS),
        devices=device.device or "auto",
        batch_sizes=options.batch_sizes(rows.batch_size),
        placement=place.placement(care.profile),
        rounds=care.rounds,
        precision_target=_share("--precision-target", care.precision_target),
        budget=None if care.budget is None else quantities.seconds("--budget", care.budget),
        freeze=start.freeze,
        seed=repeat.seed,
        seeds=care.seeds,
        accuracy_margin=quantities.fraction("--accuracy-margin", care.accuracy_margin),
        target_accuracy=_share("--target-accuracy", care.target_accuracy),
        timeout=repeat.timeout,
        data_dir=device.data_dir,
        pythons=interpreters.pythons,
    )
    if file.onnx is None:
        sys.exit(_run(request, start, output))
    of_training = start.init or care.target_accuracy or care.seeds > 1 or rows.task == "train"
    if workload != WorkloadOptions() or device.data_dir or of_training:
        raise UsageError("--onnx runs a file as it is: leave out what is for a workload or for training")
    sys.exit(_run_file(request, file.onnx, file.shapes, output))


def _refuse_contradictions(file: FileOptions, start: StartOptions, care: CareOptions) -> None:
    """Options that go together only."""
    if care.budget is not None and care.precision_target is None:
        raise UsageError("--budget bounds --precision-target; give both, or --rounds alone")
    if start.init is None and (start.new_head or start.freeze):
        option = "new-head" if start.new_head else "freeze"
        raise UsageError(f"--{option} goes with --init RUN, whose weights it keeps")
    if file.onnx is None and file.input_shape:
        raise UsageError("--input-shape goes with --onnx FILE, whose inputs it describes")


def _share(option: str, text: str | None) -> float | None:
    return None if text is None else quantities.fraction(option, text)


def _run(request: Request, start: StartOptions, output: OutputOptions) -> int:
    from bench.store.store import Store

    plan, dataset = options.plan_on_data(request)
    store = Store(output.store)
    if start.init is not None:
        plan = _started(plan, store, start.init, start.new_head)
    return _measured(plan, dataset, store, output.format)


def _run_file(request: Request, file: Path, shapes: dict[str, tuple[int, ...]], output: OutputOptions) -> int:
    from bench.runner import onnx_run
    from bench.store.store import Store
    from bench.workloads import onnx_file

    model = onnx_file.describe(file, shapes)
    plan, (dataset, data) = onnx_run.plan(request, model), onnx_run.data(model)
    return _measured(plan, dataset, Store(output.store), output.format, onnx_run.FileInputs(model), data)


def _measured(
    plan: Plan,
    dataset: Dataset,
    store: Store,
    format_name: str,
    inputs: Inputs | None = None,
    data: Data | None = None,
) -> int:
    """Run a plan and print its tables; the exit code."""
    from bench.runner import run as running
    from reports.content import tables
    from reports.render.terminal import show, with_notes

    options.end_as_ctrl_c()
    finished = running.run(plan, dataset, store, options.command_line(), inputs, data)
    stored = f"run {finished.run.name} in {finished.stored_in}"
    show(with_notes(tables.document(finished.run), stored), format_name)
    return finished.exit_code


def _started(plan: Plan, store: Store, init: str, new_head: bool) -> Plan:
    """The plan with another run's weights to begin with."""
    from backends.model import ModelSpec
    from bench.runner.planner import make_plan
    from bench.store import weights

    model = plan.request.workload.model
    assert isinstance(model, ModelSpec), "a file of the user's is not trained"
    whose, stored = weights.load_weights(store, init)
    kept = weights.starting_weights(model, stored, whose, new_head)
    return make_plan(replace(plan.request, init=kept, started_from=whose))

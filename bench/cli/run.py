"""``bench run``: the main job."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from bench import quantities
from bench.cli import measuring, options
from bench.cli.grouped import command
from bench.cli.options import (
    DeviceOptions,
    InterpreterOptions,
    OutputOptions,
    PlaceOptions,
    RepeatOptions,
    ResumeOptions,
    RowOptions,
    WorkloadOptions,
)
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.runner.plan import Plan, Request
    from bench.runner.run import Sitting
    from bench.store.store import Store
    from bench.workloads.onnx_inputs import InputOptions


@dataclass(frozen=True)
class FileOptions:
    """A file of the user's in place of a workload, and what is fed into it."""

    PANEL: ClassVar = "What to run"

    onnx: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A file of yours for the runtimes, instead of a workload; several are compared."
        ),
    ] = None
    input: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="With --onnx: real inputs by name, any number of samples.")
    ] = None
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT=SIDES", help="With --onnx: a shape left open, without the batch, such as x=3,224,224."
        ),
    ] = None
    input_range: Annotated[
        list[str] | None,
        typer.Option(metavar="INPUT=LOW..HIGH", help="With --onnx: drawn values, such as ids=0..30521 or rate=16000."),
    ] = None
    batch_axis: Annotated[
        list[str] | None,
        typer.Option(metavar="INPUT=SIDE", help="With --onnx: the side that is the batch, such as state=1, or none."),
    ] = None

    @property
    def inputs(self) -> InputOptions:
        """What the user says of the inputs.

        Raises:
            UsageError: an entry of another form.
        """
        from bench.workloads.onnx_inputs import InputOptions

        shapes = {
            name: tuple(int(side) for side in quantities.split_commas(text))
            for name, text in _entries(
                "input-shape", self.input_shape, r"\d+(\s*,\s*\d+)*", "x=3,224,224, without the batch"
            )
        }
        number = r"-?\d+(\.\d+)?"
        ranges = {}
        for name, text in _entries("input-range", self.input_range, rf"{number}(\.\.{number})?", "ids=0..30521"):
            low, _, high = text.partition("..")
            ranges[name] = (float(low), float(high or low))
            if ranges[name][0] > ranges[name][1]:
                raise UsageError(f"--input-range {name}={text}: the first number is above the second")
        axes = {
            name: -1 if text == "none" else int(text)
            for name, text in _entries("batch-axis", self.batch_axis, r"\d+|none", "state=1, or state=none")
        }
        return InputOptions(self.input, shapes, ranges, axes)


def _entries(option: str, entries: list[str] | None, form: str, example: str) -> list[tuple[str, str]]:
    """``INPUT=TEXT`` entries; the text must have this form (a regular expression)."""
    pairs = []
    for entry in entries or []:
        name, _, text = entry.rpartition("=")
        if not name or re.fullmatch(form, text.strip()) is None:
            raise UsageError(f"--{option} {entry}: not of the form {example}")
        pairs.append((name, text.strip()))
    return pairs


INPUT_WORKERS, MOST_WORKERS = "0,1,2", 1024


@dataclass(frozen=True)
class PipelineOptions:
    """The input pipelines."""

    PANEL: ClassVar = "What to run"

    input_workers: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help=f"With --task input: workers of the loaders, each number a row (default: {INPUT_WORKERS}).",
        ),
    ] = None

    def counts(self, task: str | None) -> tuple[int, ...]:
        """The numbers of workers; none if ``task`` times no pipelines.

        Raises:
            UsageError: not such numbers, or no pipeline is timed.
        """
        if task != options.INPUT:
            if self.input_workers is not None:
                raise UsageError("--input-workers goes with --task input, whose pipelines have them")
            return ()
        counts = []
        for text in quantities.split_commas(self.input_workers or INPUT_WORKERS):
            if not text.isdecimal() or int(text) > MOST_WORKERS:
                raise UsageError(f"--input-workers {text}: not a number from 0 to {MOST_WORKERS}")
            counts.append(int(text))
        return tuple(dict.fromkeys(counts))


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
        int | None, typer.Option(min=1, help="Fresh processes per row (default: 6, or more by --budget).")
    ] = None
    precision_target: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Add rounds until the ratios' half-width is this, such as 2%.")
    ] = None
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Time of the run that rounds fill, at least six, such as 90s, 5m"
            " (default: 60s and 24s for each row, which rounds have however long training takes;"
            " with --precision-target 5m).",
        ),
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


@dataclass(frozen=True)
class Chosen:
    """All options that decide what a run does: it can go on with them later."""

    workload: WorkloadOptions
    file: FileOptions
    start: StartOptions
    rows: RowOptions
    device: DeviceOptions
    place: PlaceOptions
    interpreters: InterpreterOptions
    care: CareOptions
    repeat: RepeatOptions
    pipeline: PipelineOptions = PipelineOptions()

    def request(self) -> Request:
        """What they ask for.

        Raises:
            UsageError: an option that cannot be read, or does not go with another.
        """
        from bench.runner.plan import ALL

        _refuse_contradictions(self.file, self.start, self.care)
        if self.file.onnx:
            _refuse_with_file(self.workload, self.start, self.rows, self.device, self.care)
        rows, care = self.rows, self.care
        common = measuring.request(
            rows.backend or ALL, self.workload.named(), (rows.mode, rows.precision),
            self.device, self.place, self.interpreters, self.repeat, care.profile,
        )  # fmt: skip
        return replace(
            common,
            task=options.one_of("task", rows.task or "all", (*options.TASKS, options.INPUT)),
            batch_sizes=options.batch_sizes(rows.batch_size),
            input_workers=self.pipeline.counts(rows.task),
            rounds=care.rounds,
            precision_target=_share("--precision-target", care.precision_target),
            budget=None if care.budget is None else quantities.seconds("--budget", care.budget),
            freeze=self.start.freeze,
            seeds=care.seeds,
            accuracy_margin=quantities.fraction("--accuracy-margin", care.accuracy_margin),
            target_accuracy=_share("--target-accuracy", care.target_accuracy),
        )


def run(
    workload: WorkloadOptions,
    file: FileOptions,
    start: StartOptions,
    rows: RowOptions,
    pipeline: PipelineOptions,
    device: DeviceOptions,
    place: PlaceOptions,
    interpreters: InterpreterOptions,
    care: CareOptions,
    repeat: RepeatOptions,
    resume: ResumeOptions,
    output: OutputOptions,
) -> None:
    """Certify, train, export and time backends on one workload, and tabulate them.

    Exit code: 0; 1 if a row that was asked for is not ok and comparable; 2 usage, or the store failed; 130 on Ctrl-C.
    """
    from bench.runner.run import Sitting
    from bench.store.store import Store

    chosen = Chosen(workload, file, start, rows, device, place, interpreters, care, repeat, pipeline)
    resume.check(chosen, "run")
    if resume.resume is None:
        request = chosen.request()
        sys.exit(_run(request, chosen, Store(output.store), output.format, Sitting()))
    store = Store(output.store)
    with options.going_on(store, resume.resume, "run", Chosen) as (name, first):
        sitting = Sitting(goes_on=name, anyway=resume.anyway)
        sys.exit(_run(first.request(), first, store, output.format, sitting))


def _refuse_contradictions(file: FileOptions, start: StartOptions, care: CareOptions) -> None:
    """Options that go together only."""
    if care.budget is not None and care.rounds is not None and care.precision_target is None:
        raise UsageError("--rounds is a number of rounds, --budget adds rounds until a time; give one")
    if start.init is None and (start.new_head or start.freeze):
        option = "new-head" if start.new_head else "freeze"
        raise UsageError(f"--{option} goes with --init RUN, whose weights it keeps")
    if not file.onnx:
        for option in ("input", "input_shape", "input_range", "batch_axis"):
            if getattr(file, option):
                name = option.replace("_", "-")
                raise UsageError(f"--{name} goes with --onnx FILE, whose inputs it describes")


def _refuse_with_file(
    workload: WorkloadOptions, start: StartOptions, rows: RowOptions, device: DeviceOptions, care: CareOptions
) -> None:
    """Name the options that make no sense for a user's file."""
    given = {
        "workload": workload.workload,
        "model": workload.model,
        "dataset": workload.dataset,
        "recipe": workload.recipe,
        "set": workload.changes,
        "data-dir": device.data_dir,
        "init": start.init,
        "target-accuracy": care.target_accuracy,
        "seeds": care.seeds > 1,
        "accuracy-margin": care.accuracy_margin != CareOptions().accuracy_margin,
        "precision": rows.precision,
        "task": rows.task in ("train", options.INPUT),
    }
    named = [f"--{name}" for name, value in given.items() if value]
    if named:
        raise UsageError(
            f"--onnx runs a file as it is: leave out what is for a workload or for training ({', '.join(named)})"
        )


def _share(option: str, text: str | None) -> float | None:
    return None if text is None else quantities.fraction(option, text)


def _run(request: Request, chosen: Chosen, store: Store, format_name: str, sitting: Sitting) -> int:
    """Run the files or the workload that was asked for; the exit code."""
    from bench.runner import onnx_run
    from bench.workloads import onnx_file

    sitting = replace(sitting, options=options.plain(chosen))
    if chosen.file.onnx:
        models = onnx_file.describe_all(chosen.file.onnx, chosen.file.inputs)
        plan, inputs = onnx_run.plan(request, models), onnx_run.FileInputs(models)
        return measuring.measured(plan, onnx_run.no_dataset(), store, format_name, sitting, inputs)
    plan, dataset = measuring.plan_on_data(request)
    if chosen.start.init is not None:
        plan = _started(plan, store, chosen.start.init, chosen.start.new_head)
        start = replace(chosen.start, init=plan.request.started_from)  # "last" will be another run
        sitting = replace(sitting, options=options.plain(replace(chosen, start=start)))
    return measuring.measured(plan, dataset, store, format_name, sitting)


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

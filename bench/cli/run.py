"""``bench run``: the main job."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Container
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from bench import quantities
from bench.cli import fleet_options, measuring, options
from bench.cli.fleet_options import FleetOptions
from bench.cli.grouped import command
from bench.cli.options import (
    DeviceOptions,
    InterpreterOptions,
    NameOptions,
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
    from bench.runner.run import FinishedRun, Sitting
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
        given = self.input_workers or INPUT_WORKERS
        return _counts("--input-workers", given, range(MOST_WORKERS + 1), f"not a number from 0 to {MOST_WORKERS}")


def _counts(option: str, given: str, allowed: Container[int], otherwise: str) -> tuple[int, ...]:
    """The numbers of a list, each once.

    Raises:
        UsageError: one that is not allowed.
    """
    counts = []
    for text in quantities.split_commas(given):
        if not text.isdecimal() or int(text) not in allowed:
            raise UsageError(f"{option} {text}: {otherwise}")
        counts.append(int(text))
    return tuple(dict.fromkeys(counts))


PROCESSES = (1, 2, 4, 8)
"""Powers of two: the batches of a certificate have as many equal parts."""


@dataclass(frozen=True)
class ScalingOptions:
    """Processes that train together."""

    PANEL: ClassVar = "What to run"

    processes: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="With --task train: how training scales over so many processes (or devices), each number a row, such"
            " as 1,2,4.",
        ),
    ] = None

    def counts(self, task: str | None) -> tuple[int, ...]:
        """The numbers of processes; none: scaling is not measured.

        Raises:
            UsageError: not such numbers, or another task.
        """
        if self.processes is None:
            return ()
        if task != "train":
            raise UsageError("--processes goes with --task train, whose steps they share")
        counts = _counts("--processes", self.processes, PROCESSES, f"one of {', '.join(map(str, PROCESSES))}")
        return tuple(sorted(counts))


def _scaled(request: Request, processes: tuple[int, ...], threads: int | None) -> Request:
    """The request with rows of so many processes. Every process has as many threads at every size, and every whole
    batch is measured at every size: so weak and strong scaling are both known."""
    if not processes:
        return request
    most = max(processes)
    if odd := [size for size in request.batch_sizes if size % most]:
        raise UsageError(f"--batch-size {odd[0]}: {most} processes need a multiple of {most}")
    each = max(1, request.placement.threads // most) if threads is None else threads
    sizes = sorted({size * count for size in request.batch_sizes for count in processes})
    return replace(
        request, processes=processes, batch_sizes=tuple(sizes), placement=replace(request.placement, threads=each)
    )


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
        int | None,
        typer.Option(min=0, help="Fresh processes per row; 0: only train (default: 6, or more by --budget)."),
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
    scaling: ScalingOptions = ScalingOptions()

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
        asked = replace(
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
        return _scaled(asked, self.scaling.counts(rows.task), self.place.threads)


@dataclass(frozen=True)
class WatchOptions:
    """What is written while models train."""

    PANEL: ClassVar = "Output"

    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the course of every training there, and final metrics, for TensorBoard."
        ),
    ] = None


def run(
    workload: WorkloadOptions,
    file: FileOptions,
    start: StartOptions,
    rows: RowOptions,
    pipeline: PipelineOptions,
    scaling: ScalingOptions,
    device: DeviceOptions,
    place: PlaceOptions,
    interpreters: InterpreterOptions,
    care: CareOptions,
    repeat: RepeatOptions,
    resume: ResumeOptions,
    where: FleetOptions,
    name: NameOptions,
    watch: WatchOptions,
    output: OutputOptions,
) -> None:
    """Certify, train, export and time backends on one workload, and tabulate them.

    Exit code: 0; 1 if a row that was asked for is not ok and comparable; 2 usage, or the store failed; 130 on Ctrl-C.
    """
    from bench.store.store import Store

    chosen = Chosen(workload, file, start, rows, device, place, interpreters, care, repeat, pipeline, scaling)
    resume.check(chosen, "run")
    where.check()
    name.check()
    store = Store(output.store)
    if where.on is not None:
        if watch.tensorboard is not None:
            raise UsageError("--tensorboard writes on this machine: bench export --format tensorboard afterwards")
        sys.exit(_sent(chosen, resume, where, store, output.format))
    finished = carry_out(chosen, resume, name, watch, store, options.command_line(), options.end_as_ctrl_c)
    sys.exit(measuring.shown(finished, output.format))


def carry_out(
    chosen: Chosen,
    resume: ResumeOptions,
    name: NameOptions,
    watch: WatchOptions,
    store: Store,
    command_line: str,
    before: Callable[[], None] = lambda: None,
) -> FinishedRun:
    """Begin the run that these options ask for, or go on with one, here. ``before`` is called when all options are
    known to be right, just before it begins.

    Raises:
        BenchError: it cannot begin, or not go on.
    """
    from bench.runner.run import Sitting

    board = None
    if watch.tensorboard is not None:
        from reports.exports.tensorboard import Board

        try:
            watch.tensorboard.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--tensorboard {watch.tensorboard}: {error.strerror or error}") from error
        board = Board(watch.tensorboard)
    sitting = Sitting(name=name.name, watch=None if board is None else board.evaluated)
    if resume.resume is None:
        finished = _run(chosen, store, command_line, sitting, before)
    else:
        with options.going_on(store, resume.resume, "run", Chosen) as (earlier, first):
            sitting = replace(sitting, goes_on=earlier, anyway=resume.anyway)
            finished = _run(first, store, command_line, sitting, before)
    if board is not None:
        try:
            board.ended(finished.run)
        except OSError as error:
            again = "bench export --format tensorboard writes it anew"
            print(f"bench: cannot write to {watch.tensorboard}: {error.strerror or error}; {again}", file=sys.stderr)
    return finished


def _sent(chosen: Chosen, resume: ResumeOptions, where: FleetOptions, store: Store, format_name: str) -> int:
    """Carry the run out on other machines; the exit code."""
    from bench.cli import fleet

    if resume.resume is not None:
        return fleet.go_on(store, resume.resume, format_name)
    _refuse_contradictions(chosen.file, chosen.start, chosen.care)
    if chosen.file.onnx:
        _refuse_with_file(chosen.workload, chosen.start, chosen.rows, chosen.device, chosen.care)
    else:
        chosen.workload.named()
    if chosen.start.init is not None:
        from bench.store import weights

        whose = weights.load_weights(store, chosen.start.init)[0]  # "last" will be another run there
        chosen = replace(chosen, start=replace(chosen.start, init=whose))
    groups = (getattr(chosen, field.name) for field in fields(chosen))
    return fleet.send("run", fleet_options.arguments(*groups), where, store, format_name)


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


def _run(chosen: Chosen, store: Store, command_line: str, sitting: Sitting, before: Callable[[], None]) -> FinishedRun:
    """Run the files or the workload that was asked for."""
    from bench.runner import onnx_run
    from bench.runner import run as running
    from bench.workloads import onnx_file

    request, inputs = chosen.request(), None
    if chosen.file.onnx:
        models = onnx_file.describe_all(chosen.file.onnx, chosen.file.inputs)
        plan, inputs = onnx_run.plan(request, models), onnx_run.FileInputs(models)
        dataset = onnx_run.no_dataset()
    else:
        plan, dataset = measuring.plan_on_data(request)
    if chosen.start.init is not None:
        plan = _started(plan, store, chosen.start.init, chosen.start.new_head)
        # "last" will be another run
        chosen = replace(chosen, start=replace(chosen.start, init=plan.request.started_from))
    before()
    sitting = replace(sitting, options=options.plain(chosen))
    return running.run(plan, dataset, store, command_line, inputs, sitting)


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

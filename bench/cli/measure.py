"""Commands that run workers, or look at the machine that they run on: ``run``, ``list``, ``doctor``, ``gpu-check``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import quantities
from bench.cli import options
from bench.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("run")(run_)
    app.command("list")(list_)
    app.command()(doctor)
    app.command("gpu-check")(gpu_check)


def run_(
    backend: options.Backend = "all",
    workload: options.WorkloadName = None,
    model: options.Model = None,
    dataset: options.Dataset = None,
    recipe: options.RecipeName = None,
    set_: options.Changes = None,
    onnx: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file of yours for the runtimes, instead of a workload.")
    ] = None,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT=SIDES", help="With --onnx: a shape left open, without the batch, such as x=3,224,224."
        ),
    ] = None,
    mode: options.Mode = "default",
    precision: options.Precision = "default",
    task: options.Task = "all",
    device: options.Device = "auto",
    batch_size: options.BatchSizes = "128",
    profile: options.Profile = "deploy",
    threads: options.Threads = None,
    cpus: options.Cpus = None,
    allocator: options.Allocator = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Fresh processes per row (default: deploy 3, precise 5).")
    ] = None,
    precision_target: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Add rounds until the ratios' half-width is this, such as 2%.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The most time for --precision-target, such as 90s, 5m (default: 5m)."),
    ] = None,
    seed: options.Seed = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per row: accuracy with an interval, and a verdict.")] = 1,
    accuracy_margin: Annotated[
        str, typer.Option(metavar="POINTS", help="Accuracies this near are the same, such as 2% or 0.02.")
    ] = "2%",
    target_accuracy: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Time training until this accuracy, such as 0.7 or 70%.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(metavar="RUN[:ROW]", help="Begin with the weights that a stored run trained.")
    ] = None,
    new_head: Annotated[bool, typer.Option("--new-head", help="With --init: draw the last dense layer anew.")] = False,
    freeze: Annotated[bool, typer.Option("--freeze", help="With --init: train the last dense layer only.")] = False,
    timeout: options.Timeout = 600.0,
    data_dir: options.DataDir = None,
    python: options.Pythons = None,
    store: options.StoreUrl = None,
    format_: options.Format = "simple",
) -> None:
    """Certify, train, export and time backends on one workload, and tabulate them.

    Exit code: 0; 1 if a row that was asked for is not ok and comparable; 2 usage; 130 on Ctrl-C.
    """
    from bench.machine.placement import place
    from bench.runner.plan import Request

    if budget is not None and precision_target is None:
        raise UsageError("--budget bounds --precision-target; give both, or --rounds alone")
    if init is None and (new_head or freeze):
        raise UsageError(f"--{'new-head' if new_head else 'freeze'} goes with --init RUN, whose weights it keeps")
    target = None if precision_target is None else quantities.fraction("--precision-target", precision_target)
    request = Request(
        backends=options.split(backend),
        workload=options.workload(workload, model, dataset, recipe, set_),
        modes=options.split(mode),
        precisions=options.split(precision),
        task=options.one_of("task", task, ("train", "infer", "all")),
        devices=device,
        batch_sizes=options.batch_sizes(batch_size),
        placement=place(profile, cpus, threads, allocator),
        rounds=rounds,
        precision_target=target,
        budget=None if budget is None else quantities.seconds("--budget", budget),
        freeze=freeze,
        seed=seed,
        seeds=seeds,
        accuracy_margin=quantities.fraction("--accuracy-margin", accuracy_margin),
        target_accuracy=None if target_accuracy is None else quantities.fraction("--target-accuracy", target_accuracy),
        timeout=timeout,
        data_dir=data_dir,
        pythons=options.pythons(python),
    )
    if onnx is not None:
        if (
            any((workload, model, dataset, recipe, set_, init, data_dir, target_accuracy))
            or seeds > 1
            or task == "train"
        ):
            raise UsageError("--onnx runs a file as it is: leave out what is for a workload or for training")
        sys.exit(_run_file(request, onnx, options.shapes(input_shape), store, format_))
    if input_shape:
        raise UsageError("--input-shape goes with --onnx FILE, whose inputs it describes")
    sys.exit(_run(request, (init, new_head), store, format_))


def _run(request: Any, start: tuple[str | None, bool], store_url: str | None, format_name: str) -> int:
    from bench.store.store import Store

    plan, dataset = options.on_data(request)
    store = Store(store_url)
    init, new_head = start
    if init is not None:
        plan = _started(plan, store, init, new_head)
    return _measured(plan, dataset, store, format_name)


def _run_file(request: Any, file: Path, shapes: dict[str, Any], store_url: str | None, format_name: str) -> int:
    from bench.runner import onnx_run
    from bench.store.store import Store
    from bench.workloads import onnx_file

    model = onnx_file.describe(file, shapes)
    plan, (dataset, data) = onnx_run.plan(request, model), onnx_run.data(model)
    return _measured(plan, dataset, Store(store_url), format_name, onnx_run.FileInputs(model), data)


def _measured(plan: Any, dataset: Any, store: Any, format_name: str, *others: Any) -> int:
    """Run a plan and print its tables; ``others`` go on to ``bench.runner.run.run``."""
    from bench.runner.run import run
    from reports.content import tables
    from reports.render.terminal import show, with_notes

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    finished = run(plan, dataset, store, options.command_line(), *others)
    stored = f"run {finished.run.name} in {finished.stored_in}"
    show(with_notes(tables.document(finished.run), stored), format_name)
    return finished.exit_code


def _started(plan: Any, store: Any, init: str, new_head: bool) -> Any:
    """The plan with another run's weights to begin with."""
    from dataclasses import replace

    from bench.runner.planner import make
    from bench.store import weights

    whose, found = weights.of_run(store, init)
    kept = weights.start(plan.request.workload.model, found, whose, new_head)
    return make(replace(plan.request, init=kept, started_from=whose))


def list_(format_: options.Format = "simple") -> None:
    """Backends (available or why not, versions, devices), models, recipes and data sets."""
    from bench.machine import installed
    from reports.content import listing
    from reports.render.terminal import show

    show(listing.catalogue(installed.backends(), installed.gpus_here()), format_)


def doctor(format_: options.Format = "simple") -> None:
    """What on this machine will spoil a measurement, and what to do about it."""
    from bench.machine.doctor import examine
    from reports.content import listing
    from reports.render.terminal import show

    show(listing.doctor(examine()), format_)


def gpu_check(
    backend: options.Backend = "all", python: options.Pythons = None, format_: options.Format = "simple"
) -> None:
    """Whether the CUDA figures of each backend can be trusted on this machine; needs a GPU."""
    from bench.runner.gpu_check import check
    from reports.content import listing
    from reports.render.terminal import show

    findings = check(list(options.split(backend)), options.pythons(python))
    show(listing.gpu_findings(findings), format_)
    sys.exit(any(finding.passed is False for finding in findings))

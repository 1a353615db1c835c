"""Commands that run workers, or look at the machine that they run on: ``run``, ``list``, ``doctor``, ``gpu-check``."""

from __future__ import annotations

import signal
import sys
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
    task: options.Task = "all",
    device: options.Device = "auto",
    batch_size: options.BatchSize = 128,
    profile: options.Profile = "deploy",
    threads: options.Threads = None,
    cpus: options.Cpus = None,
    allocator: options.Allocator = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Fresh processes per row [deploy 3, precise 5].")] = None,
    precision_target: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Add rounds until the ratios' half-width is this, such as 2%.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="The most time for --precision-target, such as 90s, 5m [5m].")
    ] = None,
    seed: options.Seed = 0,
    timeout: options.Timeout = 600.0,
    data_dir: options.DataDir = None,
    python: options.Pythons = None,
    store: options.StoreUrl = None,
    format_: options.Format = "simple",
) -> None:
    """Certify, train, export and time backends on one workload, and tabulate them.

    Exit code: 0; 1 if a row that was asked for is not ok and comparable; 2 usage; 130 on Ctrl-C.
    """
    from bench.plan import Request
    from bench.profiles import place

    if budget is not None and precision_target is None:
        raise UsageError("--budget bounds --precision-target; give both, or --rounds alone")
    target = None if precision_target is None else quantities.fraction("--precision-target", precision_target)
    request = Request(
        backends=options.split(backend),
        workload=options.workload(workload, model, dataset, recipe),
        task=options.one_of("task", task, ("train", "infer", "all")),
        devices=device,
        batch_size=batch_size,
        placement=place(profile, cpus, threads, allocator),
        rounds=rounds,
        precision_target=target,
        budget=None if budget is None else quantities.seconds("--budget", budget),
        seed=seed,
        timeout=timeout,
        data_dir=data_dir,
        pythons=options.pythons(python),
    )
    sys.exit(_run(request, store, format_))


def _run(request: Any, store_url: str | None, format_name: str) -> int:
    from bench.datasets import DATASETS
    from bench.plan import make
    from bench.run import run
    from bench.store import Store
    from reports import tables

    tables.check_format(format_name)
    plan = make(request)
    dataset = DATASETS[request.workload.dataset](request.data_dir)
    store = Store(store_url)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    finished = run(plan, dataset, store, options.command_line())
    print(tables.text(finished.run, format_name))
    print(f"\nrun {finished.run.name} in {finished.stored_in}")
    return finished.exit_code


def list_() -> None:
    """Backends (available or why not, versions, devices), models, recipes and data sets."""
    from bench import catalogue
    from reports import listing

    print(listing.text(catalogue.backends(), catalogue.gpus_here()))


def doctor() -> None:
    """What on this machine will spoil a measurement, and what to do about it."""
    from bench.doctor import examine
    from reports import listing

    print(listing.doctor(examine()))


def gpu_check(backend: options.Backend = "all", python: options.Pythons = None) -> None:
    """Whether the CUDA figures of each backend can be trusted on this machine; needs a GPU."""
    from bench.gpu_run import check
    from reports import listing

    findings = check(list(options.split(backend)), options.pythons(python))
    print(listing.gpu_findings(findings))
    sys.exit(any(finding.passed is False for finding in findings))

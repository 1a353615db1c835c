"""The job of a command that judges: its options, what a saved baseline says of it, and the plan that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import quantities
from bench.cli import options
from bench.errors import UsageError

INTERRUPTED = 130
DEFAULTS: dict[str, Any] = {
    "backend": "all",
    "model": "article-keras",
    "dataset": "digits",
    "recipe": "article-keras",
    "set": [],
    "mode": "default",
    "precision": "default",
    "task": "all",
    "device": "auto",
    "batch_size": 128,
    "figure": "throughput,latency,memory",
    "boundary": "end-to-end",
}
"""What is measured where neither an option nor a saved baseline says so."""

JobBackend = Annotated[
    str | None, typer.Option("--backend", help="all, or a list such as pytorch,keras (default: all).")
]
JobMode = Annotated[str | None, typer.Option("--mode", help="As of bench run (default: each backend's first).")]
JobPrecision = Annotated[
    str | None, typer.Option("--precision", help="As of bench run (default: each backend's first).")
]
JobTask = Annotated[str | None, typer.Option("--task", help="What to time: train, infer or all (default: all).")]
JobDevice = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:N, or a list (default: auto).")]
JobBatchSize = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Batch size of throughput figures (default: 128).")
]
JobFigure = Annotated[
    str | None,
    typer.Option(
        "--figure", metavar="LIST", help="Of throughput, latency, memory, accuracy (default: the first three)."
    ),
]
JobBoundary = Annotated[
    str | None, typer.Option("--boundary", help="Of speeds: end-to-end or device (default: end-to-end).")
]
Budget = Annotated[str, typer.Option("--budget", metavar="TIME", help="The most time for measuring pairs.")]
Margin = Annotated[
    list[str] | None, typer.Option("--margin", metavar="FIGURE=PERCENT", help="What is no change (repeatable).")
]
Margins = Annotated[
    Path | None, typer.Option("--margins", metavar="FILE", help="TOML file with a table named margins.")
]


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a job that the user gave.

    Raises:
        UsageError: ``--workload`` beside one of the three that it names.
    """
    told = {**arguments, "set": arguments["set_"]}
    told |= options.named(*(arguments[name] for name in ("workload", "model", "dataset", "recipe")))
    return {name: told[name] for name in DEFAULTS if told.get(name) is not None}


def job(given: Mapping[str, Any], saved: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """What is measured; a saved baseline says it, and an option may not say otherwise."""
    for option, value in given.items() if saved is not None else ():
        if saved is not None and saved.get(option) != value:
            told = option.replace("_", "-")
            raise UsageError(f"baseline {name} was saved with --{told} {saved.get(option)}; leave out --{told} {value}")
    return {**DEFAULTS, **(saved or {}), **given}


def criteria(job: Mapping[str, Any], flags: list[str] | None, file: Path | None, budget: str, seeds: int) -> Any:
    from bench.gate import margins as tolerances
    from bench.gate.gated_metric import METRICS, Criteria

    figures = options.split(job["figure"])
    for name in figures:
        options.one_of("metric", name, METRICS)
    options.one_of("boundary", job["boundary"], ("end-to-end", "device"))
    if seeds > 1 and "accuracy" not in figures:
        raise UsageError("--seeds repeats the training for accuracy; add --figure accuracy")
    return Criteria(
        metrics=figures,
        boundary=job["boundary"],
        margins=tolerances.read(flags or [], file),
        budget=quantities.seconds("--budget", budget),
        seeds=seeds,
    )


def request(job: Mapping[str, Any], others: Mapping[str, Any], pythons: dict[str, str]) -> Any:
    from bench.machine.placement import place
    from bench.runner.plan import Request

    how = {name: others.get(name) for name in ("cpus", "threads", "allocator")}
    told = {name: others[name] for name in ("seed", "timeout", "data_dir") if name in others}
    return Request(
        backends=options.split(job["backend"]),
        workload=options.workload(None, job["model"], job["dataset"], job["recipe"], job["set"]),
        modes=options.split(job["mode"]),
        precisions=options.split(job["precision"]),
        task=options.one_of("task", job["task"], ("train", "infer", "all")),
        devices=job["device"],
        batch_sizes=(job["batch_size"],),
        placement=place(others.get("profile", "precise"), **how),
        pythons=pythons,
        **told,
    )


def plan(request: Any) -> tuple[Any, Any]:
    """The plan and its data set."""
    return options.on_data(request)

"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.errors import UsageError


def _format(name: str) -> str:
    """As soon as it is read: nothing is measured for a table that cannot be shown."""
    from reports.render.text import check_format

    return check_format(name)


Backend = Annotated[str, typer.Option(help="all, or a list such as pytorch,keras.")]
WorkloadName = Annotated[str | None, typer.Option(metavar="MODEL/DATASET/RECIPE", help="Instead of the three.")]
Model = Annotated[str | None, typer.Option(help="Model, or a TOML file (default: article-keras).")]
Dataset = Annotated[str | None, typer.Option(help="Data set, or folder:DIR with a folder per class (default: digits).")]
RecipeName = Annotated[str | None, typer.Option(help="Training recipe, or a TOML file (default: article-keras).")]
Mode = Annotated[str, typer.Option(help="Ways to run, a list: default, all, best, or names of bench list.")]
Precision = Annotated[str, typer.Option(help="A list: default, all, or names of bench list such as fp32,bf16,int8.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Change the recipe, such as epochs=2 (repeatable)."),
]
Task = Annotated[str, typer.Option(help="What to time: train, infer or all.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, or a list: one row each.")]
BatchSizes = Annotated[str, typer.Option(metavar="LIST", help="Of throughput figures, such as 128 or 1,8,32,128.")]
Profile = Annotated[str, typer.Option(help="deploy (as users run it) or precise (pinned, for small effects).")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads (default: the profile's physical cores).")]
Cpus = Annotated[str | None, typer.Option(metavar="LIST", help="Pin workers to CPUs such as 0,2-3.")]
Allocator = Annotated[
    str | None, typer.Option(metavar="NAME", help="system, arena (glibc keeps memory) or a library's path.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of weights, batches and the order of rounds.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds until a silent worker is killed.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder of a data set that is read from disk.")]
Pythons = Annotated[
    list[str] | None,
    typer.Option("--python", metavar="BACKEND=PATH", help="Interpreter for a backend (repeatable)."),
]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Database URL or SQLite file (default: BENCH_STORE, user data)."),
]
Format = Annotated[
    str,
    typer.Option(
        "--format", callback=_format, help="Of tables: simple, github, grid, latex, tsv, ... (tabulate's); csv, json."
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there instead of standard output.")
]
Summary = Annotated[
    bool,
    typer.Option("--summary", help="As the Markdown of a pull-request comment: the verdict first, details folded."),
]
RunName = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="A run's name or its beginning, tag, commit, or last~N (default: last)."),
]
Cache = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where environments and work trees are kept (default: user cache).")
]


def split(text: str) -> tuple[str, ...]:
    """Parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def batch_sizes(text: str) -> tuple[int, ...]:
    """``1,8,32`` in ascending order.

    Raises:
        UsageError: not numbers from 1 to a million.
    """
    parts = split(text)
    if not parts or not all(part.isdigit() and 1 <= int(part) <= 1_000_000 for part in parts):
        raise UsageError(f"--batch-size {text}: not a number from 1 on, or a list such as 1,8,32,128")
    return tuple(sorted({int(part) for part in parts}))


def one_of(kind: str, value: str, known: tuple[str, ...]) -> str:
    """The value, if it is known.

    Raises:
        UsageError: it is not.
    """
    if value not in known:
        raise UsageError(f"unknown {kind} '{value}'; one of {', '.join(known)}")
    return value


def shapes(entries: list[str] | None) -> dict[str, tuple[int, ...]]:
    """``INPUT=3,224,224`` entries by input.

    Raises:
        UsageError: another form.
    """
    found = {}
    for entry in entries or []:
        name, separator, text = entry.rpartition("=")
        sides = split(text)
        if not (name and separator and sides and all(side.isdigit() and int(side) > 0 for side in sides)):
            raise UsageError(f"--input-shape {entry}: not INPUT=SIDES without the batch, such as x=3,224,224")
        found[name] = tuple(int(side) for side in sides)
    return found


def pythons(entries: list[str] | None) -> dict[str, str]:
    """``BACKEND=PATH`` entries by backend.

    Raises:
        UsageError: another form.
    """
    found = {}
    for entry in entries or []:
        name, separator, path = entry.partition("=")
        if not (name and separator and path):
            raise UsageError(f"--python {entry}: not BACKEND=PATH, such as keras=.venv-keras/bin/python")
        found[name] = path
    return found


def on_data(request: Any) -> tuple[Any, Any]:
    """The plan of a request, and its data set, for whose images the model is made.

    Raises:
        UsageError: an unknown name (before anything is downloaded), or data that cannot be had or do not fit.
    """
    from dataclasses import replace

    from bench.runner.planner import make
    from bench.workloads.datasets import registry

    make(request)
    dataset = registry.load(request.workload.dataset, request.data_dir)
    return make(replace(request, workload=request.workload.on(dataset))), dataset


def workload(
    whole: str | None, model: str | None, dataset: str | None, recipe: str | None, changes: list[str] | None = None
) -> Any:
    """The workload that the options name together, with ``FIELD=VALUE`` changes of the recipe.

    Raises:
        UsageError: an unknown name, or ``--workload`` beside one of the three.
    """
    from bench.workloads.workload import DEFAULT_DATASET, DEFAULT_MODEL, DEFAULT_RECIPE, of

    names = named(whole, model, dataset, recipe)
    return of(
        names["model"] or DEFAULT_MODEL,
        names["dataset"] or DEFAULT_DATASET,
        names["recipe"] or DEFAULT_RECIPE,
        fields(changes),
    )


def named(whole: str | None, model: str | None, dataset: str | None, recipe: str | None) -> dict[str, str | None]:
    """Model, data set and recipe that the user gave, one by one or together.

    Raises:
        UsageError: both, or not three names together.
    """
    from bench.workloads.workload import parts

    if whole is not None and (model or dataset or recipe):
        raise UsageError("--workload names model, data set and recipe together; leave out the other three")
    names = (model, dataset, recipe) if whole is None else parts(whole)
    return dict(zip(("model", "dataset", "recipe"), names, strict=True))


def fields(entries: list[str] | None) -> dict[str, Any]:
    """``FIELD=VALUE`` entries by field, values as TOML would read them (a bare word is a text).

    Raises:
        UsageError: another form.
    """
    import tomllib

    found: dict[str, Any] = {}
    for entry in entries or []:
        name, separator, text = entry.partition("=")
        if not (name and separator and text):
            raise UsageError(f"--set {entry}: not FIELD=VALUE, such as epochs=2 or schedule.kind=cosine")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        found[name] = tuple(value) if isinstance(value, list) else value
    return found


def command_line() -> str:
    """What the user typed, passwords hidden: what repeats it."""
    from bench.store.store import without_password

    return shlex.join(["bench", *without_password(sys.argv[1:])])

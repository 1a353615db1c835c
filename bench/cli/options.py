"""Options that several commands share, and how their texts are read."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.errors import UsageError

Backend = Annotated[str, typer.Option(help="all, or a list such as pytorch,keras.")]
WorkloadName = Annotated[str | None, typer.Option(metavar="MODEL/DATASET/RECIPE", help="Instead of the three.")]
Model = Annotated[str | None, typer.Option(help="Model [article-keras].")]
Dataset = Annotated[str | None, typer.Option(help="Data set [digits].")]
RecipeName = Annotated[str | None, typer.Option(help="Training recipe [article-keras].")]
Task = Annotated[str, typer.Option(help="What to time: train, infer or all.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, or a list: one row each.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Batch size of throughput figures.")]
Profile = Annotated[str, typer.Option(help="deploy (as users run it) or precise (pinned, for small effects).")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads [the profile's physical cores].")]
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
Format = Annotated[str, typer.Option("--format", help="Table format of tabulate: simple, github, grid, ...")]
RunName = Annotated[
    str | None, typer.Argument(metavar="RUN", help="A run's name or its beginning, tag, commit, or last~N [last].")
]
Cache = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where environments and work trees are kept [user cache].")
]


def split(text: str) -> tuple[str, ...]:
    """Parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def one_of(kind: str, value: str, known: tuple[str, ...]) -> str:
    """The value, if it is known.

    Raises:
        UsageError: it is not.
    """
    if value not in known:
        raise UsageError(f"unknown {kind} '{value}'; one of {', '.join(known)}")
    return value


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


def workload(whole: str | None, model: str | None, dataset: str | None, recipe: str | None) -> Any:
    """The workload that the options name together.

    Raises:
        UsageError: an unknown name, or ``--workload`` beside one of the three.
    """
    from bench.workloads import DEFAULT_WORKLOAD, parse, parts

    if whole is not None and (model or dataset or recipe):
        raise UsageError("--workload names model, data set and recipe together; leave out the other three")
    defaults = parts(whole or DEFAULT_WORKLOAD)
    return parse("/".join(given or default for given, default in zip((model, dataset, recipe), defaults, strict=True)))


def command_line() -> str:
    """What the user typed, passwords hidden: what repeats it."""
    from bench.store import without_password

    return shlex.join(["bench", *without_password(sys.argv[1:])])

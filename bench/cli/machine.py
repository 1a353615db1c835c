"""Commands about the machine and what is installed on it: ``list``, ``doctor``, ``gpu-check``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bench import quantities
from bench.cli import options
from bench.cli.options import InterpreterOptions


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("list")(list_)
    app.command()(doctor)
    app.command("gpu-check")(gpu_check)


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
    backend: Annotated[str, typer.Option(help="all, or a list such as pytorch,keras.")] = "all",
    python: Annotated[
        list[str] | None, typer.Option(metavar="BACKEND=PATH", help="Interpreter for a backend (repeatable).")
    ] = None,
    format_: options.Format = "simple",
) -> None:
    """Whether the CUDA figures of each backend can be trusted on this machine; needs a GPU."""
    from bench.runner.gpu_check import check
    from reports.content import listing
    from reports.render.terminal import show

    findings = check(list(quantities.split_commas(backend)), InterpreterOptions(python=python).pythons)
    show(listing.gpu_findings(findings), format_)
    sys.exit(any(finding.passed is False for finding in findings))

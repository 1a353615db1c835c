"""The command line, the top of the house: nobody imports it.

A module has the commands that its name says. Imports stay inside commands, so that ``bench --help`` is quick.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bench.cli import baseline, bisect, check, history, machine, run, stored_runs, sweep
from bench.errors import BenchError

app = typer.Typer(
    help="The same CNN in every framework: proven equal, timed, tabulated.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run.register(app)
machine.register(app)
check.register(app)
baseline.register(app)
bisect.register(app)
stored_runs.register(app)
history.register(app)
sweep.register(app)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"evenbench {version('evenbench')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """The same CNN in every framework: proven equal, timed, tabulated."""


def main() -> None:
    """Entry point: one line and an exit code for what the user can act on."""
    try:
        app()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)

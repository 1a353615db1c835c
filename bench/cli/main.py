"""The command line, the top of the house: nobody imports it.

A module has the commands that its name says. Imports stay inside commands, so that ``bench --help`` is quick.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bench.cli import (
    baseline,
    bisect,
    check,
    explain,
    export,
    fleet,
    history,
    machine,
    run,
    serve,
    site,
    store,
    stored_runs,
    sweep,
)
from bench.cli.output import drop_output, open_output
from bench.errors import BenchError
from bench.machine import speed_variables
from bench.secrecy import hide

TRACEBACK = "BENCH_TRACEBACK"
"""Environment variable: if set, an unexpected error shows its traceback."""


class Commands(TyperGroup):
    """Commands whose errors all end as ``BenchError``: never as exit code 1, which is a verdict."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and write out what it printed.

        Raises:
            BenchError: the command failed, or its output cannot be written.
        """
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except Exception as error:
            if isinstance(error, BenchError) or type(error).__module__.startswith(("click", "typer")):
                raise
            if TRACEBACK in os.environ:
                import traceback

                print(hide(traceback.format_exc()), file=sys.stderr)
            raise BenchError(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and _is_nowhere():
        return "the current folder has been deleted; go to another one, or give absolute paths"
    if isinstance(error, OSError):
        return f"cannot read or write: {text}; what was measured until then is stored ({TRACEBACK}=1 shows where)"
    return f"unexpected {type(error).__name__}: {text} ({TRACEBACK}=1 shows where)"


def _is_nowhere() -> bool:
    """Whether the current folder has been deleted."""
    try:
        os.getcwd()
    except OSError:
        return True
    return False


app = typer.Typer(
    cls=Commands,
    help="The same CNN in every framework: proven equal, timed, tabulated.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run.register(app)
serve.register(app)
machine.register(app)
check.register(app)
explain.register(app)
baseline.register(app)
bisect.register(app)
export.register(app)
stored_runs.register(app)
history.register(app)
sweep.register(app)
fleet.register(app)
store.register(app)
site.register(app)


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
    speed_variables.unbind()
    open_output()
    try:
        try:
            try:
                app()
            finally:
                sys.stdout.flush()
        except OSError as error:  # of what is printed before a command begins, such as --help
            raise BenchError(_one_line(error)) from error
    except BenchError as error:
        drop_output()
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)

"""``bench store``: the upkeep of a store as a whole."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli import options
from bench.cli.output import tell

store_commands = typer.Typer(help="A store as a whole: whether it is sound, and a copy of it.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    store_commands.command()(check)
    store_commands.command()(backup)
    app.add_typer(store_commands, name="store")


def check(
    format_: options.Format = "simple",
    store: options.StoreUrl = None,
) -> None:
    """Whether the store is whole: file, tables, orphans, and whether every run and check can be read.

    Exit code: 0; 1 if something is wrong; 2 if it cannot be opened.
    """
    from bench.store import upkeep
    from bench.store.store import Store
    from reports.content import upkeep as shown

    findings = upkeep.check(Store(store))
    tell(shown.document([(each.question, each.looked_at, each.problems) for each in findings]), format_, None)
    sys.exit(int(any(each.problems for each in findings)))


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; it must not exist.")],
    store: options.StoreUrl = None,
) -> None:
    """Copy the store while others use it: a SQLite file, which --store opens."""
    from bench.store import upkeep
    from bench.store.store import Store

    opened = Store(store)
    print(f"{upkeep.backup(opened, file):,} bytes of {opened.shown_url} in {file}")

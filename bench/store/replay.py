"""Another store's changes (``bench.store.journal``) made in this one. They are data from another machine: each is
validated, and may change one run or check only.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from pydantic import ValidationError

from bench.errors import BenchError
from bench.store.journal import Change
from bench.store.schema import BASELINES, CHECKS, RUNS
from bench.store.store import Store

TABLES = {table.name: table for table in (CHECKS, BASELINES)}
"""Tables of documents that may be copied."""


def read(line: str) -> Change:
    """A change from a line.

    Raises:
        BenchError: it is none.
    """
    try:
        return Change.model_validate_json(line)
    except ValidationError as error:
        problem = str(error).splitlines()[0]
        raise BenchError(f"what a node sent cannot be read: {problem}; is its evenbench of this version?") from error


def check_owner(change: Change, name: str) -> None:
    """Raise BenchError if it changes anything but the run or check of this name."""
    changed = {change.name}
    if change.run is not None:
        changed.add(change.run.name)
    if change.check is not None:
        changed.add(change.check.name)
    if changed != {name} or change.table not in ("", CHECKS.name):
        raise BenchError(f"a node may change {name} only, and sent a change of {', '.join(sorted(changed))}")


def apply(store: Store, change: Change) -> None:
    """Change a store in the same way. Applied twice, it comes to the same.

    Raises:
        BenchError: the change is incomplete, or the store cannot be written.
    """
    name, parts = change.name, change.parts
    match change:
        case Change(call="add_run", run=run) if run is not None:
            if _is_stored(store, name):
                store.save(name, parts=parts)
            else:
                store.add_run(run, parts)
        case Change(call="end_run", run=run) if run is not None:
            store.end_run(run, change.whole)
        case Change(call="save"):
            store.save(name, *change.records, parts=parts)
        case Change(call="keep_weights"):
            store.keep_weights(name, change.row, change.content)
        case Change(call="end_check", check=check, sides=sides) if check is not None and sides is not None:
            store.end_check(check, sides, change.whole)
        case Change(call="keep_parts"):
            store.keep_parts(name, parts)
        case Change(call="forget_parts"):
            store.forget_parts(name, change.names)
        case Change(call="put") if change.table in TABLES:
            store.put(TABLES[change.table], name, change.text, parts)
        case _:
            raise BenchError(f"a node sent an incomplete change ({change.call} of {name})")


def _is_stored(store: Store, run: str) -> bool:
    with store.reading() as connection:
        return connection.scalar(sa.select(RUNS.c.id).where(RUNS.c.name == run)) is not None


def of_run(store: Store, name: str) -> Iterator[str]:
    """The lines that give another store this run, with its weights and what it goes on from.

    Raises:
        UsageError: no such run.
    """
    run = store.load(name)
    bare = run.model_copy(update={"records": []})
    yield Change(call="add_run", name=run.name, run=bare, parts=store.parts(run.name)).line()
    if run.records:
        yield Change(call="save", name=run.name, records=run.records).line()
    for row, content in store.weights(run.name)[1].items():
        yield Change(call="keep_weights", name=run.name, row=row, content=content).line()


def of_check(store: Store, name: str) -> Iterator[str]:
    """The lines that give another store a check that has not ended."""
    yield from of_document(store, CHECKS, name)
    parts = store.parts(name)
    if parts:
        yield Change(call="keep_parts", name=name, parts=parts).line()


def of_document(store: Store, table: sa.Table, name: str) -> Iterator[str]:
    """The line that gives another store a document, if there is one of this name."""
    text = store.get(table, name)
    if text is not None:
        yield Change(call="put", name=name, table=table.name, text=text).line()

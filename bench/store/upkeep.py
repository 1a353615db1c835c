"""The state of a store, and copies of it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from pydantic import BaseModel, ValidationError

from bench.analysis.bisection import Bisection
from bench.analysis.sweep import Sweep
from bench.errors import BenchError, UsageError
from bench.records.gate_result import Check, Sides
from bench.store.schema import (
    BISECTIONS,
    CHECKPOINTS,
    CHECKS,
    FIGURES,
    FLEET_JOBS,
    FLEETS,
    HEAD,
    METADATA,
    RECORDS,
    RUNS,
    SIDES,
    SWEEPS,
    TAGS,
    WEIGHTS,
)
from bench.store.store import Store

DOCUMENTS: dict[sa.Table, type[BaseModel]] = {CHECKS: Check, SIDES: Sides, SWEEPS: Sweep, BISECTIONS: Bisection}


@dataclass(frozen=True)
class Finding:
    """One question about a store. ``problems``: none if all is well."""

    question: str
    looked_at: str
    """What was looked at, with its number."""
    problems: tuple[str, ...] = ()


def check(store: Store) -> list[Finding]:
    """Whether a store is whole: its file, its tables, what points at what, and whether all of it can be read."""
    findings = []
    for name, look in {"file": _file, "tables": _tables, "orphans": _orphans, "runs": _runs}.items():
        try:
            findings.append(look(store))
        except BenchError as error:
            findings.append(Finding(name, "nothing", (str(error),)))
    return [*findings, *(_documents(store, table) for table in DOCUMENTS)]


def _file(store: Store) -> Finding:
    if store.file is None:
        return Finding("file", "not looked at: PostgreSQL checks its own files (amcheck)")
    with store.reading() as connection:
        lines = [str(line) for line in connection.exec_driver_sql("PRAGMA integrity_check").scalars()]
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    problems = [line for line in lines if line != "ok"]
    problems += [f"row {row[1]} of {row[0]} points at nothing in {row[2]}" for row in broken]
    return Finding("file", f"{store.file.stat().st_size:,} bytes", tuple(problems))


def _tables(store: Store) -> Finding:
    """Held against ``bench.store.schema`` by Alembic."""
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with store.reading() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)
    problems = tuple(" ".join(str(part) for part in difference[:2]) for difference in differences)
    return Finding("tables", f"schema {HEAD}, {len(METADATA.tables)} tables", problems)


def _orphans(store: Store) -> Finding:
    """Rows whose owner is gone."""
    by_run = [(table, "run_id", RUNS) for table in (RECORDS, WEIGHTS, TAGS)]
    owned = [*by_run, (FIGURES, "record_id", RECORDS)]
    problems, count = [], 0
    with store.reading() as connection:
        for table, key, owner in owned:
            count += connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            lost = sa.select(sa.func.count()).where(table.c[key].not_in(sa.select(owner.c.id)))
            if number := connection.scalar(lost):
                problems.append(f"{number:,} of {table.name} belong to no row of {owner.name}")
        names = set(connection.scalars(sa.select(RUNS.c.name).union(sa.select(CHECKS.c.name))))
        sweeps = {f"sweep-{key}" for key in connection.scalars(sa.select(SWEEPS.c.name))}
        owners = set(connection.scalars(sa.select(CHECKPOINTS.c.owner).distinct()))
        count += len(owners)
        begun = {name for name in owners if name.startswith("check-")}  # a check is stored with its first pair
        fleets = set(connection.scalars(sa.select(FLEETS.c.name)))
        of_jobs = set(connection.scalars(sa.select(FLEET_JOBS.c.fleet).distinct()))
        count += connection.scalar(sa.select(sa.func.count()).select_from(FLEET_JOBS)) or 0
    problems += [f"the jobs of {name} belong to no fleet" for name in sorted(of_jobs - fleets)]
    lost_parts = sorted(owners - names - sweeps - begun)
    problems += [f"the checkpoint of {name} belongs to nothing" for name in lost_parts]
    return Finding("orphans", f"{count:,} rows that belong to others", tuple(problems))


def _runs(store: Store) -> Finding:
    with store.reading() as connection:
        names = list(connection.scalars(sa.select(RUNS.c.name).order_by(RUNS.c.id)))
    problems = []
    for name in names:
        try:
            store.load(name)
        except BenchError as error:
            problems.append(f"run {name}: {error}")
    return Finding("runs", f"{len(names):,} runs read", tuple(problems))


def _documents(store: Store, table: sa.Table) -> Finding:
    problems, names = [], list[str]()
    try:
        names = store.names(table)
        for name in names:
            try:
                DOCUMENTS[table].model_validate_json(store.get(table, name) or "")
            except ValidationError as error:
                problems.append(f"{name}: {str(error).splitlines()[0]}")
    except BenchError as error:
        problems.append(str(error))
    return Finding(table.name, f"{len(names):,} {table.name} read", tuple(problems))


def backup(store: Store, target: Path) -> int:
    """Copy a SQLite store while others use it (SQLite's online backup), whole or not at all; the bytes of the copy.

    Raises:
        UsageError: the store is no SQLite file, or there is a file of that name.
        BenchError: the copy cannot be written, or is not whole.
    """
    if store.file is None:
        raise UsageError(
            f"{store.shown_url} is no file; pg_dump --format=custom --file={target} --dbname=URL copies it,"
            " pg_restore brings it back"
        )
    if target.exists():
        raise UsageError(f"{target} exists; name a file that does not")
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        with closing(sqlite3.connect(store.file)) as source, closing(sqlite3.connect(unfinished)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            (state,) = copy.execute("PRAGMA integrity_check").fetchone()
        if state != "ok":
            raise BenchError(f"the copy of {store.shown_url} is not whole: {state}; bench store check tells more")
        _flush(unfinished)
        unfinished.rename(target)
    except (OSError, sqlite3.Error) as error:
        raise BenchError(f"cannot copy {store.shown_url} to {target}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return target.stat().st_size


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

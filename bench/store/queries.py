"""Queries and changes across the runs of a store: lists, series of metrics, tags, deletion, import."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from bench import quantities
from bench.errors import BenchError, UsageError
from bench.records.export import parse_export
from bench.records.record import label
from bench.records.series import FigureKey, Listed, Point, Series
from bench.store import checkpoints
from bench.store.schema import CHECKS, FIGURES, FLEET_JOBS, FLEETS, RECORDS, RUNS, SIDES, TAGS
from bench.store.store import Store
from bench.worker.protocol import RowKey


@dataclass(frozen=True)
class Filter:
    """Selects the runs with at least one record that matches all given fields."""

    backend: str | None = None
    workload: tuple[str, str, str] | None = None
    """Model, data set, recipe."""
    machine: str | None = None
    """Beginning of the machine's id."""
    commit: str | None = None
    """Beginning of the commit."""
    since: datetime | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """The conditions of a query that joins runs and records."""
        conditions: list[sa.ColumnElement[bool]] = []
        if self.backend is not None:
            conditions.append(RECORDS.c.backend == self.backend)
        if self.workload is not None:
            columns = (RECORDS.c.model, RECORDS.c.dataset, RECORDS.c.recipe)
            conditions += [column == value for column, value in zip(columns, self.workload, strict=True)]
        if self.machine is not None:
            conditions.append(RECORDS.c.machine.startswith(self.machine, autoescape=True))
        if self.commit is not None:
            conditions.append(RECORDS.c.commit.startswith(self.commit, autoescape=True))
        if self.since is not None:
            conditions.append(RUNS.c.started_at >= self.since.isoformat(timespec="seconds"))
        return conditions


def parse_since(text: str) -> datetime:
    """Parse ``2026-01-31``, an ISO time, or a duration before now such as ``30d`` or ``12h``.

    Raises:
        UsageError: any other text.
    """
    if re.match(r"\d{4}-", text):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise UsageError(f"--since {text}: not a date such as 2026-01-31 ({error})") from error
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        return datetime.now(UTC) - timedelta(seconds=quantities.seconds("--since", text))
    except OverflowError as error:
        raise UsageError(f"--since {text}: before the first year") from error


def runs(store: Store, which: Filter, limit: int) -> list[Listed]:
    """The newest ``limit`` runs that match."""
    with store.reading() as connection:
        query = sa.select(RUNS.c.id, RUNS.c.name, RUNS.c.started_at, RUNS.c.acknowledged)
        fits = sa.exists().where(RECORDS.c.run_id == RUNS.c.id, *which.conditions())
        if which != Filter(since=which.since):
            query = query.where(fits)
        elif which.since is not None:
            query = query.where(*which.conditions())
        rows = connection.execute(query.order_by(RUNS.c.started_at.desc(), RUNS.c.id.desc()).limit(limit)).all()
        ids = [row.id for row in rows]
        records = _by_run(connection, RECORDS, ids)
        tags = _by_run(connection, TAGS, ids)
    return [_listed(row, records.get(row.id, []), tags.get(row.id, [])) for row in rows]


def workloads(store: Store) -> list[tuple[str, str, str]]:
    """Model, data set and recipe of every workload that has records."""
    columns = (RECORDS.c.model, RECORDS.c.dataset, RECORDS.c.recipe)
    with store.reading() as connection:
        return sorted(tuple(row) for row in connection.execute(sa.select(*columns).distinct()))


def states(store: Store) -> dict[str, str]:
    """A short text for every run, by name, that is another one when what is stored of the run is: a run changes until
    it has ended."""
    unended = store.unended()
    with store.reading() as connection:
        columns = (RUNS.c.name, RUNS.c.rounds, RUNS.c.schedule, RUNS.c.design, RUNS.c.started_at)
        rows = connection.execute(sa.select(*columns)).all()
    moment = datetime.now(UTC).isoformat()
    return {
        row.name: hashlib.sha256(repr((*row, moment if row.name in unended else "")).encode()).hexdigest()[:16]
        for row in rows
    }


def _by_run(connection: sa.Connection, table: sa.Table, ids: Sequence[int]) -> dict[int, list[Any]]:
    columns = [column for column in table.c if column.name not in ("content", "versions")]
    grouped: dict[int, list[Any]] = {}
    for row in connection.execute(sa.select(*columns).where(table.c.run_id.in_(ids))):
        grouped.setdefault(row.run_id, []).append(row)
    return grouped


def _listed(run: Any, records: Sequence[Any], tags: Sequence[Any]) -> Listed:
    ordered = sorted(records, key=lambda record: record.id)
    keys = [RowKey(*json.loads(record.row_key)) for record in ordered]
    names = [label(key, keys) for key in keys]
    rows = [name if r.status == "ok" else f"{name}: {r.status}" for name, r in zip(names, ordered, strict=True)]
    return Listed(
        name=run.name,
        started_at=run.started_at,
        rows=tuple(rows),
        workloads=_distinct(f"{r.model}/{r.dataset}/{r.recipe}" for r in ordered),
        machines=_distinct(r.machine for r in ordered),
        commits=_distinct(r.commit for r in ordered),
        tags=tuple(sorted(tag.name for tag in tags)),
        acknowledged=run.acknowledged,
    )


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value is not None))


def series(store: Store, which: Filter, metric_name: str | None, last: int) -> list[Series]:
    """Every series of the matching runs, with its newest ``last`` points."""
    with store.reading() as connection:
        joined = sa.select(RECORDS.c.series).join(RUNS, RECORDS.c.run_id == RUNS.c.id).where(*which.conditions())
        digests = sorted(digest for digest in connection.scalars(joined.distinct()) if digest)
        return [one for digest in digests for one in series_of_digest(connection, digest, metric_name, last)]


def series_of_digest(
    connection: sa.Connection, digest: str, metric_name: str | None = None, last: int = 1000
) -> list[Series]:
    """The series of one comparability key, one per metric, with the ``last`` stored records. Records are limited by id,
    which the index has in order; a limit by the runs' start times would read all of them."""
    newest = (
        sa.select(RECORDS.c.id).where(RECORDS.c.series == digest).order_by(RECORDS.c.id.desc()).limit(last).subquery()
    )
    query = (
        sa.select(
            *(FIGURES.c[name] for name in ("name", "task", "batch_size", "boundary", "unit", "value", "low", "high")),
            *(RECORDS.c[name] for name in ("row_key", "model", "dataset", "recipe", "machine", "commit", "versions")),
            RUNS.c.name.label("run"),
            RUNS.c.started_at,
            RUNS.c.acknowledged,
        )
        .join(RECORDS, FIGURES.c.record_id == RECORDS.c.id)
        .join(RUNS, RECORDS.c.run_id == RUNS.c.id)
        .where(RECORDS.c.id.in_(sa.select(newest.c.id)))
        .order_by(RUNS.c.started_at, RUNS.c.id)
    )
    if metric_name is not None:
        query = query.where(FIGURES.c.name == metric_name)
    grouped: dict[FigureKey, list[Any]] = {}
    for row in connection.execute(query):
        grouped.setdefault((row.name, row.task, row.batch_size, row.boundary), []).append(row)
    return [_series(digest, figure, rows) for figure, rows in grouped.items()]


def _series(digest: str, figure: FigureKey, rows: Sequence[Any]) -> Series:
    first = rows[0]
    versions = {text: json.loads(text or "{}") for text in {row.versions for row in rows}}  # they seldom change
    points = tuple(
        Point(r.run, r.started_at, r.commit, versions[r.versions], r.value, r.low, r.high, r.acknowledged) for r in rows
    )
    key = RowKey(*json.loads(first.row_key))
    workload = (first.model, first.dataset, first.recipe)
    return Series(digest, key, *workload, first.machine, figure, first.unit, points)


def tag(store: Store, name: str, run: str | None) -> str:
    """Give a run a tag, which any other run loses; the run's name.

    Raises:
        UsageError: the tag hides ``last`` or looks like a run's name.
    """
    if not name or name.startswith("last") or name[0].isdigit() or len(name) > 64:
        raise UsageError(f"tag '{name}': begin with a letter, not with 'last', at most 64 characters")
    with store.writing() as connection:
        row = store.find(connection, run)
        connection.execute(TAGS.delete().where(TAGS.c.name == name))
        connection.execute(TAGS.insert().values(name=name, run_id=row.id))
        return str(row.name)


def acknowledge(store: Store, run: str | None, note: str) -> str:
    """Store a note that the change beginning at this run is known; the run's name."""
    with store.writing() as connection:
        row = store.find(connection, run)
        connection.execute(RUNS.update().where(RUNS.c.id == row.id).values(acknowledged=note))
        return str(row.name)


def delete(store: Store, names: Sequence[str]) -> list[str]:
    """Remove runs with their records, checks, and fleets (whose runs stay): all of them or none. The removed names."""
    with store.writing() as connection:
        checks = set(connection.scalars(sa.select(CHECKS.c.name).where(CHECKS.c.name.in_(names))))
        fleets = set(connection.scalars(sa.select(FLEETS.c.name).where(FLEETS.c.name.in_(names))))
        rows = [store.find(connection, name, exact=True) for name in names if name not in checks | fleets]
        _delete(connection, rows)
        for table in (CHECKS, SIDES):
            connection.execute(table.delete().where(table.c.name.in_(checks)))
        connection.execute(FLEETS.delete().where(FLEETS.c.name.in_(fleets)))
        connection.execute(FLEET_JOBS.delete().where(FLEET_JOBS.c.fleet.in_(fleets)))
        checkpoints.remove(connection, sorted(checks))
        return [row.name for row in rows] + sorted(checks | fleets)


def prune(store: Store, which: Filter, keep: int, dry_run: bool) -> list[str]:
    """Remove the matching runs except the newest ``keep`` and tagged ones; their names."""
    with store.writing() as connection:
        fits = sa.exists().where(RECORDS.c.run_id == RUNS.c.id, *which.conditions())
        query = (
            sa.select(RUNS.c.id, RUNS.c.name).where(fits) if which != Filter() else sa.select(RUNS.c.id, RUNS.c.name)
        )
        rows = connection.execute(query.order_by(RUNS.c.started_at.desc(), RUNS.c.id.desc()).offset(keep)).all()
        tagged = set(connection.scalars(sa.select(TAGS.c.run_id)))
        rows = [row for row in rows if row.id not in tagged]
        if not dry_run:
            _delete(connection, rows)
        return [row.name for row in rows]


def _delete(connection: sa.Connection, runs: Sequence[Any]) -> None:
    """Delete runs (rows with ``id`` and ``name``), and what they would go on from."""
    for start in range(0, len(runs), 500):  # every SQLite accepts at least 500 parameters
        some = runs[start : start + 500]
        connection.execute(RUNS.delete().where(RUNS.c.id.in_([run.id for run in some])))
        checkpoints.remove(connection, [run.name for run in some])


def import_(store: Store, text: str, source: str) -> tuple[str, bool]:
    """Import a document of ``bench export --format json``; the run's name, and whether it was new. A run that is
    already stored is not changed.

    Raises:
        BenchError: an invalid document, a newer schema, or a different stored run of this name.
    """
    run = parse_export(text, source)
    without_ratios = run.model_copy(update={"records": [r.model_copy(update={"ratios": []}) for r in run.records]})
    with store.reading() as connection:
        stored = connection.scalar(sa.select(RUNS.c.id).where(RUNS.c.name == run.name)) is not None
    if not stored:
        store.add(without_ratios)
    elif store.load(run.name) != without_ratios:
        raise BenchError(f"{source}: another run '{run.name}' is in {store.shown_url}; bench history delete removes it")
    return run.name, not stored

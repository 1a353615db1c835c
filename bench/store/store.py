"""The store: runs, their records and what is kept beside them in SQL. SQLite by default, PostgreSQL by URL.

A record is kept whole as JSON, beside the columns that are searched by and its figures as numbers. What a round
measured is written in one transaction when it ends. ``bench.store.queries`` reads across runs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import BaseModel, ValidationError
from sqlalchemy.engine import make_url

from bench.errors import BenchError, UsageError
from bench.records import series_key
from bench.records.record import SCHEMA, Record, Run
from bench.records.upgrade import upgraded_record, upgraded_run
from bench.store.schema import FIGURES, HEAD, RECORDS, RUNS, TAGS, WEIGHTS

ENVIRONMENT = "BENCH_STORE"
MIGRATION_LOCK = 0x6576656E
"""Advisory lock (PostgreSQL) of whoever brings the schema up to date."""
INDEXED_AT_A_TIME = 500
Document = TypeVar("Document", bound=BaseModel)


def without_password(arguments: list[str]) -> list[str]:
    """Command-line arguments with the passwords of URLs among them hidden: what is stored and published."""
    return [re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", argument) for argument in arguments]


def default_url() -> str:
    """``BENCH_STORE``, else ``history.db`` in the user's data directory."""
    import platformdirs

    return os.environ.get(ENVIRONMENT) or str(Path(platformdirs.user_data_dir("evenbench")) / "history.db")


class Store:
    """An open store.

    Raises:
        BenchError: it cannot be opened, read or written; the message says which and what to do.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = _as_url(url or default_url())
        with self._errors("open"):
            sqlite = self.url.get_backend_name() == "sqlite"
            # No connection stays open between transactions, so that no lock of a file outlives one.
            self._engine = sa.create_engine(self.url, poolclass=sa.pool.NullPool)
            if sqlite:
                sa.event.listen(self._engine, "connect", _sqlite_settings)
                sa.event.listen(self._engine, "begin", _sqlite_begin)
                if self.url.database and self.url.database != ":memory:":
                    Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._engine.execution_options(writes=True)
            self._migrate()

    @property
    def shown(self) -> str:
        """Its URL without the password."""
        return self.url.render_as_string()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that reads."""
        with self._errors("read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes: all of it, or nothing."""
        with self._errors("write to"), self._writer.begin() as connection:
            yield connection

    def add_run(self, run: Run) -> None:
        """Begin a run; its records follow one by one."""
        with self.writing() as connection:
            connection.execute(RUNS.insert().values(**_run_values(run)))

    def end_run(self, run: Run) -> None:
        """What is known of a run only at its end: rounds, their order, where the time went."""
        with self.writing() as connection:
            connection.execute(RUNS.update().where(RUNS.c.name == run.name).values(**_run_values(run)))

    def save(self, run_name: str, *records: Record) -> None:
        """Write records in one transaction, each over the one of the same row of the same run."""
        with self.writing() as connection:
            run_id = connection.execute(sa.select(RUNS.c.id).where(RUNS.c.name == run_name)).scalar_one()
            for record in records:
                _write_record(connection, run_id, record)

    def add(self, run: Run) -> None:
        """A whole run with its records, in one transaction."""
        with self.writing() as connection:
            run_id = _inserted(connection, RUNS.insert().values(**_run_values(run)))
            for record in run.records:
                _write_record(connection, run_id, record)

    def load(self, name: str | None = None) -> Run:
        """A run by name (or its unambiguous beginning), tag, commit or ``last~N``; the last by default. Records come in
        the order of their rows, without ratios.

        Raises:
            UsageError: no such run, more than one, or none at all.
        """
        with self.reading() as connection:
            row = self.find(connection, name)
            columns = sa.select(RECORDS.c.content, RECORDS.c.schema)
            found = connection.execute(columns.where(RECORDS.c.run_id == row.id).order_by(RECORDS.c.id)).all()
        run = {
            "name": row.name,
            "command": row.command,
            "started_at": row.started_at,
            "rounds": row.rounds,
            "schedule": json.loads(row.schedule),
            **json.loads(row.design),
            "records": [json.loads(record.content) for record in found],
        }
        with self._errors("read"):
            return Run.model_validate(upgraded_run(run, min((record.schema for record in found), default=SCHEMA)))

    def find(self, connection: sa.Connection, name: str | None, exact: bool = False) -> Any:
        """The row of ``runs`` that ``load`` names; ``exact``: no beginnings and no commits."""
        query = sa.select(RUNS)
        back = re.fullmatch(r"last(?:~(\d+))?", "last" if name is None else name)
        if back:
            newest = query.order_by(RUNS.c.started_at.desc(), RUNS.c.id.desc())
            row = connection.execute(newest.limit(1).offset(int(back[1] or 0))).first()
            if row is None:
                missing = "no run" if not back[1] else f"no run '{name}'"
                raise UsageError(f"{missing} in {self.shown}; bench run --backend all makes one")
            return row
        tagged = connection.execute(query.join(TAGS).where(TAGS.c.name == name)).first()
        if tagged is not None:
            return tagged
        named = RUNS.c.name == name if exact or not name else RUNS.c.name.startswith(name, autoescape=True)
        matches = connection.execute(query.where(named).limit(2)).all()
        if not matches and not exact and re.fullmatch(r"[0-9a-f]{7,40}", name or ""):
            of_commit = sa.select(RECORDS.c.run_id).where(RECORDS.c.commit.startswith(name))
            by_age = query.where(RUNS.c.id.in_(of_commit)).order_by(RUNS.c.id.desc())
            matches = connection.execute(by_age.limit(1)).all()  # the newest run of the commit
        whole = [row for row in matches if row.name == name]
        if len(whole or matches) != 1:
            what = "no run" if not matches else "more than one run"
            raise UsageError(f"{what} '{name}' in {self.shown}; bench history lists them")
        return (whole or matches)[0]

    def keep_weights(self, run_name: str, row: str, content: bytes) -> None:
        """The weights of a trained row (safetensors), over those that were there."""
        with self.writing() as connection:
            run_id = connection.execute(sa.select(RUNS.c.id).where(RUNS.c.name == run_name)).scalar_one()
            connection.execute(WEIGHTS.delete().where((WEIGHTS.c.run_id == run_id) & (WEIGHTS.c.row == row)))
            connection.execute(WEIGHTS.insert().values(run_id=run_id, row=row, content=content))

    def weights(self, name: str | None = None) -> tuple[str, dict[str, bytes]]:
        """The full name of the run that ``load`` names, and the weights of its trained rows by row.

        Raises:
            UsageError: no such run.
        """
        with self.reading() as connection:
            run = self.find(connection, name)
            query = sa.select(WEIGHTS.c.row, WEIGHTS.c.content).where(WEIGHTS.c.run_id == run.id)
            rows = connection.execute(query.order_by(WEIGHTS.c.id)).all()
            return run.name, {row.row: row.content for row in rows}

    def put(self, table: sa.Table, name: str, content: str) -> None:
        """A document of ``checks``, ``baselines`` or ``bisections``, over the one of the same name."""
        with self.writing() as connection:
            same = table.c.name == name
            if connection.execute(table.update().where(same).values(content=content)).rowcount == 0:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                connection.execute(table.insert().values(name=name, created_at=now, content=content))

    def get(self, table: sa.Table, name: str) -> str | None:
        """A document's content; None if there is none of this name."""
        with self.reading() as connection:
            return connection.scalar(sa.select(table.c.content).where(table.c.name == name))

    def read(self, table: sa.Table, name: str, model: type[Document]) -> Document | None:
        """A document as a model; None if there is none of this name.

        Raises:
            BenchError: it is damaged, or of a newer evenbench.
        """
        content = self.get(table, name)
        with self._errors(f"read '{name}' in"):
            return None if content is None else model.model_validate_json(content)

    def remove(self, table: sa.Table, name: str) -> None:
        """A document, if it is there."""
        with self.writing() as connection:
            connection.execute(table.delete().where(table.c.name == name))

    def names(self, table: sa.Table) -> list[str]:
        """Of all documents of a table, the newest first."""
        with self.reading() as connection:
            return list(connection.scalars(sa.select(table.c.name).order_by(table.c.created_at.desc(), table.c.name)))

    def _migrate(self) -> None:
        """Bring the schema to this version, in one transaction; refuse a newer one."""
        with self._engine.connect() as connection:
            current = _revision(connection)
        if current == HEAD:
            return
        if current is not None and current > HEAD:
            raise BenchError(
                f"the store {self.shown} was written by a newer evenbench (schema {current});"
                " upgrade evenbench or name another with --store"
            )
        from bench.store.migrations import upgrade

        with self._writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            upgrade(connection)
            _index(connection)

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, OSError, ImportError, ValueError, TypeError, KeyError) as error:
            reason = (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]
            raise BenchError(f"cannot {verb} the store {self.shown}: {reason}; --store URL names another") from error


def _revision(connection: sa.Connection) -> str | None:
    """Of the schema; None for an empty database. Alembic itself is imported only where there is something to do."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return found


def _inserted(connection: sa.Connection, insert: sa.Insert) -> int:
    """The new row's ``id``."""
    key = connection.execute(insert).inserted_primary_key
    assert key is not None
    return int(key[0])


def _write_record(connection: sa.Connection, run_id: int, record: Record) -> None:
    values = {"status": record.status, "schema": SCHEMA, "content": record.model_dump_json(exclude={"ratios"})}
    row_key = json.dumps(record.job.row)
    same = (RECORDS.c.run_id == run_id) & (RECORDS.c.row_key == row_key)
    record_id = connection.scalar(sa.select(RECORDS.c.id).where(same))
    if record_id is None:
        place = series_key.place(record)
        record_id = _inserted(connection, RECORDS.insert().values(run_id=run_id, row_key=row_key, **place, **values))
    else:
        connection.execute(RECORDS.update().where(RECORDS.c.id == record_id).values(**values))
    _write_figures(connection, record_id, record)


def _write_figures(connection: sa.Connection, record_id: int, record: Record) -> None:
    """What is searched by of a record that is there."""
    told = {**series_key.place(record), "versions": json.dumps(record.versions, sort_keys=True)}
    connection.execute(RECORDS.update().where(RECORDS.c.id == record_id).values(**told))
    connection.execute(FIGURES.delete().where(FIGURES.c.record_id == record_id))
    columns = ("name", "task", "batch_size", "boundary", "unit", "value", "low", "high", "n")
    values = [
        {"record_id": record_id, **{column: getattr(figure, column) for column in columns}}
        for figure in record.figures
        if figure.value is not None and record.comparable
    ]
    if values:
        connection.execute(FIGURES.insert(), values)


def _index(connection: sa.Connection) -> None:
    """Fill what is searched by for the records of older versions; one that cannot be read is left out."""
    while True:
        query = sa.select(RECORDS.c.id, RECORDS.c.content, RECORDS.c.schema).where(RECORDS.c.series.is_(None))
        rows = connection.execute(query.limit(INDEXED_AT_A_TIME)).all()
        for row in rows:
            try:
                record = Record.model_validate(upgraded_record(json.loads(row.content), row.schema, {}))
            except (ValidationError, ValueError, KeyError, TypeError):
                connection.execute(RECORDS.update().where(RECORDS.c.id == row.id).values(series="unreadable"))
                continue
            _write_figures(connection, row.id, record)
        if not rows:
            return


def _run_values(run: Run) -> dict[str, Any]:
    design = run.model_dump(include={"precision_target", "budget", "timing", "accuracy_margin"})
    told = {"name": run.name, "command": run.command, "started_at": run.started_at, "rounds": run.rounds}
    return {**told, "schedule": json.dumps(run.schedule), "design": json.dumps(design)}


def _as_url(text: str) -> sa.URL:
    """A URL as it is; a plain path becomes SQLite's. PostgreSQL is spoken to by psycopg 3."""
    if "://" not in text:
        return sa.URL.create("sqlite", database=str(Path(text).expanduser().absolute()))
    try:
        url = make_url(text)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        url.get_dialect()
    except sa.exc.ArgumentError as error:
        raise UsageError(f"--store: not a database URL such as sqlite:///history.db ({error})") from error
    return url


def _sqlite_settings(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver would commit before every CREATE TABLE; we say BEGIN ourselves
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA busy_timeout = 30000")


def _sqlite_begin(connection: sa.Connection) -> None:
    """Writers take their lock at once and wait for it: a reader that turns writer would be refused instead."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

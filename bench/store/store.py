"""The store: runs, records, weights and documents in SQL. SQLite by default, PostgreSQL by URL.

A record is stored whole as JSON, beside its indexed columns and its metrics as numbers. The records of a round are
written in one transaction at its end. ``bench.store.queries`` reads across runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from pydantic import BaseModel, ValidationError
from sqlalchemy.engine import make_url

from bench.errors import BenchError, UsageError
from bench.file_names import readable
from bench.machine import file_systems
from bench.records import series_key
from bench.records.gate_result import Check, Sides
from bench.records.record import SCHEMA, Record, Run
from bench.records.upgrade import upgraded_record, upgraded_run
from bench.store import checkpoints
from bench.store.journal import Call, Journal
from bench.store.schema import CHECKS, FIGURES, HEAD, RECORDS, RUNS, SIDES, TAGS, WEIGHTS
from bench.worker.protocol import RowKey

ENVIRONMENT = "BENCH_STORE"
MIGRATION_LOCK = 0x6576656E
"""Key of the advisory lock (PostgreSQL) during a migration."""
BUSY_MILLISECONDS = 30_000
"""How long SQLite waits for another writer. Ours write for milliseconds; a migration of many records takes longer."""
INDEX_BATCH = 500
"""Records of older versions that are indexed at a time."""
Document = TypeVar("Document", bound=BaseModel)


def default_url() -> str:
    """``BENCH_STORE``, else ``history.db`` in the user's data directory."""
    import platformdirs

    return os.environ.get(ENVIRONMENT) or str(Path(platformdirs.user_data_dir("evenbench")) / "history.db")


class Store:
    """An open store.

    Raises:
        BenchError: it cannot be opened, read or written; the message says what to do.
    """

    def __init__(self, url: str | None = None) -> None:
        self.url = _parse_url(url or default_url())
        with self._errors("open"):
            sqlite = self.url.get_backend_name() == "sqlite"
            # Connections close after each transaction, so that no file lock remains.
            self._engine = sa.create_engine(_readable_url(self.url, self.file), poolclass=sa.pool.NullPool)
            if sqlite:
                sa.event.listen(self._engine, "connect", _sqlite_settings)
                sa.event.listen(self._engine, "begin", _sqlite_begin)
                if self.file is not None:
                    self.file.parent.mkdir(parents=True, exist_ok=True)
                    self._use_wal(self.file)
            self._writer = self._engine.execution_options(writes=True)
            self._migrate()
            self._journal = Journal.of_environment()

    @property
    def file(self) -> Path | None:
        """The SQLite file; None: the store is another one."""
        database = self.url.database if self.url.get_backend_name() == "sqlite" else None
        return None if database in (None, "", ":memory:") or self.url.query else Path(str(database))

    @property
    def shown_url(self) -> str:
        """The URL without the password; of a SQLite file its path as it is."""
        if self.url.get_backend_name() == "sqlite" and self.url.database and not self.url.query:
            return f"sqlite:///{readable(self.url.database)}"
        return self.url.render_as_string()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that reads."""
        with self._errors("read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes."""
        with self._errors("write to"), self._writer.begin() as connection:
            yield connection

    def check_space(self, needed: int) -> None:
        """Raise BenchError if the disk of a SQLite file has less than so many bytes free."""
        free = None if self.file is None else shutil.disk_usage(self.file.parent).free
        if free is not None and needed > free:
            text = f"about {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free where {self.shown_url} is"
            raise BenchError(f"the store needs {text}; --store URL names another place")

    def add_run(self, run: Run, parts: Mapping[str, bytes] | None = None) -> None:
        """Store a new run, with the checkpoint that it can go on from; its records are saved later."""
        with self.writing() as connection:
            connection.execute(RUNS.insert().values(**_run_values(run)))
            checkpoints.write(connection, run.name, parts or {})
        self._note("add_run", run.name, run=run, parts=dict(parts or {}))

    def end_run(self, run: Run, whole: bool = True) -> None:
        """Store in one transaction what only the end of a run knows: rounds, their order, timing, the final records.
        ``whole``: nothing is missing, its checkpoint goes."""
        with self.writing() as connection:
            connection.execute(RUNS.update().where(RUNS.c.name == run.name).values(**_run_values(run)))
            run_id = connection.execute(sa.select(RUNS.c.id).where(RUNS.c.name == run.name)).scalar_one()
            for record in run.records:
                _write_record(connection, run_id, record)
            if whole:
                checkpoints.remove(connection, [run.name])
        self._note("end_run", run.name, run=run, whole=whole)

    def save(self, run_name: str, *records: Record, parts: Mapping[str, bytes] | None = None) -> None:
        """Write records and parts of the checkpoint in one transaction; each replaces the one of the same row (part)
        and run."""
        with self.writing() as connection:
            run_id = connection.execute(sa.select(RUNS.c.id).where(RUNS.c.name == run_name)).scalar_one()
            for record in records:
                _write_record(connection, run_id, record)
            checkpoints.write(connection, run_name, parts or {})
        self._note("save", run_name, records=list(records), parts=dict(parts or {}))

    def add(self, run: Run) -> None:
        """Store a run with its records in one transaction."""
        with self.writing() as connection:
            run_id = _insert(connection, RUNS.insert().values(**_run_values(run)))
            for record in run.records:
                _write_record(connection, run_id, record)

    def load(self, name: str | None = None) -> Run:
        """A run by name (or its unambiguous beginning), tag, commit or ``last~N``; the last run by default. Records are
        in the order of their rows, without ratios.

        Raises:
            UsageError: no such run, more than one, or an empty store.
        """
        with self.reading() as connection:
            row = self.find(connection, name)
            columns = sa.select(RECORDS.c.content, RECORDS.c.schema)
            records = connection.execute(columns.where(RECORDS.c.run_id == row.id).order_by(RECORDS.c.id)).all()
        run = {
            "name": row.name,
            "command": row.command,
            "started_at": row.started_at,
            "rounds": row.rounds,
            "schedule": json.loads(row.schedule),
            **json.loads(row.design),
            "records": [json.loads(record.content) for record in records],
        }
        with self._errors("read"):
            return Run.model_validate(upgraded_run(run, min((record.schema for record in records), default=SCHEMA)))

    def find(self, connection: sa.Connection, name: str | None, exact: bool = False) -> Any:
        """The row of the table ``runs`` of ``load``'s ``name``; ``exact``: no beginnings and no commits."""
        query = sa.select(RUNS)
        nth_last = re.fullmatch(r"last(?:~(\d+))?", "last" if name is None else name)
        if nth_last:
            newest = query.order_by(RUNS.c.started_at.desc(), RUNS.c.id.desc())
            row = connection.execute(newest.limit(1).offset(int(nth_last[1] or 0))).first()
            if row is None:
                missing = "no run" if not nth_last[1] else f"no run '{name}'"
                raise UsageError(f"{missing} in {self.shown_url}; bench run --backend all makes one")
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
            raise UsageError(f"{what} '{name}' in {self.shown_url}; bench history lists them")
        return (whole or matches)[0]

    def keep_weights(self, run_name: str, row: str, content: bytes) -> None:
        """Store the weights of a trained row (safetensors); they replace earlier ones."""
        with self.writing() as connection:
            run_id = connection.execute(sa.select(RUNS.c.id).where(RUNS.c.name == run_name)).scalar_one()
            connection.execute(WEIGHTS.delete().where((WEIGHTS.c.run_id == run_id) & (WEIGHTS.c.row == row)))
            connection.execute(WEIGHTS.insert().values(run_id=run_id, row=row, content=content))
        self._note("keep_weights", run_name, row=row, content=content)

    def weights(self, name: str | None = None) -> tuple[str, dict[str, bytes]]:
        """The full name of a run, selected as in ``load``, and the weights of its trained rows by row.

        Raises:
            UsageError: no such run.
        """
        with self.reading() as connection:
            run = self.find(connection, name)
            query = sa.select(WEIGHTS.c.row, WEIGHTS.c.content).where(WEIGHTS.c.run_id == run.id)
            rows = connection.execute(query.order_by(WEIGHTS.c.id)).all()
            return run.name, {row.row: row.content for row in rows}

    def end_check(self, check: Check, sides: Sides, whole: bool) -> None:
        """Store a check and its records in one transaction. ``whole``: nothing is missing, its checkpoint goes."""
        with self.writing() as connection:
            _put(connection, CHECKS, check.name, check.model_dump_json())
            _put(connection, SIDES, check.name, sides.model_dump_json())
            if whole:
                checkpoints.remove(connection, [check.name])
        self._note("end_check", check.name, check=check, sides=sides, whole=whole)

    def keep_parts(self, owner: str, parts: Mapping[str, bytes]) -> None:
        """Store parts of the checkpoint of a run or check."""
        with self.writing() as connection:
            checkpoints.write(connection, owner, parts)
        self._note("keep_parts", owner, parts=dict(parts))

    def forget_parts(self, owner: str, names: Sequence[str] | None = None) -> None:
        """Remove parts of the checkpoint of a run or check; None: all, there is nothing to go on from."""
        with self.writing() as connection:
            if names is None:
                checkpoints.remove(connection, [owner])
            for name in names or ():
                checkpoints.remove_part(connection, owner, name)
        self._note("forget_parts", owner, names=None if names is None else list(names))

    def parts(self, owner: str) -> dict[str, bytes]:
        """The checkpoint of a run or check; empty: it has ended."""
        with self.reading() as connection:
            return checkpoints.read(connection, owner)

    def unended(self) -> dict[str, bytes]:
        """What all runs, checks and sweeps that can go on were begun with, by name."""
        with self.reading() as connection:
            return checkpoints.all_begun(connection)

    def put(self, table: sa.Table, name: str, content: str, parts: Mapping[str, bytes] | None = None) -> None:
        """Store a document in a table such as ``checks``, with parts of its checkpoint; it replaces the one of the same
        name."""
        with self.writing() as connection:
            _put(connection, table, name, content)
            checkpoints.write(connection, name, parts or {})
        self._note("put", name, table=table.name, text=content, parts=dict(parts or {}))

    def get(self, table: sa.Table, name: str) -> str | None:
        """A document's content; None if there is no document of this name."""
        with self.reading() as connection:
            return connection.scalar(sa.select(table.c.content).where(table.c.name == name))

    def read(self, table: sa.Table, name: str, model: type[Document]) -> Document | None:
        """A document as a model; None if there is no document of this name.

        Raises:
            BenchError: the document is damaged, or of a newer evenbench.
        """
        content = self.get(table, name)
        with self._errors(f"read '{name}' in"):
            return None if content is None else model.model_validate_json(content)

    def remove(self, table: sa.Table, name: str) -> None:
        """Remove a document, if it exists."""
        with self.writing() as connection:
            connection.execute(table.delete().where(table.c.name == name))

    def names(self, table: sa.Table) -> list[str]:
        """The names of all documents of a table, the newest first."""
        with self.reading() as connection:
            return list(connection.scalars(sa.select(table.c.name).order_by(table.c.created_at.desc(), table.c.name)))

    def _note(self, call: Call, name: str, **arguments: Any) -> None:
        """Note a change that has been made, where there is a journal."""
        if self._journal is not None:
            with self._errors("note what was written to"):
                self._journal.note(call, name, **arguments)

    def _use_wal(self, file: Path) -> None:
        """SQLite's write-ahead log: who reads waits for nobody, and nobody for them. It needs shared memory, which a
        network file system lacks, and a folder that can be written; there the rollback journal stays."""
        file_system = file_systems.kind(file)
        if file_systems.is_network(file_system):
            where = f"the store {self.shown_url} is on {file_system}, where SQLite's locks may fail"
            print(f"note: {where}: --store postgresql://... is for several machines", file=sys.stderr)
        elif os.access(file.parent, os.W_OK):
            with self._engine.connect() as connection:
                if connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal":
                    connection.rollback()  # it cannot change within a transaction
                    driver: Any = connection.connection.driver_connection
                    driver.execute("PRAGMA journal_mode = WAL")

    def _migrate(self) -> None:
        """Upgrade the schema in one transaction; refuse a newer schema."""
        with self._engine.connect() as connection:
            current = _revision(connection)
        if current == HEAD:
            return
        if current is not None and current > HEAD:
            raise BenchError(
                f"the store {self.shown_url} was written by a newer evenbench (schema {current});"
                " upgrade evenbench or name another with --store"
            )
        from bench.store.migrations import upgrade

        with self._writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
            upgrade(connection)
            _index_old_records(connection)

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (
            sa.exc.SQLAlchemyError, OSError, ImportError, ValueError, TypeError, KeyError, RecursionError, MemoryError
        ) as error:  # fmt: skip
            reason = (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]
            problem = f"cannot {verb} the store {self.shown_url}: {reason}"
            raise BenchError(f"{problem}; --store URL names another") from error


def _revision(connection: sa.Connection) -> str | None:
    """The schema's revision; None for an empty database. Alembic is imported only if a migration is needed."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision


def _insert(connection: sa.Connection, insert: sa.Insert) -> int:
    """Insert a row; its ``id``."""
    key = connection.execute(insert).inserted_primary_key
    assert key is not None
    return int(key[0])


def _put(connection: sa.Connection, table: sa.Table, name: str, content: str) -> None:
    if connection.execute(table.update().where(table.c.name == name).values(content=content)).rowcount == 0:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        connection.execute(table.insert().values(name=name, created_at=now, content=content))


def _write_record(connection: sa.Connection, run_id: int, record: Record) -> None:
    values = {"status": record.status, "schema": SCHEMA, "content": record.model_dump_json(exclude={"ratios"})}
    row_key = _row_key(record.job.row)
    same = (RECORDS.c.run_id == run_id) & (RECORDS.c.row_key == row_key)
    record_id = connection.scalar(sa.select(RECORDS.c.id).where(same))
    if record_id is None:
        place = series_key.place(record)
        record_id = _insert(connection, RECORDS.insert().values(run_id=run_id, row_key=row_key, **place, **values))
    else:
        connection.execute(RECORDS.update().where(RECORDS.c.id == record_id).values(**values))
    _write_metrics(connection, record_id, record)


def _row_key(row: RowKey) -> str:
    """As text. A row without input workers and processes has the text that it had before there were any."""
    values, fewest = list(row), RowKey._fields.index("input_workers")
    while len(values) > fewest and values[-1] is None:
        values.pop()
    return json.dumps(values)


def _write_metrics(connection: sa.Connection, record_id: int, record: Record) -> None:
    """Write the indexed columns and the metrics of a stored record."""
    indexed = {**series_key.place(record), "versions": json.dumps(record.versions, sort_keys=True)}
    connection.execute(RECORDS.update().where(RECORDS.c.id == record_id).values(**indexed))
    connection.execute(FIGURES.delete().where(FIGURES.c.record_id == record_id))
    columns = ("name", "task", "batch_size", "boundary", "unit", "value", "low", "high", "n")
    values = [
        {"record_id": record_id, **{column: getattr(figure, column) for column in columns}}
        for figure in record.figures
        if figure.value is not None and record.comparable
    ]
    if values:
        connection.execute(FIGURES.insert(), values)


def _index_old_records(connection: sa.Connection) -> None:
    """Index the records of older versions; unreadable ones are left out."""
    while True:
        query = sa.select(RECORDS.c.id, RECORDS.c.content, RECORDS.c.schema).where(RECORDS.c.series.is_(None))
        rows = connection.execute(query.limit(INDEX_BATCH)).all()
        for row in rows:
            try:
                record = Record.model_validate(upgraded_record(json.loads(row.content), row.schema, {}))
            except (ValidationError, ValueError, KeyError, TypeError):
                connection.execute(RECORDS.update().where(RECORDS.c.id == row.id).values(series="unreadable"))
                continue
            _write_metrics(connection, row.id, record)
        if not rows:
            return


def _run_values(run: Run) -> dict[str, Any]:
    design = run.model_dump(include={"precision_target", "budget", "timing", "accuracy_margin", "resumed"})
    columns = {"name": run.name, "command": run.command, "started_at": run.started_at, "rounds": run.rounds}
    return {**columns, "schedule": json.dumps(run.schedule), "design": json.dumps(design)}


def _parse_url(text: str) -> sa.URL:
    """Parse a database URL or a path of a SQLite file. PostgreSQL uses psycopg 3."""
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


def _readable_url(url: sa.URL, file: Path | None) -> sa.URL:
    """The URL to connect to. A write-ahead log needs a folder that can be written; a file on a medium that cannot,
    whole by itself, is read without one."""
    if file is None or not file.exists() or os.access(file.parent, os.W_OK) or Path(f"{file}-wal").exists():
        return url
    return url.set(database=f"file:{quote(str(file))}", query={"immutable": "1", "uri": "true"})


def _sqlite_settings(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver would commit before every CREATE TABLE; _sqlite_begin sends BEGIN
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # what is said to be stored survives a power cut


def _sqlite_begin(connection: sa.Connection) -> None:
    """Begin a transaction. Writers lock at once and wait for the lock; upgrading a read lock would fail instead."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

"""History: runs and their records in SQL. SQLite by default; the schema's versions are Alembic's.

A record is kept whole as JSON beside the columns that are searched by. Whatever a row came to is written in one
transaction when one of its jobs ends.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from bench.errors import BenchError, UsageError
from bench.job import SCHEMA, Record, Run

ENVIRONMENT = "BENCH_STORE"

METADATA = sa.MetaData()
RUNS = sa.Table(
    "runs",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("command", sa.Text, nullable=False),
    sa.Column("started_at", sa.String(32), nullable=False, index=True),
    sa.Column("rounds", sa.Integer, nullable=False),
    sa.Column("schedule", sa.Text, nullable=False),
    sa.Column("design", sa.Text, nullable=False),
)
RECORDS = sa.Table(
    "records",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("row_key", sa.String(512), nullable=False),
    sa.Column("backend", sa.String(128), nullable=False, index=True),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("dataset", sa.String(128), nullable=False),
    sa.Column("recipe", sa.String(128), nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("schema", sa.Integer, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.UniqueConstraint("run_id", "row_key"),
)


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
            # SQLite: no connection stays open between transactions, so that no file lock outlives one.
            self._engine = sa.create_engine(self.url, poolclass=sa.pool.NullPool if sqlite else None)
            if sqlite:
                sa.event.listen(self._engine, "connect", _sqlite_settings)
                sa.event.listen(self._engine, "begin", _sqlite_begin)
                if self.url.database and self.url.database != ":memory:":
                    Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._engine.execution_options(writes=True)
            _migrate(self._engine, self._writer)

    def add_run(self, run: Run) -> None:
        """Begin a run; its records follow one by one."""
        with self._errors("write to"), self._writer.begin() as connection:
            connection.execute(RUNS.insert().values(**_run_values(run)))

    def end_run(self, run: Run) -> None:
        """What is known of a run only at its end: rounds, their order, where the time went."""
        with self._errors("write to"), self._writer.begin() as connection:
            connection.execute(RUNS.update().where(RUNS.c.name == run.name).values(**_run_values(run)))

    def save(self, run_name: str, record: Record) -> None:
        """Write a record, over the one of the same row of the same run."""
        job = record.job
        row_key = json.dumps(job.row)
        values: dict[str, Any] = {
            "backend": job.backend,
            "model": job.model,
            "dataset": job.dataset,
            "recipe": job.recipe,
        }
        values |= {"status": record.status, "schema": SCHEMA, "content": record.model_dump_json(exclude={"ratios"})}
        with self._errors("write to"), self._writer.begin() as connection:
            run_id = connection.scalar(sa.select(RUNS.c.id).where(RUNS.c.name == run_name))
            same = (RECORDS.c.run_id == run_id) & (RECORDS.c.row_key == row_key)
            if connection.execute(RECORDS.update().where(same).values(**values)).rowcount == 0:
                connection.execute(RECORDS.insert().values(run_id=run_id, row_key=row_key, **values))

    def load(self, name: str | None = None) -> Run:
        """A run by name (or its unambiguous beginning), or the last; records in the order of their rows, without
        ratios.

        Raises:
            UsageError: no such run, or none at all.
        """
        with self._errors("read"), self._engine.connect() as connection:
            row = self._find(connection, name)
            found = connection.scalars(
                sa.select(RECORDS.c.content).where(RECORDS.c.run_id == row.id).order_by(RECORDS.c.id)
            ).all()
            return Run(
                name=row.name,
                command=row.command,
                started_at=row.started_at,
                rounds=row.rounds,
                schedule=json.loads(row.schedule),
                **json.loads(row.design),
                records=[Record.model_validate_json(content) for content in found],
            )

    def _find(self, connection: sa.Connection, name: str | None) -> Any:
        query = sa.select(RUNS)
        if name is None:
            last = connection.execute(query.order_by(RUNS.c.id.desc()).limit(1)).first()
            if last is None:
                raise UsageError(f"no run in {self.url.render_as_string()}; bench run --backend all makes one")
            return last
        matches = connection.execute(query.where(RUNS.c.name.startswith(name, autoescape=True)).limit(2)).all()
        exact = [row for row in matches if row.name == name]
        if len(exact or matches) != 1:
            what = "no run" if not matches else "more than one run"
            raise UsageError(f"{what} '{name}' in {self.url.render_as_string()}; bench report shows the last")
        return (exact or matches)[0]

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        from alembic.util import CommandError

        try:
            yield
        except (sa.exc.SQLAlchemyError, CommandError, OSError, ImportError, ValidationError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            where = self.url.render_as_string()
            raise BenchError(f"cannot {verb} the store {where}: {reason}; --store URL names another") from error


def _run_values(run: Run) -> dict[str, Any]:
    design = run.model_dump(include={"precision_target", "budget", "timing"})
    told = {"name": run.name, "command": run.command, "started_at": run.started_at, "rounds": run.rounds}
    return {**told, "schedule": json.dumps(run.schedule), "design": json.dumps(design)}


def _as_url(text: str) -> sa.URL:
    """A URL as it is; a plain path becomes SQLite's."""
    if "://" not in text:
        return sa.URL.create("sqlite", database=str(Path(text).expanduser().absolute()))
    try:
        url = make_url(text)
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


def _migrate(reader: sa.Engine, writer: sa.Engine) -> None:
    """Bring the schema to this version, in one transaction; refuse a newer one."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    with reader.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current == script.get_current_head():
        return
    if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
        raise BenchError(
            f"the store {reader.url.render_as_string()} was written by a newer evenbench (schema {current});"
            " upgrade evenbench or name another with --store"
        )
    with writer.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

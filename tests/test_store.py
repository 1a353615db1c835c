"""The store: what goes in comes out, one transaction at a time, with clear errors."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from bench.errors import BenchError, UsageError
from bench.job import SCHEMA, Data, Figure, Job, Record, Run, export
from bench.store import Store, without_password

RECORDS = Path(__file__).parent / "records"


def record(backend: str = "pytorch", status: str = "ok", value: float = 1.0) -> Record:
    job = Job(backend=backend, mode="eager", model="m", dataset="d", recipe="r", threads=2)
    return Record(
        status=status,
        job=job,
        figures=[
            Figure(name="throughput", task="train", batch_size=1, boundary="device", value=value, unit="images/s")
        ],
        machine={"id": "x", "gpus": []},
        data=Data(name="d", sha256="0" * 64, train=1, test=1),
        started_at="2026-01-01T00:00:00+00:00",
    )


def run(name: str = "20260101T000000-aaaa") -> Run:
    return Run(name=name, command="bench run", started_at="2026-01-01T00:00:00+00:00", rounds=3, schedule=[["pytorch"]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "history.db"


def test_round_trip(path: Path) -> None:
    Store(str(path)).add_run(run())
    Store(str(path)).save(run().name, record())
    Store(str(path)).save(run().name, record("keras"))
    found = Store(f"sqlite:///{path}").load()
    assert [r.job.backend for r in found.records] == ["pytorch", "keras"]
    assert found.records[0] == record()
    assert found.schedule == [["pytorch"]]


def test_a_row_is_written_over_by_what_it_came_to(path: Path) -> None:
    store = Store(str(path))
    store.add_run(run())
    store.save(run().name, record(value=1.0))
    store.save(run().name, record(value=2.0, status="crashed"))
    (found,) = store.load().records
    assert (found.status, found.figures[0].value) == ("crashed", 2.0)


def test_runs_by_name_and_beginning(path: Path) -> None:
    store = Store(str(path))
    for name in ("20260101T000000-aaaa", "20260102T000000-bbbb"):
        store.add_run(run(name))
    assert store.load().name.endswith("bbbb")
    assert store.load("20260101").name.endswith("aaaa")
    with pytest.raises(UsageError, match="more than one run '2026'"):
        store.load("2026")
    with pytest.raises(UsageError, match="no run 'x'"):
        store.load("x")
    with pytest.raises(UsageError, match="no run '%'"):
        store.load("%")


def test_an_empty_store_says_how_to_fill_it(path: Path) -> None:
    with pytest.raises(UsageError, match="bench run --backend all makes one"):
        Store(str(path)).load()


def test_the_migrations_make_the_tables_that_are_used(path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from bench.store import METADATA

    store = Store(str(path))
    with store._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_store_of_an_older_version_is_brought_up_to_date(path: Path) -> None:
    """Schema 0001, before runs had a design and timing."""
    from alembic import command
    from alembic.config import Config

    import bench

    path.parent.mkdir()
    config = Config()
    config.set_main_option("script_location", str(Path(bench.__file__).parent / "migrations"))
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        values = "'old', 'bench run', '2026-01-01T00:00:00+00:00', 3, '[[\"pytorch\"]]'"
        connection.exec_driver_sql(f"INSERT INTO runs (name, command, started_at, rounds, schedule) VALUES ({values})")
    engine.dispose()
    found = Store(str(path)).load("old")
    assert (found.rounds, found.schedule, found.timing, found.precision_target) == (3, [["pytorch"]], {}, None)


def test_what_is_known_only_at_the_end_of_a_run(path: Path) -> None:
    store = Store(str(path))
    store.add_run(run())
    told = {
        "rounds": 5,
        "schedule": [["a", "b"]] * 5,
        "timing": {"wall": 1.5},
        "precision_target": 0.02,
        "budget": 300.0,
    }
    store.end_run(run().model_copy(update=told))
    found = store.load()
    assert {name: getattr(found, name) for name in told} == told


def test_a_newer_store_is_refused(path: Path) -> None:
    Store(str(path))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(BenchError, match=r"newer evenbench \(schema 9999\)"):
        Store(str(path))


def test_an_interrupted_first_opening_leaves_nothing_half_made(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import alembic.op

    class Killed(BaseException):
        pass

    create = alembic.op.create_table

    def fail(name: str, *columns: object) -> None:
        if name == "records":
            raise Killed
        create(name, *columns)

    monkeypatch.setattr(alembic.op, "create_table", fail)
    with pytest.raises(Killed):
        Store(str(path))
    monkeypatch.undo()
    store = Store(str(path))
    store.add_run(run())
    assert store.load().name == run().name


def test_a_driver_that_is_missing_is_one_line() -> None:
    with pytest.raises(BenchError, match="cannot open the store oracle://"):
        Store("oracle://user:secret@localhost/x")


def test_a_damaged_record_is_one_line(path: Path) -> None:
    store = Store(str(path))
    store.add_run(run())
    store.save(run().name, record())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET content = '{}'")
    connection.close()
    with pytest.raises(BenchError, match="cannot read the store"):
        store.load()


def test_passwords_are_not_kept() -> None:
    arguments = ["run", "--store", "postgresql://me:secret@host/db", "--store=postgresql://me:s@host/db", "--seed", "1"]
    hidden = ["run", "--store", "postgresql://me:***@host/db", "--store=postgresql://me:***@host/db", "--seed", "1"]
    assert without_password(arguments) == hidden


def test_a_corrupt_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    path.write_bytes(b"this is not a database, it only looks like one" * 100)
    before = path.read_bytes()
    with pytest.raises(BenchError, match=r"cannot open the store .*--store URL names another"):
        Store(str(path))
    assert path.read_bytes() == before


def test_folders_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="cannot open the store"):
        Store(str(tmp_path / "file" / "history.db"))


def test_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("BENCH_STORE", raising=False)
    if os.name == "posix":
        assert Store().url.database == str(tmp_path / "evenbench" / "history.db")
    monkeypatch.setenv("BENCH_STORE", str(tmp_path / "mine.db"))
    assert Store().url.database == str(tmp_path / "mine.db")


@pytest.mark.parametrize("version", range(1, SCHEMA + 1))
def test_a_stored_record_of_every_schema_is_read(version: int) -> None:
    document = json.loads((RECORDS / f"schema{version}.json").read_text())
    records = [Record.model_validate(plain) for plain in document["records"]]
    assert {r.job.backend for r in records} >= {"pytorch", "keras", "onnxruntime", "reference"}
    assert all(r.comparable for r in records)
    trained = next(r for r in records if r.job.backend == "pytorch")
    assert trained.figure("throughput", "train", "end-to-end").n >= 1


def test_export_is_the_document_of_the_design() -> None:
    document = json.loads(export(run().model_copy(update={"records": [record()]})))
    assert document["schema"] == SCHEMA
    assert document["run"] == run().name
    assert set(document["records"][0]) >= {
        "status", "error", "job", "figures", "ratios", "parity", "disturbance", "machine", "versions", "data", "commit",
        "started_at",
    }  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        record(value=value)


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    """Eight processes open a store that does not exist yet and write into it."""
    import subprocess
    import sys

    code = (
        "import sys; from test_store import record, run; from bench.store import Store\n"
        "path, number = sys.argv[1:]\n"
        "store = Store(path); store.add_run(run(f'2026-{number}'))\n"
        "for turn in range(20):\n"
        "    store.save(f'2026-{number}', record(f'backend-{turn}'))\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    here = str(Path(__file__).parent)
    writers = [subprocess.Popen([*command, str(number)], cwd=here, stderr=subprocess.PIPE) for number in range(8)]
    for writer in writers:
        _, err = writer.communicate(timeout=120)
        assert writer.returncode == 0, err.decode()
    store = Store(str(path))
    for number in range(8):
        assert len(store.load(f"2026-{number}").records) == 20

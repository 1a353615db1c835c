"""The store: round trips, transactions, migrations, and errors."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from stored import record, run

from bench.errors import BenchError, UsageError
from bench.records.export import export, parse_export
from bench.records.record import SCHEMA
from bench.store import queries
from bench.store.store import Store

RECORDS = Path(__file__).parents[1] / "data"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "history.db"


def test_round_trip(store_url: str) -> None:
    Store(store_url).add_run(run())
    Store(store_url).save(run().name, record())
    Store(store_url).save(run().name, record("keras"))
    loaded = Store(store_url).load()
    assert [r.job.backend for r in loaded.records] == ["pytorch", "keras"]
    assert loaded.records[0] == record()
    assert loaded.schedule == [["pytorch"]]


def test_a_later_record_replaces_that_of_the_same_row(store_url: str) -> None:
    store = Store(store_url)
    store.add_run(run())
    store.save(run().name, record(value=1.0))
    store.save(run().name, record(value=2.0, status="crashed"))
    (loaded,) = store.load().records
    assert (loaded.status, loaded.figures[0].value) == ("crashed", 2.0)


def test_runs_by_name_and_beginning(store_url: str) -> None:
    store = Store(store_url)
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


def test_an_empty_store_says_how_to_fill_it(store_url: str) -> None:
    with pytest.raises(UsageError, match="bench run --backend all makes one"):
        Store(store_url).load()


def test_the_migrations_make_the_tables_that_are_used(store_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from bench.store.schema import METADATA

    store = Store(store_url)
    with store._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_store_of_an_older_version_is_brought_up_to_date(path: Path) -> None:
    """Schema 0001, before runs had a design and timing."""
    from bench.store.migrations import upgrade

    path.parent.mkdir()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade(connection, "0001")
        values = "'old', 'bench run', '2026-01-01T00:00:00+00:00', 3, '[[\"pytorch\"]]'"
        connection.exec_driver_sql(f"INSERT INTO runs (name, command, started_at, rounds, schedule) VALUES ({values})")
    engine.dispose()
    loaded = Store(str(path)).load("old")
    assert (loaded.rounds, loaded.schedule, loaded.timing, loaded.precision_target) == (3, [["pytorch"]], {}, None)


def test_fields_that_are_known_only_at_the_end_of_a_run(store_url: str) -> None:
    store = Store(store_url)
    store.add_run(run())
    fields = {
        "rounds": 5,
        "schedule": [["a", "b"]] * 5,
        "timing": {"wall": 1.5},
        "precision_target": 0.02,
        "budget": 300.0,
    }
    store.end_run(run().model_copy(update=fields))
    loaded = store.load()
    assert {name: getattr(loaded, name) for name in fields} == fields


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
    path = RECORDS / f"schema{version}.json"
    records = parse_export(path.read_text(), path.name).records
    assert {r.job.backend for r in records} >= {"pytorch", "keras", "onnxruntime", "reference"}
    assert {r.status for r in records} <= {"ok", "unsupported"}
    assert all(r.comparable for r in records if r.status == "ok")
    trained = next(r for r in records if r.job.backend == "pytorch" and r.status == "ok")
    assert trained.figure("throughput", "train", "end-to-end").n >= 1


def test_export_has_the_documented_fields() -> None:
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


@pytest.mark.slow
@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("rounds", [250, pytest.param(1000, marks=pytest.mark.long)])
def test_processes_that_write_at_once_lose_nothing(store_url: str, rounds: int) -> None:
    """Eight processes open a store that does not exist yet; each writes so many rounds."""
    code = (
        "import sys; from stored import record, run; from bench.store.store import Store\n"
        "url, number, rounds = sys.argv[1:]\n"
        "store = Store(url); store.add_run(run(f'2026-{number}'))\n"
        "for turn in range(int(rounds)):\n"
        "    store.save(f'2026-{number}', record(f'backend-{turn % 10}', value=turn))\n"
    )
    command = [sys.executable, "-c", code, store_url]
    here = str(Path(__file__).parents[1])
    writers = [
        subprocess.Popen([*command, str(number), str(rounds)], cwd=here, stderr=subprocess.PIPE) for number in range(8)
    ]
    for writer in writers:
        _, err = writer.communicate(timeout=1800)
        assert writer.returncode == 0, err.decode()
    store = Store(store_url)
    for number in range(8):
        values = {r.job.backend: r.figures[0].value for r in store.load(f"2026-{number}").records}
        assert values == {f"backend-{turn}": rounds - 10.0 + turn for turn in range(10)}


def test_a_round_is_stored_in_one_transaction(store_url: str) -> None:
    store = Store(store_url)
    store.add_run(run())
    store.save(run().name, record(value=1.0), record("keras", value=1.0))
    unstorable = record("other", value=2.0).model_copy(update={"status": None})
    with pytest.raises(BenchError, match="cannot write to the store"):
        store.save(run().name, record(value=2.0), record("keras", value=2.0), unstorable)
    assert [r.figures[0].value for r in store.load().records] == [1.0, 1.0]


@pytest.mark.usefixtures("process")
def test_killed_at_any_moment_it_loses_one_round_at_most(tmp_path: Path) -> None:
    """A writer prints every stored round, and is killed by SIGKILL in between."""
    code = (
        "import sys; from stored import record, run; from bench.store.store import Store\n"
        "store = Store(sys.argv[1]); store.add_run(run())\n"
        "for turn in range(10000):\n"
        "    store.save(run().name, record('one', value=turn + 1), record('two', value=turn + 1))\n"
        "    print(turn + 1, flush=True)\n"
    )
    for kill_after in (5, 17, 40):
        path = tmp_path / f"{kill_after}.db"
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        while int(writer.stdout.readline()) < kill_after:
            pass
        writer.kill()
        out, _ = writer.communicate()
        printed = [int(line) for line in out.split()] or [kill_after]
        one, two = (r.figures[0].value for r in Store(str(path)).load().records)
        assert one == two, "a round is one transaction"
        assert printed[-1] <= one <= printed[-1] + 1


def test_a_store_that_was_cut_off_is_refused_and_left_alone(path: Path) -> None:
    store = Store(str(path))
    store.add_run(run())
    store.save(run().name, record())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BenchError, match=r"cannot (open|read) the store .*--store URL names another"):
        Store(str(path)).load()
    assert path.read_bytes() == whole[: len(whole) // 2]


@pytest.fixture
def tmpfs(process: None, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A function that mounts a small file system with these options; needs root."""
    if sys.platform != "linux" or os.getuid() != 0:
        pytest.skip("mounting a small file system needs root on Linux")
    folder = tmp_path / "small"
    folder.mkdir()

    def mount(options: str) -> Path:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
        return folder

    yield mount
    while subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode == 0:
        pass


def test_a_full_disk_is_one_line_and_loses_nothing(tmpfs: Callable[[str], Path]) -> None:
    path = tmpfs("size=1m") / "history.db"
    store = Store(str(path))
    store.add_run(run())
    written: list[int] = []
    big = record().model_copy(update={"log": "x" * 4000})

    def fill() -> None:
        for turn in range(1000):
            store.save(run().name, big.model_copy(update={"job": replace(big.job, mode=str(turn))}))
            written.append(turn)

    with pytest.raises(BenchError, match=r"cannot write to the store .*(full|disk I/O)"):
        fill()
    assert len(written) > 10
    assert len(store.load().records) == len(written)


def test_a_folder_that_cannot_be_written_is_one_line(tmpfs: Callable[[str], Path]) -> None:
    folder = tmpfs("size=1m")
    Store(str(folder / "history.db")).add_run(run())
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    assert Store(str(folder / "history.db")).load().name == run().name, "it can be read"
    with pytest.raises(BenchError, match=r"cannot write to the store .*readonly"):
        Store(str(folder / "history.db")).add_run(run("20260102T000000-bbbb"))
    with pytest.raises(BenchError, match="cannot open the store"):
        Store(str(folder / "new.db"))


def test_a_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(BenchError, match="cannot open the store postgresql"):
        Store("postgresql://bench@127.0.0.1:1/postgres")


def test_head_is_the_newest_revision() -> None:
    from alembic.script import ScriptDirectory

    import bench.store.migrations
    from bench.store.schema import HEAD

    assert ScriptDirectory(str(Path(bench.store.migrations.__file__).parent)).get_current_head() == HEAD


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_the_metrics_of_older_stores_are_indexed(store_url: str, revision: str) -> None:
    """Real records of an older schema are in their series after the store is opened."""
    from bench.store.migrations import upgrade
    from bench.store.store import _parse_url

    engine = sa.create_engine(_parse_url(store_url))
    if engine.url.database and engine.url.get_backend_name() == "sqlite":
        Path(engine.url.database).parent.mkdir()
    document = json.loads((RECORDS / "schema1.json").read_text())
    with engine.begin() as connection:
        upgrade(connection, revision)
        connection.execute(
            sa.text("INSERT INTO runs (name, command, started_at, rounds, schedule) VALUES (:n, 'c', :t, 3, '[]')"),
            {"n": "old", "t": document["started_at"]},
        )
        for number, plain in enumerate(document["records"]):
            connection.execute(
                sa.text(
                    "INSERT INTO records (run_id, row_key, backend, model, dataset, recipe, status, schema, content)"
                    " VALUES (1, :key, 'b', 'm', 'd', 'r', 'ok', 1, :content)"
                ),
                {"key": json.dumps([str(number), None, "cpu", "fp32", "m"]), "content": json.dumps(plain)},
            )
    engine.dispose()
    store = Store(store_url)
    listed = queries.series(store, queries.Filter(), "throughput", 10)
    assert {one.points[0].run for one in listed} == {"old"}
    assert len(listed) > 5
    assert len(store.load("old").records) == len(document["records"])


def test_rows_of_older_stores_keep_their_key(tmp_path: Path) -> None:
    """A run that goes on after an upgrade must find the records that it has."""
    store = Store(f"sqlite:///{tmp_path / 'history.db'}")
    store.add_run(run())
    plain = record()
    piped = plain.model_copy(update={"job": replace(plain.job, input_workers=2)})
    for each in (plain, piped):
        store.save(run().name, each)
    with sqlite3.connect(tmp_path / "history.db") as connection:
        keys = [json.loads(key) for (key,) in connection.execute("SELECT row_key FROM records ORDER BY id")]
    assert [len(key) for key in keys] == [5, 6]
    assert {r.job.row for r in store.load().records} == {plain.job.row, piped.job.row}

"""``bench store``: what is wrong with a store is named; a copy is whole, or not there. A migration that ends in its
middle leaves the store as it was.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from bench_command import Bench
from stored import record, run

from bench.errors import BenchError, UsageError
from bench.machine import file_systems
from bench.store import migrations, upkeep
from bench.store.schema import CHECKPOINTS, CHECKS
from bench.store.store import Store

REVISIONS = (None, "0001", "0002", "0003", "0004")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def filled(url: str, name: str = "20260101T000000-aaaa") -> Store:
    store = Store(url)
    store.add_run(run(name), {"begun": b"{}"})
    store.save(name, record())
    return store


def problems(store: Store) -> dict[str, list[str]]:
    return {finding.question: list(finding.problems) for finding in upkeep.check(store) if finding.problems}


def test_a_sound_store_has_no_problem(store_url: str) -> None:
    store = filled(store_url)
    assert problems(store) == {}
    assert [finding.question for finding in upkeep.check(store)][:4] == ["file", "tables", "orphans", "runs"]


def test_every_kind_of_damage_is_named(path: Path) -> None:
    store = filled(str(path))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET content = '{}'")
        connection.execute("INSERT INTO weights (run_id, row, content) VALUES (99, 'x', x'00')")
        connection.execute("ALTER TABLE runs ADD COLUMN surplus TEXT")
    connection.close()
    with store.writing() as writer:
        writer.execute(CHECKPOINTS.insert().values(owner="20250101T000000-bbbb", part="begun", content=b""))
    store.put(CHECKS, "check-1", "{}")
    found = problems(store)
    assert set(found) == {"file", "tables", "orphans", "runs", "checks"}
    assert found["file"] == ["row 1 of weights points at nothing in runs"]
    assert "surplus" in found["tables"][0] or "remove_column" in found["tables"][0]
    assert found["orphans"] == [
        "1 of weights belong to no row of runs",
        "the checkpoint of 20250101T000000-bbbb belongs to nothing",
    ]
    assert found["runs"][0].startswith("run 20260101T000000-aaaa: cannot read the store")
    assert found["checks"][0].startswith("check-1: ")


def test_bytes_that_were_overwritten_are_seen(path: Path) -> None:
    store = filled(str(path))
    with store.writing() as connection:
        connection.execute(CHECKPOINTS.insert().values(owner="x", part="y", content=b"z" * 200_000))
    raw = bytearray(path.read_bytes())
    raw[20_000:30_000] = b"\xff" * 10_000
    path.write_bytes(raw)
    assert problems(Store(str(path)))["file"]


def test_the_commands(bench: Bench) -> None:
    filled(str(bench.store))
    done = bench("store", "check")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "1 runs read" in done.stdout
    copy = bench.folder / "copy.db"
    assert bench("store", "backup", str(copy)).returncode == 0
    assert Store(str(copy)).load().name == "20260101T000000-aaaa"
    again = bench("store", "backup", str(copy))
    assert (again.returncode, again.stderr) == (2, f"bench: {copy} exists; name a file that does not\n")
    with sqlite3.connect(bench.store) as connection:
        connection.execute("UPDATE records SET content = '{}'")
    connection.close()
    broken = bench("store", "check")
    assert broken.returncode == 1
    assert "runs: run 20260101T000000-aaaa: cannot read the store" in broken.stdout


def test_a_copy_is_of_one_moment_while_others_write(path: Path, tmp_path: Path) -> None:
    store, ended = filled(str(path)), threading.Event()

    def write() -> None:
        for number in range(200):
            store.save("20260101T000000-aaaa", record(), parts={f"part {number}": b"x" * 10_000})
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    copies = 0
    while not ended.is_set() or not copies:
        target = tmp_path / f"copy-{copies}.db"
        upkeep.backup(store, target)
        assert problems(Store(str(target))) == {}
        copies += 1
    writer.join()
    assert not list(tmp_path.glob("*unfinished*"))


def test_a_copy_that_cannot_be_written_is_not_there(path: Path, tmp_path: Path) -> None:
    store = filled(str(path))
    with pytest.raises(BenchError, match=r"cannot copy .* unable to open database file"):
        upkeep.backup(store, tmp_path / "nowhere" / "copy.db")


def test_postgresqls_copy_is_pg_dumps(postgresql: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"pg_dump --format=custom --file=.*copy.* --dbname=URL copies it"):
        upkeep.backup(Store(postgresql), tmp_path / "copy")


def test_readers_and_a_writer_do_not_wait_for_one_another(path: Path) -> None:
    store = filled(str(path))
    with store.writing() as writer, store.reading() as reader:
        writer.exec_driver_sql("DELETE FROM runs")
        assert reader.exec_driver_sql("SELECT count(*) FROM runs").scalar() == 1
    with store.reading() as reader:
        assert reader.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert reader.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "FULL"


def test_a_store_on_a_network_file_system_keeps_its_journal_and_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(file_systems, "kind", lambda place: "nfs4")
    with Store(str(path)).reading() as reader:
        assert reader.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
    (line,) = capsys.readouterr().err.splitlines()
    assert "is on nfs4, where SQLite's locks may fail: --store postgresql://" in line


def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / /mnt/a\\040share rw shared:3 - nfs4 host:/x rw\n"
        "3 1 0:3 / /mnt/a\\040share/local rw - xfs /dev/sdb rw\n"
    )
    monkeypatch.setattr(file_systems, "MOUNTS", mounts)
    places = {"/mnt/a share/x.db": "nfs4", "/mnt/a share/local/x.db": "xfs", "/mnt/a sharer/x": "ext4", "/": "ext4"}
    assert {place: file_systems.kind(Path(place)) for place in places} == places
    monkeypatch.setattr(file_systems, "MOUNTS", tmp_path / "none")
    assert file_systems.kind(Path("/")) == ""
    assert all(map(file_systems.is_network, ("nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "fuse.sshfs")))
    assert not any(map(file_systems.is_network, ("ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuseblk", "")))


def old_store(path: Path, revision: str | None) -> list[str]:
    """A store of an older schema with a run in it; its content."""
    if revision is not None:
        engine = sa.create_engine(f"sqlite:///{path}")
        with engine.begin() as connection:
            migrations.upgrade(connection, revision)
            values = "'old', 'bench run', '2026-01-01T00:00:00+00:00', 3, '[]'"
            connection.exec_driver_sql(
                f"INSERT INTO runs (name, command, started_at, rounds, schedule) VALUES ({values})"
            )
        engine.dispose()
    return content(path)


def content(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        lines = list(connection.iterdump())
    connection.close()
    return lines


class Killed(BaseException):
    """Not an error that anything handles."""


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Statements that any engine of this process was about to execute."""
    seen: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        seen.append(statement)
        if seen[0].isdigit() and len(seen) > int(seen[0]):
            raise Killed

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_migration_that_dies_at_any_statement_leaves_the_old_store(
    tmp_path: Path, statements: list[str], revision: str | None
) -> None:
    old_store(tmp_path / "whole.db", revision)
    statements.clear()
    Store(str(tmp_path / "whole.db"))
    count = len(statements)
    assert count > 5
    for number in range(1, count):
        path = tmp_path / f"{number}.db"
        before = old_store(path, revision)
        statements[:] = [str(number)]
        with pytest.raises(Killed):
            Store(str(path))
        statements[:] = ["-"]
        assert content(path) == before
        if number % 7 == 0:  # it takes its time
            assert problems(Store(str(path))) == {}
        path.unlink()


def test_a_migration_that_is_killed_leaves_the_old_store(process: None, tmp_path: Path) -> None:
    """By ``SIGKILL``, in processes of their own: the next who opens the store rolls back what is half written."""
    for number in (4, 12, 25):
        path = tmp_path / f"{number}.db"
        before = old_store(path, "0001")
        child = os.fork()
        if child == 0:
            seen = [0]

            def count(*_: object, seen: list[int] = seen, number: int = number) -> None:
                seen[0] += 1
                if seen[0] == number:
                    os.kill(os.getpid(), 9)

            sa.event.listen(sa.engine.Engine, "before_cursor_execute", count)
            Store(str(path))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == 9, "it ended before"
        assert content(path) == before
        assert problems(Store(str(path))) == {}

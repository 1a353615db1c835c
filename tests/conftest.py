"""Fixtures, and the rule that marks a test ``e2e``: one of its fixtures starts a process, a server or a browser."""

from __future__ import annotations

import itertools
import multiprocessing.process
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from bench_command import Bench
from cifar10_files import write_cifar10
from threadpoolctl import threadpool_limits

from bench.machine.turn import NO_LOCK

_DATABASES = itertools.count()

LIBRARIES = {"fc-list", "uname"}
"""Started by libraries themselves: Matplotlib lists the fonts, once per machine, and ``platform`` asks ``uname``."""


def pytest_configure() -> None:
    """No test waits for another timed command. Signals that a shell ignores (``nohup``, ``&``) stay ignored in whatever
    is started: tests send them."""
    os.environ[NO_LOCK] = "1"
    for name in ("SIGINT", "SIGHUP", "SIGQUIT"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A failed test is named at once: a session that does not come to its end says what went wrong."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        reason = str(report.longrepr).strip().splitlines()[-1:] or ["no reason"]
        print(f"\nFAILED {report.nodeid} ({report.when}, {report.duration:.0f} s): {reason[0]}", flush=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    """``e2e`` comes with the fixture ``process``, whichever fixture asks for it."""
    if "process" in getattr(item, "fixturenames", ()):
        item.add_marker("e2e")


@pytest.fixture(scope="session")
def process() -> None:
    """Requested by a test or a fixture that starts a process, a server or a browser: it makes the test ``e2e``."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with _nothing_started(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _nothing_started(item):
        return (yield)


@contextmanager
def _nothing_started(item: pytest.Item) -> Iterator[None]:
    """Outside ``e2e``, starting a process or a server fails the test; also where a fixture of a wider scope does it."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("e2e") is None:
            begin = subprocess.Popen.__init__

            def popen(self: Any, args: Any, *others: Any, **options: Any) -> None:
                program = args if isinstance(args, str | bytes | os.PathLike) else args[0]
                if Path(os.fsdecode(program)).name not in LIBRARIES:
                    _refuse(f"starts {program!r}")
                begin(self, args, *others, **options)

            patch.setattr(subprocess.Popen, "__init__", popen)
            patch.setattr(multiprocessing.process.BaseProcess, "start", lambda self: _refuse("starts a process"))
            patch.setattr(os, "fork", lambda: _refuse("forks"))
            patch.setattr(socket.socket, "listen", lambda *_: _refuse("starts a server"))
        yield


def _refuse(what: str) -> None:
    pytest.fail(f"a test that is not e2e {what}: let it, or the fixture that does so, request the fixture 'process'")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Of NumPy in this process: on busy cores, threads wait for one another. A process that is started has its own."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def bench(process: None, tmp_path: Path) -> Bench:
    """``bench`` with an empty store, of this test alone."""
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def bench_named(process: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bench]:
    """Makes a ``bench`` with an empty store for a fixture of a wider scope; the name is its folder's."""
    return lambda name: Bench(tmp_path_factory.mktemp(name))


class PostgreSQL:
    """A real server on loopback, in a folder of its own."""

    def __init__(self, programs: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="evenbench-pg-"))
        self._as_user: dict[str, Any] = {}
        if os.getuid() == 0:  # the server refuses to run as root
            self._as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self._folder, "postgres", "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        data = str(self._folder / "data")
        self.url = f"postgresql://bench@127.0.0.1:{port}/postgres"
        self._control = [str(programs / "pg_ctl"), "-D", data, "-l", str(self._folder / "log"), "-w"]
        self._options = f"-h 127.0.0.1 -p {port} -k {self._folder} -c fsync=off -c max_connections=50"
        self._do([str(programs / "initdb"), "-D", data, "-U", "bench", "-A", "trust", "--no-sync"])

    def _do(self, command: list[str]) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder, **self._as_user)

    def start(self) -> None:
        self._do([*self._control, "-o", self._options, "start"])

    def stop(self) -> None:
        self._do([*self._control, "-m", "immediate", "stop"])

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_programs(process: None) -> Path:
    """The folder of PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [shutil.which("initdb")]
    if found[-1] is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    return Path(found[-1]).parent


@pytest.fixture(scope="session")
def postgresql(postgresql_programs: Path) -> Iterator[str]:
    """URL of a PostgreSQL server, empty, for this test session."""
    server = PostgreSQL(postgresql_programs)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
        server.remove()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.e2e)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database: the same suite runs over both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new folder' / 'history.db'}"
    server = request.getfixturevalue("postgresql")
    name = f"test_{next(_DATABASES)}"
    engine = sa.create_engine(server.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return f"{server.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="session")
def cifar10_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parent of a ``cifar-10-batches-bin`` of the official sizes, random pixels."""
    folder = tmp_path_factory.mktemp("cifar10")
    write_cifar10(folder / "cifar-10-batches-bin")
    return folder


@pytest.fixture
def by_backend() -> Callable[[list[dict[str, Any]]], dict[str, dict[str, Any]]]:
    """Records by ``backend`` or ``backend <- source``."""

    def name(job: dict[str, Any]) -> str:
        backend: str = job["backend"]
        return backend if job["source"] is None else f"{backend} <- {job['source']}"

    return lambda records: {name(record["job"]): record for record in records}

"""Fixtures: the command line as a user runs it, adapters registered for one test only, CIFAR-10's binary layout."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

HERE = Path(__file__).parent
ADAPTERS = HERE / "fakes"

WRONG = {
    "flatten-chw": "evenbench_wrong:FlattenCHW",
    "pool-off-by-one": "evenbench_wrong:PoolOffByOne",
    "doubled-learning-rate": "evenbench_wrong:DoubledLearningRate",
    "dampened-momentum": "evenbench_wrong:DampenedMomentum",
    "missing-bias": "evenbench_wrong:MissingBias",
    "uncorrected-adam": "evenbench_wrong:UncorrectedAdam",
}
WRONG_LAYERS = {
    "unbiased-variance": "evenbench_wrong:UnbiasedVariance",
    "other-momentum": "evenbench_wrong:OtherMomentum",
    "swapped-padding": "evenbench_wrong:SwappedPadding",
    "forgets-masks": "evenbench_wrong:ForgetsMasks",
    "no-decay": "evenbench_wrong:NoDecay",
    "no-smoothing": "evenbench_wrong:NoSmoothing",
    "heavy-ball": "evenbench_wrong:HeavyBall",
}
RUDE = {
    "segfaults": "evenbench_rude:Segfaults",
    "is-killed": "evenbench_rude:IsKilled",
    "hangs": "evenbench_rude:Hangs",
    "raises": "evenbench_rude:Raises",
    "refuses": "evenbench_rude:Refuses",
    "runs-out-of-memory": "evenbench_rude:RunsOutOfMemory",
    "exits": "evenbench_rude:Exits",
    "writes-garbage": "evenbench_rude:WritesGarbage",
    "prints": "evenbench_rude:Prints",
    "not-a-number": "evenbench_rude:LossIsNotANumber",
}
RIGHT = {"third-party": "evenbench_wrong:Right"}
KNOWN = {
    "constant": "evenbench_known:Constant",
    "twice": "evenbench_known:Twice",
    "bimodal": "evenbench_known:Bimodal",
    "drifting": "evenbench_known:Drifting",
    "slowly-warming": "evenbench_known:SlowlyWarming",
    "varying": "evenbench_known:Varying",
    "sleeps": "evenbench_known:Sleeps",
    "allocates": "evenbench_known:Allocates",
}


_DATABASES = itertools.count()
QUICK = ("--rounds", "1", "--model", "article-pytorch", "--batch-size", "16")
EVERY_LAYER = """\
# One of each: strides on odd and even sizes, both kinds of shortcut, dropout on images and on a flattened input.
[[layers]]
kind = "conv2d"
filters = 8
kernel = 3
stride = 2
padding = "same"
bias = false
[[layers]]
kind = "batch_norm"
[[layers]]
kind = "relu"
[[layers]]
kind = "residual"
body = [
    {kind = "depthwise_conv2d", kernel = 3, padding = "same", bias = false},
    {kind = "batch_norm", momentum = 0.8, epsilon = 1e-3},
    {kind = "relu"},
    {kind = "conv2d", filters = 8, kernel = 1},
]
[[layers]]
kind = "residual"
body = [{kind = "conv2d", filters = 12, kernel = 3, stride = 2, padding = "same"}, {kind = "batch_norm"}]
shortcut = [{kind = "conv2d", filters = 12, kernel = 1, stride = 2, bias = false}, {kind = "batch_norm"}]
[[layers]]
kind = "relu"
[[layers]]
kind = "dropout"
rate = 0.25
[[layers]]
kind = "residual"
body = [
    {kind = "depthwise_conv2d", kernel = 5, stride = 2, padding = "same"},
    {kind = "conv2d", filters = 16, kernel = 1, bias = false},
    {kind = "batch_norm"},
]
shortcut = [{kind = "zero_pad_shortcut", filters = 16, stride = 2}]
[[layers]]
kind = "max_pool2d"
size = 2
stride = 1
[[layers]]
kind = "average_pool2d"
size = 2
stride = 1
[[layers]]
kind = "flatten"
[[layers]]
kind = "batch_norm"
[[layers]]
kind = "dropout"
rate = 0.5
[[layers]]
kind = "dense"
units = 12
[[layers]]
kind = "relu"
[[layers]]
kind = "dense"
units = 10
"""
"""A small model, as a user's file, that has every layer but the global pool."""


class Bench:
    """``bench`` in a process of its own, with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "history.db"
        self.environment = {**os.environ, "BENCH_STORE": str(self.store), "CUDA_VISIBLE_DEVICES": ""}
        self.folder = folder

    def command(self, *arguments: str) -> list[str]:
        """The argument vector."""
        return [sys.executable, "-P", "-m", "bench.cli", *arguments]

    def __call__(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
            cwd=self.folder,
            check=False,
        )

    def run(self, *arguments: str, code: int = 0, **options: Any) -> list[dict[str, Any]]:
        """``bench run`` on quick settings (the smaller model, small batches, one round); the records that it stored."""
        done = self("run", *QUICK, *arguments, **options)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return self.records()

    def records(self) -> list[dict[str, Any]]:
        """Of the last run, by ``bench export``."""
        done = self("export", "--format", "json")
        assert done.returncode == 0, done.stderr
        records: list[dict[str, Any]] = json.loads(done.stdout)["records"]
        return records

    def register(self, adapters: dict[str, str]) -> None:
        """Adapters for this test only: a dist-info folder on PYTHONPATH, nothing installed."""
        info = self.folder / "path" / "evenbench_test_adapters-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evenbench-test-adapters\nVersion: 1.0\n")
        lines = [f"{name} = {target}" for name, target in adapters.items()]
        (info / "entry_points.txt").write_text("[evenbench.backends]\n" + "\n".join(lines) + "\n")
        self.environment["PYTHONPATH"] = os.pathsep.join([str(info.parent), str(ADAPTERS)])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real PostgreSQL server on loopback, empty, for this test session."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [shutil.which("initdb")]
    if found[-1] is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    programs = Path(found[-1]).parent
    folder = Path(tempfile.mkdtemp(prefix="evenbench-pg-"))
    as_user: dict[str, Any] = {}
    if os.getuid() == 0:  # the server refuses to run as root
        as_user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    data, log = str(folder / "data"), str(folder / "log")
    initdb = [str(programs / "initdb"), "-D", data, "-U", "bench", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **as_user)
    control = [str(programs / "pg_ctl"), "-D", data, "-l", log, "-w"]
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off -c max_connections=50"
    subprocess.run([*control, "-o", options, "start"], check=True, capture_output=True, cwd=folder, **as_user)
    try:
        yield f"postgresql://bench@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder, **as_user)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
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


def write_cifar10(folder: Path) -> None:
    """Six files of 10,000 records of one label and 3,072 pixels."""
    folder.mkdir()
    rng = np.random.default_rng(10)
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        records = rng.integers(0, 256, (10_000, 3073), np.uint8)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())


@pytest.fixture
def by_backend() -> Callable[[list[dict[str, Any]]], dict[str, dict[str, Any]]]:
    """Records by ``backend`` or ``backend <- source``."""

    def name(job: dict[str, Any]) -> str:
        backend: str = job["backend"]
        return backend if job["source"] is None else f"{backend} <- {job['source']}"

    return lambda records: {name(record["job"]): record for record in records}

"""Many jobs through Ray into PostgreSQL: what a job costs beside its command, and whether the driver stays small."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest
import ray_cluster
import sqlalchemy as sa
from bench_command import QUICK, Bench
from fakes.registry import KNOWN

from bench.fleet import jobs as kept
from bench.store.schema import FLEETS
from bench.store.store import Store

JOBS = int(os.environ.get("EVENBENCH_FLEET_JOBS", "200"))
COMMAND = ("--backend", "constant", "--task", "infer", *QUICK)


@pytest.fixture
def bench(bench_named: Callable[[str], Bench], postgresql: str) -> Iterator[Bench]:
    made = bench_named("scale")
    made.register(KNOWN)
    made.environment["BENCH_STORE"] = postgresql
    cluster = ray_cluster.RayCluster(made.environment, ["one", "two"], cpus=1)
    made.environment |= cluster.environment
    yield made
    cluster.close()


def jobs_name(store: Store) -> str:
    return store.names(FLEETS)[0]


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(7200)
def test_two_hundred_jobs(bench: Bench, postgresql: str) -> None:
    begin = time.monotonic()
    alone = bench("run", *COMMAND)
    direct = time.monotonic() - begin
    assert alone.returncode == 0, alone.stderr
    plan = bench.folder / "plan.toml"
    seeds = ", ".join(map(str, range(JOBS)))
    options = (
        'backend = "constant"\ntask = "infer"\nrounds = 1\nmodel = "article-pytorch"\nbatch-size = 16\nthreads = 1'
    )
    plan.write_text(f"[[jobs]]\n{options}\nmatrix = {{ seed = [{seeds}] }}\n")
    begin = time.monotonic()
    driver = subprocess.Popen(
        bench.command("fleet", str(plan), "--on", "ray"), env=bench.environment, cwd=bench.folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    held: list[int] = []
    spent = [0.0]

    def watch() -> None:
        while driver.poll() is None:
            try:
                process = psutil.Process(driver.pid)
                held.append(process.memory_info().rss)
                spent[0] = sum(process.cpu_times()[:2])
            except psutil.Error:
                return
            time.sleep(5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, said = driver.communicate()
    watcher.join()
    wall = time.monotonic() - begin
    assert driver.returncode == 0, said[-2000:]
    store = Store(postgresql)
    jobs = kept.load(store, "last")[1]
    results = Counter(job.last.result for job in jobs if job.last)
    assert len(results) == JOBS
    assert set(results.values()) == {1}
    runs = [store.load(name) for name in results]
    assert {len(run.records) for run in runs} == {1}
    assert len({run.records[0].job.seed for run in runs}) == JOBS, "no row was lost or doubled"
    with store.reading() as connection:
        size = connection.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0
    begin = time.monotonic()
    shown = bench("history", "show", jobs_name(store))
    report = time.monotonic() - begin
    assert f"{JOBS} of {JOBS} jobs done" in shown.stdout
    quarter = len(held) // 4
    first, last = max(held[quarter : 2 * quarter]), max(held[-quarter:])
    print(
        f"\n{JOBS} jobs in {wall:.0f} s on two nodes: {2 * wall / JOBS:.2f} s of a node for each, the command alone"
        f" {direct:.2f} s; the driver held {first / 1e6:.0f} MB in the second quarter, {last / 1e6:.0f} MB in the last,"
        f" and used {spent[0] / JOBS:.3f} s of CPU time a job; the database has {size / 1e3 / JOBS:.0f} kB a job;"
        f" its report took {report:.1f} s"
    )
    assert last < 1.2 * first

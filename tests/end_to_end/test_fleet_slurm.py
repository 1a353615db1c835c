"""Jobs on a real SLURM of two nodes on loopback: submitted, exclusive, cancelled in the middle, gone on with."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import slurm_cluster
from bench_command import QUICK, Bench
from fakes.registry import KNOWN

from bench.fleet import jobs as kept
from bench.fleet.jobs import FleetJob
from bench.store.store import Store

pytestmark = pytest.mark.timeout(2400)
KNOWN_COST = ("--backend", "constant,twice", "--task", "infer", *QUICK)


@pytest.fixture(scope="module")
def cluster(process: None) -> Iterator[slurm_cluster.SlurmCluster]:
    if missing := slurm_cluster.missing_programs():
        pytest.skip(f"no SLURM here ({', '.join(missing)}): apt-get install slurm-wlm munge")
    made = slurm_cluster.SlurmCluster()
    yield made
    made.close()


@pytest.fixture(scope="module")
def known(bench_named: Callable[[str], Bench], cluster: slurm_cluster.SlurmCluster) -> Bench:
    bench = bench_named("slurm")
    bench.register(KNOWN)
    bench.environment |= cluster.environment
    return bench


@pytest.fixture
def bench(known: Bench, tmp_path: Path) -> Bench:
    """With a store of its own, and its project's settings."""
    own = Bench(tmp_path)
    own.environment = {**known.environment, "BENCH_STORE": str(own.store)}
    (tmp_path / "pyproject.toml").write_text(
        f"[tool.evenbench.slurm]\nfolder = '{tmp_path / 'shared'}'\ntime = 10\n[tool.evenbench.prices]\nnode1 = 2.0\n"
    )
    return own


def jobs_of(bench: Bench) -> list[FleetJob]:
    return kept.load(Store(str(bench.store)), "last")[1]


def test_a_job_on_every_node(bench: Bench) -> None:
    done = bench("run", *KNOWN_COST, "--on", "slurm", "--nodes", "all", "--slurm", "partition=main", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = jobs_of(bench)
    assert [(job.status, job.last and job.last.node) for job in jobs] == [("done", "node1"), ("done", "node2")]
    assert "million images per currency unit" in done.stdout
    assert "no price of node2" in done.stdout
    for job in jobs:
        assert job.last is not None
        assert all(record.comparable for record in Store(str(bench.store)).load(job.last.result).records)


@pytest.mark.long
def test_scancel_in_the_middle_and_on_again(bench: Bench, cluster: slurm_cluster.SlurmCluster) -> None:
    command = bench.command("run", *KNOWN_COST, "--rounds", "12", "--on", "slurm", "--nodes", "label=slow")
    driver = subprocess.Popen(command, env=bench.environment, cwd=bench.folder, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 400
    while True:
        store = Store(str(bench.store)) if bench.store.exists() else None
        jobs = jobs_of(bench) if store is not None and store.names(kept.FLEETS) else []
        parts = store.parts(jobs[0].last.result) if store is not None and jobs and jobs[0].last else {}
        if sum(part.startswith("round ") for part in parts) >= 4:
            break
        assert time.monotonic() < deadline, "no rounds were stored"
        time.sleep(0.3)
    (job,) = jobs
    assert job.last is not None
    cluster.command("scancel", job.last.ticket)
    _, said = driver.communicate(timeout=1200)
    assert driver.returncode == 2, said
    (job,) = jobs_of(bench)
    assert job.status == "lost"
    assert job.last is not None
    assert len(job.attempts) == 1, "who cancels a job does not want it again"
    assert "cancelled" in job.last.lost
    assert Store(str(bench.store)).load(job.last.result).records
    again = bench("fleet", "--resume", timeout=600)
    assert again.returncode == 0, again.stdout + again.stderr
    (job,) = jobs_of(bench)
    assert job.status == "done"
    assert job.attempts[0].result == job.attempts[-1].result
    run = Store(str(bench.store)).load(job.attempts[-1].result)
    assert run.resumed[0].rounds >= 2
    assert run.rounds == 12


def test_what_slurm_refuses_is_told(bench: Bench) -> None:
    for option, words in (("partition=none", "partition"), ("colour=red", "colour"), ("red", "KEY=VALUE")):
        done = bench("run", *KNOWN_COST, "--on", "slurm", "--slurm", option)
        assert done.returncode == 2, done.stdout + done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr

"""Jobs on a real Ray cluster of three nodes on loopback: exclusive, a node killed, the driver killed, a sweep, a
check."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray_cluster
from bench_command import QUICK, Bench
from fakes.registry import KNOWN

from bench.fleet import jobs as kept
from bench.fleet.jobs import Fleet, FleetJob
from bench.store.checkpoints import BEGUN
from bench.store.store import Store

pytestmark = pytest.mark.timeout(2400)
KNOWN_COST = ("--backend", "constant,twice", "--task", "infer", *QUICK)
WHERE_MESSAGES_GATHER = """
from ray._private.state import actors
from bench.fleet.ray_target import RayTarget
for _ in range(4):
    target = RayTarget(None)
    target.wait(1)
    (mailbox,) = [each for each in actors().values() if each["State"] == "ALIVE"]
    print(mailbox["Address"]["NodeID"] == target._own)
    target.close()
"""


@pytest.fixture(scope="module")
def known(bench_named: Callable[[str], Bench]) -> Bench:
    bench = bench_named("fleet")
    bench.register(KNOWN)
    return bench


@pytest.fixture(scope="module")
def cluster(known: Bench) -> Iterator[ray_cluster.RayCluster]:
    made = ray_cluster.RayCluster(known.environment, ["north", "south", "east"])
    known.environment |= made.environment
    yield made
    made.close()


@pytest.fixture
def bench(known: Bench, cluster: ray_cluster.RayCluster, tmp_path: Path) -> Bench:
    """With a store of its own."""
    own = Bench(tmp_path)
    own.environment = {**known.environment, "BENCH_STORE": str(own.store)}
    return own


def fleet_of(bench: Bench) -> tuple[Fleet, list[FleetJob]]:
    return kept.load(Store(str(bench.store)), "last")


def rounds_of(store: Store, name: str) -> list[int]:
    """The numbers of the rounds of every row of a run."""
    run = store.load(name)
    figures = [figure for record in run.records for figure in record.figures if figure.name == "throughput"]
    return sorted({sample.round for figure in figures for sample in figure.samples})


def wait_for_rounds(bench: Bench, fewest: int, of: int = 1) -> list[FleetJob]:
    """Until so many jobs have stored so many rounds."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        if bench.store.exists():
            store = Store(str(bench.store))
            jobs = kept.load(store, "last")[1] if store.names(kept.FLEETS) else []
            parts = [store.parts(job.last.result) if job.last else {} for job in jobs]
            if sum(sum(part.startswith("round ") for part in each) >= fewest for each in parts) >= of:
                return jobs
        time.sleep(0.3)
    raise AssertionError("no rounds were stored")


def test_a_matrix_over_nodes_each_for_itself(bench: Bench) -> None:
    plan = bench.folder / "plan.toml"
    plan.write_text(
        """
        on = "ray"
        [[jobs]]
        nodes = "all"
        backend = ["constant", "twice"]
        task = "infer"
        rounds = 1
        model = "article-pytorch"
        threads = 1
        matrix = { batch-size = [4] }
        [[jobs]]
        nodes = "label=south"
        backend = "pytorch"
        task = "infer"
        rounds = 1
        model = "article-pytorch"
        threads = 1
        """
    )
    (bench.folder / "pyproject.toml").write_text("[tool.evenbench.prices]\ncurrency = 'EUR'\n")
    done = bench("fleet", str(plan), timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    fleet, jobs = fleet_of(bench)
    assert fleet.ended
    assert len(jobs) == 4
    assert {job.status for job in jobs} == {"done"}
    store, by_node = Store(str(bench.store)), dict[str, list[tuple[str, str]]]()
    for job in jobs:
        assert job.last is not None
        assert all(record.comparable for record in store.load(job.last.result).records)
        assert BEGUN not in store.parts(job.last.result)
        by_node.setdefault(job.last.node, []).append((job.last.began, job.last.ended))
    assert len(by_node) == 3
    for spans in by_node.values():  # no two on a node at a time
        spans.sort()
        assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))
    assert "by machine" in done.stdout
    shown = bench("history", "show", fleet.name)
    assert shown.returncode == 0, shown.stderr
    assert "4 of 4 jobs done, on 3 nodes" in shown.stdout


def test_messages_gather_at_the_driver(bench: Bench) -> None:
    """On its own node, whichever Ray would choose: another node's death must not cost what the others say."""
    done = subprocess.run(
        [sys.executable, "-c", WHERE_MESSAGES_GATHER],
        env=bench.environment, cwd=bench.folder, capture_output=True, text=True, timeout=400, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["True"] * 4


def test_a_node_that_dies_costs_what_is_not_stored(bench: Bench, cluster: ray_cluster.RayCluster) -> None:
    command = bench.command("run", *KNOWN_COST, "--rounds", "12", "--on", "ray", "--nodes", "label=east")
    driver = subprocess.Popen(command, env=bench.environment, cwd=bench.folder, stderr=subprocess.PIPE, text=True)
    (job,) = wait_for_rounds(bench, 4)
    first = job.node_name
    cluster.kill("east")
    _, said = driver.communicate(timeout=600)
    assert driver.returncode == 0, said
    (job,) = fleet_of(bench)[1]
    assert [bool(attempt.lost) for attempt in job.attempts] == [True, False]
    assert job.attempts[0].result == job.attempts[1].result, "it goes on with the same run"
    assert job.attempts[1].node not in ("", first)
    assert "sent again" in said
    store = Store(str(bench.store))
    assert rounds_of(store, job.attempts[1].result) == list(range(12))
    run = store.load(job.attempts[1].result)
    assert len(run.resumed) == 1
    assert run.resumed[0].rounds >= 2, "what was stored is kept"
    assert len(store.names(kept.FLEETS)) == 1


@pytest.mark.long
def test_the_driver_may_die_too(bench: Bench) -> None:
    options = ("--rounds", "12", "--on", "ray", "--nodes", "2")
    command = bench.command("run", *KNOWN_COST, *options)
    driver = subprocess.Popen(command, env=bench.environment, cwd=bench.folder)
    wait_for_rounds(bench, 4, of=2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    store = Store(str(bench.store))
    before = {job.last.result: store.load(job.last.result) for job in fleet_of(bench)[1] if job.last}
    assert all(run.records for run in before.values())
    listed = bench("history")
    assert "bench fleet --resume" in listed.stdout
    done = bench("fleet", "--resume", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    fleet, jobs = fleet_of(bench)
    assert {job.status for job in jobs} == {"done"}
    for job in jobs:
        assert job.last is not None
        assert job.last.result in before
        assert rounds_of(store, job.last.result) == list(range(12))
        assert store.load(job.last.result).resumed[0].rounds >= 2
    again = bench("fleet", "--resume", fleet.name)
    assert again.returncode == 2
    assert "has ended" in again.stderr


@pytest.mark.long
def test_ctrl_c_ends_the_nodes_and_keeps_what_they_have(bench: Bench) -> None:
    command = bench.command("run", *KNOWN_COST, "--rounds", "60", "--on", "ray")
    driver = subprocess.Popen(command, env=bench.environment, cwd=bench.folder, stderr=subprocess.PIPE, text=True)
    wait_for_rounds(bench, 2)
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=180)
    assert driver.returncode == 130, said
    (job,) = fleet_of(bench)[1]
    assert job.last is not None
    run = Store(str(bench.store)).load(job.last.result)
    assert {record.status for record in run.records} == {"interrupted"}
    assert "--resume" in said


@pytest.mark.long
def test_a_sweep_fills_the_fleet(bench: Bench) -> None:
    tried = ("--over", "learning_rate=0.001,0.01", "--set", "epochs=1", "--set", "validation=0.1", "--seeds", "1")
    done = bench("sweep", "--backend", "pytorch", *tried, "--threads", "1", "--on", "ray", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("learning_rate=") >= 3, "two trials, and the best"
    jobs = fleet_of(bench)[1]
    assert [job.status for job in jobs] == ["done", "done"]


@pytest.mark.long
def test_a_check_elsewhere(bench: Bench) -> None:
    options = ("--backend", "constant", "--metric", "throughput", "--budget", "20s", *QUICK[2:])
    done = bench("check", "--against", sys.executable, *options, "--on", "ray", timeout=600)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    checks = bench("history", "checks", "--format", "json")
    assert len(json.loads(checks.stdout)) >= 1


def test_what_a_node_refuses_is_told(bench: Bench, cluster: ray_cluster.RayCluster) -> None:
    client = f"ray://127.0.0.1:{cluster.client_port}"
    done = bench("run", *KNOWN_COST, "--cpus", "511", "--on", client)
    assert done.returncode == 2
    assert "the end of its log" in done.stdout
    assert "511" in done.stdout
    assert "511" in bench("fleet", "--logs").stdout
    nowhere = bench("run", *KNOWN_COST, "--on", "ray", "--nodes", "label=west")
    assert nowhere.returncode == 2
    assert "no node has it" in nowhere.stderr
    without = bench("run", *KNOWN_COST, "--nodes", "all")
    assert without.returncode == 2
    assert "--on" in without.stderr

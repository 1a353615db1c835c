"""Profiles, pinning and allocators: what options ask for, and that it is what the workers got."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench_command import Bench
from fakes.registry import RIGHT

from bench.errors import UsageError
from bench.machine import allocators, host
from bench.machine import placement as profiles

FOUR_CORES = [[0, 4], [1, 5], [2, 6], [3, 7]]


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four physical cores of two logical CPUs each."""
    monkeypatch.setattr(profiles, "physical_cores", lambda: FOUR_CORES)
    monkeypatch.setattr(profiles, "available_cpus", lambda: list(range(8)))
    monkeypatch.setattr(profiles, "default_threads", lambda: 4)


@pytest.mark.usefixtures("four_cores")
def test_deploy_is_as_users_run_it() -> None:
    placement = profiles.place()
    assert (placement.threads, placement.cpus, placement.parent_cpus) == (4, None, None)
    assert (placement.allocator, placement.profile.rounds) == ("system", 6)


@pytest.mark.usefixtures("four_cores")
def test_precise_leaves_a_physical_core_to_the_parent() -> None:
    placement = profiles.place("precise")
    assert (placement.threads, placement.cpus, placement.parent_cpus) == (3, (1, 2, 3), (0, 4))
    assert placement.allocator == ("arena" if allocators.is_glibc() else "system")


@pytest.mark.usefixtures("four_cores")
def test_parts_overrule_the_profile() -> None:
    placement = profiles.place("precise", cpus="2-3,6", threads=1, allocator="system")
    assert (placement.threads, placement.cpus, placement.allocator) == (1, (2, 3, 6), "system")
    assert placement.parent_cpus == (0, 1, 4, 5), "the siblings of a worker's CPU are not elsewhere"
    assert profiles.place(cpus="2-3,6").threads == 2, "one thread per physical core"


def test_with_a_single_core_the_parent_stays_unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "physical_cores", lambda: [[0]])
    placement = profiles.place("precise")
    assert (placement.threads, placement.cpus, placement.parent_cpus) == (1, (0,), None)


@pytest.mark.usefixtures("four_cores")
@pytest.mark.parametrize("text", ["", "a", "1-", "8", "0,9", "-1", "1;2", "3-2"])
def test_lists_of_cpus_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--cpus"):
        profiles.parse_cpus(text)


@pytest.mark.usefixtures("four_cores")
def test_more_threads_than_cpus_are_refused() -> None:
    with pytest.raises(UsageError, match="--threads 3 on 2 CPUs"):
        profiles.place(cpus="0,1", threads=3)


def test_allocators_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no such file; one of system, arena"):
        allocators.check("/no/libjemalloc.so")
    monkeypatch.setattr(allocators, "is_glibc", lambda: False)
    with pytest.raises(UsageError, match="a setting of glibc"):
        allocators.check("arena")


@pytest.mark.usefixtures("process")
def test_a_library_that_the_loader_refuses_is_not_active(tmp_path: Path) -> None:
    """ld.so only warns; the worker reads back what is really mapped."""
    broken = tmp_path / "libbroken.so"
    broken.write_text("not a library")
    code = "import os; from bench.machine import allocators; print(allocators.active(dict(os.environ)))"
    environment = {**os.environ, **{k: v for k, v in allocators.environment(str(broken)).items() if v is not None}}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "system"


@pytest.mark.usefixtures("process")
@pytest.mark.skipif(not allocators.is_glibc(), reason="this system has no glibc")
def test_arena_keeps_memory_from_the_kernel() -> None:
    """The page faults of a loop that allocates 16 MB at every step, with the settings and without."""
    code = (
        "import numpy as np, resource\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "np.ones(16 * 2**20, np.uint8); before = faults()\n"
        "for _ in range(20): np.ones(16 * 2**20, np.uint8)\n"
        "print(faults() - before)"
    )
    counts = {}
    for name in ("system", "arena"):
        environment = {**os.environ, **{k: v for k, v in allocators.environment(name).items() if v is not None}}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        counts[name] = int(done.stdout)
    assert counts["arena"] < counts["system"] / 10


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_workers_are_pinned_and_the_parent_comes_back(bench: Bench) -> None:
    bench.register(RIGHT)
    cpu = host.available_cpus()[-1]
    options = ("--backend", "third-party", "--task", "infer", "--cpus", str(cpu), "--allocator", "arena")
    (record,) = bench.run(*options)
    assert record["job"]["cpus"] == [cpu]
    assert record["settings"]["cpus"] == [cpu]
    assert record["settings"]["allocator"] == "arena"
    assert f"1 thread, pinned to CPU {cpu}, allocator arena" in bench("report").stdout
    before = os.sched_getaffinity(0)
    with host.pinned([cpu]):
        assert os.sched_getaffinity(0) == {cpu}
    assert os.sched_getaffinity(0) == before


def test_a_library_that_cannot_be_preloaded_fails_the_row(bench: Bench, tmp_path: Path) -> None:
    broken = tmp_path / "libbroken.so"
    broken.write_text("not a library")
    (record,) = bench.run("--backend", "reference", "--task", "infer", "--allocator", str(broken), code=1)
    assert record["status"] == "failed"
    assert record["error"].startswith("self-check allocator: ")


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is Linux's")
@pytest.mark.parametrize(
    ("preload", "library", "found"),
    [
        ("libjemalloc.so.2", "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2.3", True),
        ("libjemalloc.so.2:libother.so", "/opt/lib/libjemalloc.so.2", True),
        ("libhook.so", "/usr/lib/x86_64-linux-gnu/libc.so.6", False),
        ("/opt/lib/libhook.so", "/opt/lib/libjemalloc.so.2", False),
        ("/opt/lib/libjemalloc.so.2", "/opt/lib/libjemalloc.so.2", True),
        ("", "/opt/lib/libjemalloc.so.2", False),
    ],
)
def test_a_preloaded_allocator_is_known_by_path_or_by_bare_name(
    monkeypatch: pytest.MonkeyPatch, preload: str, library: str, found: bool
) -> None:
    monkeypatch.setattr(allocators, "_library_of_malloc", lambda: library)
    assert allocators.preloaded({"LD_PRELOAD": preload}) == (library if found else None)

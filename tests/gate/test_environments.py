"""Environments for the other side of a check: real ones, of small packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import pytest
from bench_command import Bench
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import backends
from bench.errors import UsageError
from bench.gate import environments
from bench.gate.environments import CannotInstall, Lock

OLDER = "psutil==6.1.1"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of these tests, so that an environment of several tests is built once."""
    return tmp_path_factory.mktemp("cache")


def versions_in(python: Path) -> dict[str, str]:
    code = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    return {canonicalize_name(name): version for name, version in json.loads(done.stdout).items()}


def test_the_lock_holds_what_the_rows_need_and_nothing_else() -> None:
    lock = environments.current_lock(["reference"])
    assert lock.roots == ("numpy", "psutil", "threadpoolctl")
    assert lock.pins["numpy"] == metadata.version("numpy")
    assert not {"torch", "tensorflow", "evenbench"} & set(lock.pins)
    assert Lock.from_dict(json.loads(json.dumps(asdict(lock)))) == lock
    for name in backends.names():
        needs = {canonicalize_name(n) for options in backends.load(name).REQUIRES for n in options}
        pins = environments.current_lock([name]).pins
        assert all(pins[need] == metadata.version(need) for need in needs if environments._installed_closure(need))
    assert "onnxscript" in environments.current_lock(["pytorch"]).roots, "needed by its exporter, from the extra"


def test_only_packages_that_cannot_stay_are_unpinned() -> None:
    """torch 2.13 needs another Triton; its other dependencies may stay."""
    pins = environments.current_lock(["pytorch"]).pins
    requires = ["triton==0.0.1; platform_system == 'Linux'", "sympy>=1.0", "numpy>=1; extra == 'never'", "new-package"]
    unpinned = environments._find_unpinned(Requirement("torch==2.13.0"), requires, pins)
    assert "triton" in unpinned
    assert not {"sympy", "numpy", "torch", "new-package"} & unpinned


@pytest.mark.parametrize(
    ("text", "message"),
    [("torch==", "not a requirement"), ("torch", "which version of torch"), ("a==1 b", "which version of b")],
)
def test_invalid_requirements(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        environments.parse_requirements(text)


@pytest.mark.usefixtures("process")
@pytest.mark.slow
def test_one_requirement_changed_built_once_and_reused(tmp_path: Path) -> None:
    lock = environments.current_lock(["reference"])
    python = environments.build_changed(lock, environments.parse_requirements(OLDER), tmp_path)
    versions = versions_in(python)
    assert versions["psutil"] == "6.1.1"
    assert versions["numpy"] == lock.pins["numpy"]
    complete = python.parents[1] / "complete.json"
    before = complete.stat().st_mtime_ns
    assert environments.build_changed(lock, environments.parse_requirements(OLDER), tmp_path) == python
    assert complete.stat().st_mtime_ns == before, "reused"
    complete.unlink()
    rebuilt = environments.build_changed(lock, environments.parse_requirements(OLDER), tmp_path)
    assert rebuilt == python, "an incomplete environment is built again"
    assert environments.build_locked(Lock(lock.python, lock.roots, lock.pins), "saved", tmp_path) != python


@pytest.mark.usefixtures("process")
def test_a_refusal_of_pip_is_one_line(tmp_path: Path) -> None:
    lock = environments.current_lock(["reference"])
    with pytest.raises(CannotInstall, match=r"cannot install .*psutil==0\.0\.0"):
        environments.build_changed(lock, environments.parse_requirements("psutil==0.0.0"), tmp_path)
    assert not list(tmp_path.rglob("complete.json"))


def test_a_baseline_of_another_python_is_refused(tmp_path: Path) -> None:
    lock = environments.current_lock(["reference"])
    with pytest.raises(UsageError, match=r"saved under Python 2\.7"):
        environments.build_locked(Lock("2.7", lock.roots, lock.pins), "old", tmp_path)


@pytest.mark.usefixtures("process")
@pytest.mark.slow
def test_releases_are_those_that_pip_lists() -> None:
    releases = environments.list_releases("six")
    assert releases.index("1.15.0") < releases.index("1.16.0")
    with pytest.raises(CannotInstall):
        environments.list_releases("evenbench-no-such-package-at-all")


@pytest.mark.slow
def test_a_check_against_a_requirement_and_a_bisection(bench: Bench, cache: Path) -> None:
    """Real environments of the reference. psutil does not slow it down, so the bisection ends at its first step."""
    bench.environment["XDG_CACHE_HOME"] = str(cache)
    job = ("--backend", "reference", "--workload", "article-pytorch/digits/article-keras", "--batch-size", "4")
    quick = (*job, "--task", "infer", "--figure", "memory", "--margin", "memory=20%")
    done = bench("check", "--against", OLDER, *quick, "--profile", "deploy", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"no change: 1 no change (this environment against {OLDER})")
    search = ("bisect", "--package", "psutil", "--good", "6.1.0", "--bad", "6.1.1", *quick)
    bisected = bench(*search, timeout=500)
    assert bisected.returncode == 0, bisected.stdout + bisected.stderr
    assert "psutil 6.1.1 is not called a regression against 6.1.0" in bisected.stdout
    again = bench(*search, timeout=60)
    assert again.stdout == bisected.stdout, "the result is stored"


@pytest.mark.slow
def test_a_third_party_adapter_goes_to_the_other_environment(bench: Bench, cache: Path) -> None:
    """Only its module and its entry point are linked, and nothing else of this environment."""
    bench.environment["XDG_CACHE_HOME"] = str(cache)
    bench.register({"third-party": "evenbench_wrong:Right"})
    job = ("--backend", "third-party", "--workload", "article-pytorch/digits/article-keras", "--batch-size", "4")
    quick = (*job, "--task", "infer", "--figure", "memory", "--margin", "memory=20%", "--profile", "deploy")
    done = bench("check", "--against", OLDER, *quick, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_saved_baseline_is_built_again(bench: Bench, cache: Path) -> None:
    bench.environment["XDG_CACHE_HOME"] = str(cache)
    job = ("--backend", "reference", "--workload", "article-pytorch/digits/article-keras", "--batch-size", "4")
    saved = bench("baseline", "save", "before", *job, "--task", "infer", "--figure", "memory")
    assert saved.returncode == 0, saved.stderr
    done = bench("check", "--against", "before", "--profile", "deploy", "--margin", "memory=20%", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "this environment against baseline before" in done.stdout


def test_another_interpreter_is_taken_by_its_path(bench: Bench) -> None:
    link = bench.folder / "python"
    link.symlink_to(sys.executable)
    assert os.access(link, os.X_OK)
    plain = bench.folder / "plain"
    plain.write_text("")
    done = bench("check", "--against", str(plain), "--backend", "reference")
    assert (done.returncode, "not an executable interpreter" in done.stderr) == (2, True)

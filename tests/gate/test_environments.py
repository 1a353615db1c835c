"""Environments for the other side of a check: real ones, of small packages."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import pytest
from bench_command import Bench
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import backends
from backends.base import build_of
from bench.errors import UsageError
from bench.gate import environments, package_index
from bench.gate.environments import CannotInstall, Lock
from bench.gate.gate import different_builds
from bench.gate.package_index import PackageIndex

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


def write_wheel(index: Path, version: str) -> None:
    """A wheel of evenbench-demo in an index folder as pip reads it (PEP 503)."""
    folder, info = index / "evenbench-demo", f"evenbench_demo-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"evenbench_demo-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("evenbench_demo.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: evenbench-demo\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    links = "".join(f'<a href="{path.name.replace("+", "%2B")}">{path.name}</a>' for path in folder.glob("*.whl"))
    (folder / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")


@pytest.mark.usefixtures("process")
def test_a_build_of_an_index_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pin such as 2.13.0+cpu is on no index but its own: the error names it, and the option finds it."""
    write_wheel(tmp_path / "index", "1.0+cpu")
    write_wheel(tmp_path / "index", "1.1+cpu")
    lock = Lock(environments._python_version(), ("evenbench-demo",), {"evenbench-demo": "1.0+cpu"})
    with pytest.raises(CannotInstall, match=r"evenbench-demo==1\.0\+cpu: --extra-index-url URL names the index"):
        environments.build_locked(lock, "saved", tmp_path)
    # What users have in their shell must not send the packages elsewhere, nor be taken for pip.
    (tmp_path / "pip.py").write_text("raise SystemExit('not pip')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("UV_INDEX", f"demo={(tmp_path / 'index').as_uri()}")
    python = environments.build_locked(lock, "saved", tmp_path, package_index.chosen())
    assert versions_in(python)["evenbench-demo"] == "1.0+cpu"
    changed = environments.parse_requirements("evenbench-demo==1.1")
    newer = environments.build_changed(lock, changed, tmp_path, package_index.chosen())
    assert versions_in(newer)["evenbench-demo"] == "1.1+cpu", "the build of that index is found for the version"


@pytest.mark.usefixtures("process")
def test_releases_where_the_environment_has_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an environment of uv."""
    for version in ("1.10", "1.9", "2.0rc1"):
        write_wheel(tmp_path / "index", version)
    index = PackageIndex(url=(tmp_path / "index").as_uri())
    real = importlib.util.find_spec
    monkeypatch.setattr(environments.importlib.util, "find_spec", lambda name: None if name == "pip" else real(name))
    assert environments.list_releases("evenbench-demo", tmp_path / "cache", index) == ["1.9", "1.10"]
    monkeypatch.setattr(environments.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CannotInstall, match=r"has no ensurepip; Debian: apt install python3-venv"):
        environments.list_releases("evenbench-demo", tmp_path / "other", index)


@pytest.mark.parametrize(
    ("base", "present", "said"),
    [
        ("CPU", "CUDA 13.0", ["the sides have different builds of torch: base CPU, present CUDA 13.0"]),
        ("CPU", "CPU", []),
    ],
)
def test_different_builds_are_said(base: str, present: str, said: list[str]) -> None:
    key = build_of("torch")
    found = different_builds({"torch": "2.13.0", key: base, "x build": "CPU"}, {"torch": "2.14.0", key: present})
    assert [text.partition(";")[0] for text in found] == said


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


@pytest.mark.long
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


@pytest.mark.long
def test_a_third_party_adapter_goes_to_the_other_environment(bench: Bench, cache: Path) -> None:
    """Only its module and its entry point are linked, and nothing else of this environment."""
    bench.environment["XDG_CACHE_HOME"] = str(cache)
    bench.register({"third-party": "evenbench_wrong:Right"})
    job = ("--backend", "third-party", "--workload", "article-pytorch/digits/article-keras", "--batch-size", "4")
    quick = (*job, "--task", "infer", "--figure", "memory", "--margin", "memory=20%", "--profile", "deploy")
    done = bench("check", "--against", OLDER, *quick, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
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

"""What machine this is: cores, quotas, fingerprint."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.machine import host


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({}, None),
    ],
)
def test_container_quota(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert host.cpu_quota(tmp_path) == quota


def test_threads_stay_below_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "physical_cores", lambda: [[cpu] for cpu in range(64)])
    for quota, threads in ((None, 64), (2.5, 2), (0.5, 1), (100.0, 64)):
        monkeypatch.setattr(host, "cpu_quota", lambda quota=quota: quota)
        assert host.default_threads() == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_cores_are_those_that_this_process_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert host.physical_cores() == [[min(allowed)]]
    finally:
        os.sched_setaffinity(0, allowed)


def test_fingerprint_is_stable_and_has_what_decides_speed() -> None:
    first, again = host.fingerprint(), host.fingerprint()
    assert first["id"] == again["id"]
    assert first["cores"] >= 1
    assert first["memory"] > 0
    assert first["cpu"]


@pytest.mark.usefixtures("process")
def test_commit_of_the_users_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    monkeypatch.chdir(tmp_path)
    assert host.git_commit() is None
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    commit = host.git_commit()
    assert len(commit) == 40
    (tmp_path / "file").write_text("")
    subprocess.run(["git", "add", "file"], check=True)
    assert host.git_commit() == f"{commit}+dirty"


@pytest.mark.parametrize(
    ("line", "files", "quota"),
    [
        ("0::/user.slice/job", {"user.slice/job/cpu.max": "150000 100000"}, 1.5),
        ("0::/user.slice/job", {"user.slice/job/cpu.max": "max 100000", "user.slice/cpu.max": "200000 100000"}, 2.0),
        ("0::/a/b", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "100000 100000"}, 1.0),
        ("0::/a", {"a/cpu.max": "max 100000", "b/cpu.max": "100000 100000"}, None),
        (
            "3:cpu,cpuacct:/docker/x",
            {"cpu/docker/x/cpu.cfs_quota_us": "50000", "cpu/docker/x/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("3:cpu:/gone", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3.0),
    ],
)
def test_the_quota_is_that_of_the_processs_own_group(
    tmp_path: Path, line: str, files: dict[str, str], quota: float | None
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    groups = tmp_path / "groups"
    groups.write_text(line + "\n")
    assert host.cpu_quota(tmp_path, groups) == quota


def test_the_memory_limit_is_that_of_the_processs_own_group(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name, content in {"a/memory.max": "5000", "a/memory.current": "2000", "a/b/memory.max": "max"}.items():
        (tmp_path / name).write_text(content)
    groups = tmp_path / "groups"
    groups.write_text("0::/a/b\n")
    assert host.available_memory(tmp_path, groups) == 3000

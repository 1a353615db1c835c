"""Limits of a worker: by a control group where one can be made (on a tree like the kernel's), else by the process."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import quantities
from bench.errors import UsageError
from bench.machine import limits
from bench.machine.limits import BY_GROUP, BY_RLIMIT, Limits


@pytest.fixture
def kernel(tmp_path: Path) -> tuple[Path, Path]:
    """A root like cgroup v2's, with this process's group in it, and its ``/proc/self/cgroup``."""
    own = tmp_path / "fs" / "user" / "session"
    own.mkdir(parents=True)
    (tmp_path / "fs" / "cgroup.controllers").write_text("cpu memory\n")
    (own / "cgroup.subtree_control").write_text("cpu memory\n")
    groups = tmp_path / "cgroup"
    groups.write_text("0::/user/session\n")
    return tmp_path / "fs", groups


def test_a_control_group_holds_memory(kernel: tuple[Path, Path]) -> None:
    (group,) = limits.make_groups(Limits(10**9), *kernel)
    assert group.folder.parent == kernel[0] / "user" / "session"
    assert (group.folder / "memory.max").read_text() == "1000000000"
    told = {name: value for name, value in limits.environment(Limits(10**9), [group]).items() if value is not None}
    assert limits.in_effect(told) == {"memory_limit": {"bytes": 10**9, "held_by": BY_GROUP}}
    assert (group.kills, group.peak) == (0, None)
    (group.folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    (group.folder / "memory.peak").write_text("999424\n")
    assert (group.kills, group.peak) == (2, 999424)


def test_every_worker_has_a_group_of_its_own(kernel: tuple[Path, Path]) -> None:
    groups = [group for _ in range(3) for group in limits.make_groups(Limits(10**9), *kernel)]
    assert len({group.folder for group in groups}) == 3


def test_where_no_group_can_be_made_there_is_none(
    kernel: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root, groups = kernel

    def refused(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refused)
        assert not limits.make_groups(Limits(10**9, cpu=1.5), root, groups)
    assert [folder for folder in (root / "user" / "session").iterdir() if folder.is_dir()] == []
    groups.write_text("4:memory:/x\n")
    assert not limits.make_groups(Limits(10**9), root, groups), "cgroup v1"
    assert not limits.make_groups(Limits(10**9, cpu=1.0), root, tmp_path / "none")


def test_one_group_holds_memory_and_cpu_time(kernel: tuple[Path, Path]) -> None:
    asked = Limits(10**9, cpu=1.5)
    (group,) = limits.make_groups(asked, *kernel)
    assert (group.folder / "cpu.max").read_text() == "150000 100000"
    told = {name: value for name, value in limits.environment(asked, [group]).items() if value is not None}
    assert limits.in_effect(told) == {
        "memory_limit": {"bytes": 10**9, "held_by": BY_GROUP},
        "cpu_quota": {"cpus": 1.5, "held_by": BY_GROUP},
    }
    assert group.throttled is None
    (group.folder / "cpu.stat").write_text("usage_usec 7\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1500000\n")
    assert group.throttled == 1.5


def test_cpu_time_is_held_by_cgroup_v1_where_v2_has_no_controller(kernel: tuple[Path, Path]) -> None:
    root, groups = kernel
    (root / "cgroup.controllers").unlink()
    (root / "cpu" / "pod").mkdir(parents=True)
    groups.write_text("3:memory:/other\n1:cpu,cpuacct:/pod\n0::/\n")
    asked = Limits(10**9, cpu=0.5)
    (group,) = limits.make_groups(asked, root, groups)
    assert group.folder.parent == root / "cpu" / "pod"
    assert (group.folder / "cpu.cfs_quota_us").read_text() == "50000"
    assert (group.folder / "cpu.cfs_period_us").read_text() == "100000"
    (group.folder / "cpu.stat").write_text("nr_periods 3\nnr_throttled 2\nthrottled_time 2500000000\n")
    assert group.throttled == 2.5
    told = {name: value for name, value in limits.environment(asked, [group]).items() if value is not None}
    assert limits.in_effect(told)["memory_limit"]["held_by"] == BY_RLIMIT
    assert limits.in_effect(told)["cpu_quota"]["held_by"] == BY_GROUP


def test_a_quota_that_cannot_be_held_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "make_groups", lambda *_: [])
    with pytest.raises(UsageError, match=r"--cpu-quota needs a control group .* docker run --cpus"):
        limits.check_quota(1.0)


def limited(code: str, **told: str) -> subprocess.CompletedProcess[str]:
    """Python with limits that it has entered."""
    program = f"import os\nfrom bench.machine import limits\nlimits.enter(os.environ)\n{code}"
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PATH": "", **told},
        timeout=300,
        check=False,
    )


def test_memory_without_a_group_is_refused_by_the_process(process: None) -> None:
    program = "try:\n    x = bytearray(600_000_000)\nexcept MemoryError:\n    print(limits.who_refused(os.environ))"
    done = limited(program, EVENBENCH_MEMORY=str(500_000_000))
    assert done.stdout.strip() == f"--memory ({BY_RLIMIT})", done.stderr
    assert limited(program, EVENBENCH_MEMORY=str(2_000_000_000)).stdout == ""
    assert limited(program).stdout == "", "no limit"


def test_a_file_that_is_too_large_is_refused(process: None, tmp_path: Path) -> None:
    program = (
        f"try:\n    open({str(tmp_path / 'large')!r}, 'wb').write(b'x' * 2_000_000)\n"
        "except OSError as error:\n    print(error.errno)"
    )
    assert limited(program, EVENBENCH_DISK="1000000").stdout.strip() == str(errno.EFBIG)
    assert (tmp_path / "large").stat().st_size <= 1_000_000


def test_the_kernel_ends_a_worker_first(process: None) -> None:
    done = limited("print(open('/proc/self/oom_score_adj').read())")
    assert done.stdout.strip() == "1000"


def test_libraries_that_do_not_fit_are_no_missing_package() -> None:
    error = ImportError("libtorch.so: failed to map segment from shared object")
    assert limits.refuses_libraries({limits.MEMORY: "1"}, error)
    assert not limits.refuses_libraries({}, error)
    assert not limits.refuses_libraries({limits.MEMORY: "1"}, ImportError("No module named 'torch'"))


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 5 * 10**8), ("2GiB", 2**31), ("1.5g", 15 * 10**8), ("4096", 4096), ("64 KiB", 65536), ("1T", 10**12)],
)
def test_sizes(text: str, size: int) -> None:
    assert quantities.size("--memory", text) == size


@pytest.mark.parametrize("text", ["", "0", "-1GB", "4XB", "GB", "1e9", "1,5GB"])
def test_what_is_no_size_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="not a size such as 500MB or 2GiB"):
        quantities.size("--memory", text)


def test_the_limit_is_in_the_record() -> None:
    assert json.loads(json.dumps(limits.in_effect({limits.MEMORY: "7"})))["memory_limit"]["bytes"] == 7

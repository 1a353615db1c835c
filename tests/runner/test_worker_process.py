"""The parent's side of the pipe, against small real processes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from bench.runner import worker_process as child_module
from bench.runner.worker_process import Child, WorkerError

pytestmark = pytest.mark.usefixtures("process")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs instead of the worker: a ``bench/worker/session.py`` of its own, found first on PYTHONPATH."""
    package = tmp_path / "path" / "bench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    return package / "worker.py"


def spawn(tmp_path: Path) -> Child:
    return Child(sys.executable, {}, tmp_path / "log")


@pytest.mark.alone
def test_the_parent_sleeps_while_a_worker_works(script: Path, tmp_path: Path) -> None:
    script.write_text("import time; input(); time.sleep(2); print('{\"ok\": {}}', flush=True); input()")
    with spawn(tmp_path) as child:
        used = time.process_time()
        assert child.ask("slice", 30) == {}
        assert time.process_time() - used < 0.04, "2% of one core over 2 s"


@pytest.mark.parametrize("answer", ["hello", "[]", "{}", '{"ok"', "null", '{"error": 1}', '{"ok": 5}', "\\x00"])
def test_garbage_is_told_and_ends_the_worker(script: Path, tmp_path: Path, answer: str) -> None:
    script.write_text(f"input(); print({answer!r}, flush=True); input()")
    with spawn(tmp_path) as child:
        with pytest.raises(WorkerError, match="garbage") as caught:
            child.ask("prepare", 30)
        assert caught.value.status == "failed"
        assert child._process.poll() is not None


@pytest.mark.alone
def test_a_sign_of_life_begins_the_deadline_anew(script: Path, tmp_path: Path) -> None:
    says = "[(time.sleep(0.8), print('{\"alive\": true}', flush=True)) for _ in range(5)]"
    script.write_text(f"import time; input(); {says}; print('{{\"ok\": {{}}}}', flush=True); time.sleep(60)")
    with spawn(tmp_path) as child:
        assert child.ask("fit", 3) == {}, "four seconds of work, never silent for three"
        with pytest.raises(WorkerError, match=r"no answer to fit within 0\.3 s"):
            child.ask("fit", 0.3)


def test_a_grandchild_dies_with_its_group(script: Path, tmp_path: Path) -> None:
    import psutil

    script.write_text(
        "import json, subprocess, sys; input()\n"
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(json.dumps({'ok': {'pid': grandchild.pid}}), flush=True); input(); input()"
    )
    with spawn(tmp_path) as child:
        pid = child.ask("prepare", 30)["pid"]
        with pytest.raises(WorkerError, match=r"no answer to slice within 0\.2 s"):
            child.ask("slice", 0.2)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the grandchild outlived the group"


def test_killed_for_memory_is_told_apart(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script.write_text("import os, signal; input(); os.kill(os.getpid(), signal.SIGKILL)")
    with spawn(tmp_path) as child, pytest.raises(WorkerError) as caught:
        child.ask("fit", 30)
    assert caught.value.status == "crashed"
    counts = iter([3, 4])
    monkeypatch.setattr(child_module, "_oom_kills", lambda: next(counts))
    with spawn(tmp_path) as child, pytest.raises(WorkerError) as caught:
        child.ask("fit", 30)
    assert caught.value.status == "out-of-memory"


def test_an_interpreter_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Child(str(tmp_path / "python"), {}, tmp_path / "log")


def test_a_users_folder_named_bench_does_not_shadow_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("raise SystemExit('the user\\'s folder was imported')")
    monkeypatch.chdir(tmp_path)
    with spawn(tmp_path) as child, pytest.raises(WorkerError, match="KeyError"):
        child.ask("prepare", 60)

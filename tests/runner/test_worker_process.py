"""The parent's side of the pipe, against small real processes."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from bench.runner import worker_process
from bench.runner.worker_process import WorkerError, WorkerProcess
from bench.worker.protocol import Evaluation, TimedMetric, WarmedUp, WarmUp, write_alive

WARM = '{"ok": {"steps": 3, "steady": null, "step_seconds": 0.5, "cut": 0}}'
WARMED = WarmedUp(steps=3, steady=None, step_seconds=0.5)
WARM_UP = WarmUp(metric=TimedMetric("throughput", "infer", 8, "device"))

pytestmark = pytest.mark.usefixtures("process")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that runs instead of the worker: another ``bench.worker``, first on PYTHONPATH."""
    package = tmp_path / "path" / "bench"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    (package / "worker").mkdir()
    (package / "worker" / "__init__.py").write_text("")
    return package / "worker" / "__main__.py"


def spawn(tmp_path: Path) -> WorkerProcess:
    return WorkerProcess(sys.executable, {}, tmp_path / "log")


@pytest.mark.alone
def test_the_parent_sleeps_while_a_worker_works(script: Path, tmp_path: Path) -> None:
    script.write_text(f"import time; input(); time.sleep(2); print({WARM!r}, flush=True); input()")
    with spawn(tmp_path) as worker:
        used = time.process_time()
        assert worker.ask(WARM_UP, 30) == WARMED
        assert time.process_time() - used < 0.04, "2% of one core over 2 s"


@pytest.mark.parametrize("answer", ["hello", "[]", "{}", '{"ok"', "null", '{"error": 1}', "\\x00"])
def test_garbage_is_reported_and_ends_the_worker(script: Path, tmp_path: Path, answer: str) -> None:
    script.write_text(f"input(); print({answer!r}, flush=True); input()")
    with spawn(tmp_path) as worker:
        with pytest.raises(WorkerError, match="garbage") as caught:
            worker.ask(WARM_UP, 30)
        assert caught.value.status == "failed"
        assert worker._process.poll() is not None


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ('{"ok": 5}', "it is 5, not WarmedUp or Missing"),
        ('{"ok": {"steps": 3, "steady": null}}', "not WarmedUp or Missing"),
        ('{"ok": {"steps": "3", "steady": null, "step_seconds": 1, "cut": 0}}', 'steps is "3", not int'),
    ],
)
def test_an_invalid_reply_is_reported_and_ends_the_worker(
    script: Path, tmp_path: Path, answer: str, problem: str
) -> None:
    script.write_text(f"input(); print({answer!r}, flush=True); input()")
    with spawn(tmp_path) as worker:
        with pytest.raises(WorkerError, match=problem) as caught:
            worker.ask(WARM_UP, 30)
        assert caught.value.status == "failed"
        assert worker._process.poll() is not None


@pytest.mark.alone
def test_a_sign_of_life_restarts_the_deadline(script: Path, tmp_path: Path) -> None:
    signs_of_life = "[(time.sleep(0.8), print('{\"alive\": true}', flush=True)) for _ in range(5)]"
    script.write_text(f"import time; input(); {signs_of_life}; print({WARM!r}, flush=True); time.sleep(60)")
    with spawn(tmp_path) as worker:
        assert worker.ask(WARM_UP, 3) == WARMED, "four seconds of work, never silent for three"
        with pytest.raises(WorkerError, match=r"no answer to warm_up within 0\.3 s"):
            worker.ask(WARM_UP, 0.3)


def test_a_grandchild_dies_with_its_group(script: Path, tmp_path: Path) -> None:
    import psutil

    script.write_text(
        "import json, subprocess, sys; input()\n"
        "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "reply = {'steps': grandchild.pid, 'steady': None, 'step_seconds': 1, 'cut': 0}\n"
        "print(json.dumps({'ok': reply}), flush=True)\n"
        "input(); input()"
    )
    with spawn(tmp_path) as worker:
        warmed = worker.ask(WARM_UP, 30)
        assert isinstance(warmed, WarmedUp)
        with pytest.raises(WorkerError, match=r"no answer to warm_up within 0\.2 s"):
            worker.ask(WARM_UP, 0.2)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(warmed.steps) and psutil.Process(warmed.steps).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the grandchild outlived the group"


def test_an_out_of_memory_kill_is_recognized(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script.write_text("import os, signal; input(); os.kill(os.getpid(), signal.SIGKILL)")
    with spawn(tmp_path) as worker, pytest.raises(WorkerError) as caught:
        worker.ask(WARM_UP, 30)
    assert caught.value.status == "crashed"
    counts = iter([3, 4])
    monkeypatch.setattr(worker_process, "_count_oom_kills", lambda: next(counts))
    with spawn(tmp_path) as worker, pytest.raises(WorkerError) as caught:
        worker.ask(WARM_UP, 30)
    assert caught.value.status == "out-of-memory"


def test_a_missing_interpreter(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        WorkerProcess(str(tmp_path / "python"), {}, tmp_path / "log")


def test_a_users_folder_named_bench_does_not_shadow_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("raise SystemExit('the user\\'s folder was imported')")
    monkeypatch.chdir(tmp_path)
    with spawn(tmp_path) as worker, pytest.raises(WorkerError, match="AttributeError"):
        worker.ask(WARM_UP, 60)


def test_evaluations_are_heard_while_the_worker_goes_on(script: Path, tmp_path: Path) -> None:
    lines = [write_alive(Evaluation(epoch=n, seconds=n, train_loss=0.5, split="test")).decode() for n in (1.0, 2.0)]
    script.write_text(f"input(); print({''.join(lines)!r}, end='', flush=True); print({WARM!r}, flush=True); input()")
    heard: list[Evaluation] = []
    with spawn(tmp_path) as worker:
        assert worker.ask(WARM_UP, 30, heard.append) == WARMED
    assert [each.epoch for each in heard] == [1.0, 2.0]


def test_a_sign_of_life_that_is_wrong_ends_the_worker(script: Path, tmp_path: Path) -> None:
    script.write_text('input(); print(\'{"alive": true, "evaluation": 3}\', flush=True); input()')
    with spawn(tmp_path) as worker, pytest.raises(WorkerError, match="answer to warm_up is invalid"):
        worker.ask(WARM_UP, 30)

"""What remains of a run that was ended from outside."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock
from stored import record, run

from bench.errors import BenchError
from bench.runner import run as running
from bench.runner.plan import Plan, Request, Row
from bench.runner.planner import make_plan
from bench.runner.progress import RunProgress
from bench.runner.workspace import OWNER, PREFIX, remove_abandoned
from bench.store import queries
from bench.store.store import Store
from bench.workloads.datasets import digits
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES, Workload

WAITS = (
    "import time; from bench.cli import options; options.end_as_ctrl_c()\n"
    "try:\n    print('ready', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('ended')"
)


def test_until_a_run_has_ended_its_records_say_so(tmp_path: Path) -> None:
    store, begun, whole = Store(str(tmp_path / "history.db")), run(), record()
    assert whole.status == "ok"
    store.add_run(begun)
    progress = RunProgress(store=store, run_name=begun.name)
    progress.changed([whole], {})
    (stored,) = store.load().records
    assert (stored.status, stored.error, stored.comparable) == ("interrupted", "the run has not ended", False)
    progress.ended(begun.model_copy(update={"records": [whole]}), whole=True)
    assert [each.status for each in store.load().records] == ["ok"]


def test_a_run_that_cannot_write_its_data_leaves_nothing_in_the_store(process: None, tmp_path: Path) -> None:
    class Full:
        def write(self, folder: Path, plan: Plan) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def bytes(self, plan: Plan) -> int:
            return 0

        def files(self, folder: Path, row: Row) -> dict[str, object]:
            return {}

    store = Store(str(tmp_path / "history.db"))
    workload = Workload(MODELS["article-keras"], "digits", RECIPES["article-keras"])
    plan = make_plan(Request(("reference",), workload, devices="cpu"))
    with pytest.raises(BenchError, match="No space left on device; set TMPDIR"):
        running.run(plan, digits.load(), store, "bench run", Full())
    assert list(queries.runs(store, queries.Filter(), 10)) == []


def test_a_disk_that_is_too_small_is_said_before_anything_is_measured(
    process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path / "history.db"))
    model, data = MODELS["vgg-cifar"], digits.load()
    plan = make_plan(Request(("pytorch",), Workload(model, "digits", RECIPES["vgg-cifar"]), devices="cpu"))
    needed = len(plan.rows) * 20 * 4 * model.parameters + data.train_x.nbytes
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed))
    with pytest.raises(BenchError, match=r"needs about \S+ GB of scratch, \S+ has \S+ GB free; set TMPDIR"):
        running.run(plan, data, store, "bench run")
    assert list(queries.runs(store, queries.Filter(), 10)) == []


def test_a_store_that_fails_during_a_run_is_an_error_and_no_verdict(
    process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(str(tmp_path / "history.db"))

    def nothing(*_: object) -> bool:
        (tmp_path / "history.db").unlink()  # by someone else
        return False

    monkeypatch.setattr(running, "_measure", nothing)
    workload = Workload(MODELS["article-keras"], "digits", RECIPES["article-keras"])
    plan = make_plan(Request(("reference",), workload, devices="cpu"))
    finished = running.run(plan, digits.load(), store, "bench run")
    assert finished.exit_code == 2
    assert finished.stored_in.startswith("no store: ")
    assert "bench: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGQUIT"])
def test_signals_that_end_a_process_end_it_as_ctrl_c_does(process: None, name: str) -> None:
    waiting = subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "ready\n"
    waiting.send_signal(getattr(signal, name))
    assert waiting.communicate(timeout=120)[0] == "ended\n"


def test_an_ignored_signal_stays_ignored(process: None) -> None:
    program = (
        "import signal; from bench.cli import options; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "options.end_as_ctrl_c(); signal.raise_signal(signal.SIGHUP); print('goes on')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "goes on\n"


def scratch(folder: Path, name: str, age: float) -> Path:
    made = folder / f"{PREFIX}{name}"
    made.mkdir()
    (made / OWNER).touch()
    then = (made / OWNER).stat().st_mtime - age
    os.utime(made / OWNER, (then, then))
    return made


def test_scratch_of_killed_runs_is_removed_and_no_other(tmp_path: Path) -> None:
    killed, living, young = (scratch(tmp_path, *of) for of in (("killed", 600), ("living", 600), ("young", 0)))
    foreign = tmp_path / f"{PREFIX}cache"
    foreign.mkdir()
    with FileLock(living / OWNER):
        then = (killed / OWNER).stat().st_mtime
        os.utime(living / OWNER, (then, then))
        remove_abandoned(tmp_path)
    assert [folder.exists() for folder in (killed, living, young, foreign)] == [False, True, True, True]

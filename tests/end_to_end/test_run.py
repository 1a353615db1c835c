"""``bench run`` end to end: isolation, interrupts, other interpreters, third-party adapters, data from disk."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench_command import QUICK, Bench
from fakes.registry import RIGHT, RUDE

Records = dict[str, dict[str, Any]]
ByBackend = Callable[[list[dict[str, Any]]], Records]

OUTCOMES = {
    "segfaults": ("crashed", "signal SIGSEGV during prepare"),
    "is-killed": ("crashed", "signal SIGKILL during prepare"),
    "hangs": ("timeout", "no answer to prepare within 12 s (--timeout)"),
    "raises": ("failed", "RuntimeError: the kernel of conv2d is"),
    "refuses": ("unsupported", "no convolutions on Mondays"),
    "runs-out-of-memory": ("out-of-memory", "MemoryError"),
    "exits": ("crashed", "exit code 3 during prepare: a last word on standard error"),
    "writes-garbage": ("failed", "garbage"),
    "not-a-number": ("ok", None),
    "prints": ("ok", None),
}


@pytest.mark.alone
def test_a_failing_worker_ends_only_its_own_row(bench: Bench, by_backend: ByBackend) -> None:
    bench.register(RUDE)
    rows = ["reference", *RUDE]
    records = by_backend(bench.run("--backend", ",".join(rows), "--task", "infer", "--timeout", "12", code=1))
    assert set(records) == set(rows)
    for name, (status, reason) in OUTCOMES.items():
        assert records[name]["status"] == status, records[name]["error"]
        assert (records[name]["error"] or "").count("\n") == 0
        if reason is not None:
            assert reason in records[name]["error"]
    assert records["reference"]["status"] == "ok"
    assert records["reference"]["parity"]["comparable"]
    assert not records["not-a-number"]["parity"]["comparable"], "a loss that is not a number is not parity"
    report = bench("report")
    assert report.returncode == 0
    assert "timeout: no answer to prepare within 12 s" in report.stdout
    assert "upside down" in records["raises"]["log"], "the traceback is kept"
    assert workers_of(bench) == []


def test_a_run_whose_rows_have_all_failed_does_not_wait_for_its_budget(bench: Bench) -> None:
    bench.register(RUDE)
    done = bench("run", "--backend", "raises", "--task", "infer", "--budget", "10m", timeout=120)
    assert done.returncode == 1, done.stderr
    assert re.search(r"budget 600 s: (0 rounds|1 round), \d+ s in all", done.stdout)


def test_third_party_adapter_needs_no_edit_here(bench: Bench, by_backend: ByBackend) -> None:
    bench.register(RIGHT)
    listed = bench("list")
    assert "third-party" in listed.stdout
    records = by_backend(bench.run("--backend", "third-party", "--task", "infer"))
    assert records["third-party"]["parity"]["comparable"]


def test_import_error_of_a_third_party_adapter_is_reported(bench: Bench) -> None:
    bench.register({"broken": "evenbench_no_such_module:Adapter"})
    listed = bench("list")
    assert listed.returncode == 0
    assert "cannot be imported: ModuleNotFoundError" in listed.stdout
    done = bench("run", "--backend", "broken")
    assert done.returncode == 2
    assert done.stderr.startswith("bench: backend 'broken' cannot be imported")
    (record,) = bench.run("--backend", "reference", "--task", "infer")
    assert record["status"] == "ok", "a run without that backend is not affected"


def test_rounds_are_shuffled_by_the_seed_and_recorded(bench: Bench) -> None:
    import json

    bench.register(RIGHT)
    options = ("--backend", "reference,third-party", "--task", "infer", "--rounds", "2", "--seed", "2")
    done = bench("run", *QUICK, *options)
    assert done.returncode == 0, done.stderr
    exported = json.loads(bench("export").stdout)
    names = [[row.split("/")[0] for row in order] for order in exported["schedule"]]
    assert [sorted(order) for order in names] == [["reference", "third-party"]] * 2
    assert len({tuple(order) for order in exported["schedule"]}) == 2, "both rounds have the same order: not shuffled"
    throughput = next(f for f in exported["records"][0]["figures"] if f["name"] == "throughput")
    assert throughput["n"] == 2
    assert throughput["low"] < throughput["value"] < throughput["high"]


def workers_of(bench: Bench) -> list[psutil.Process]:
    """Live processes of this test, also those whose parent has ended."""
    workers = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("BENCH_STORE") == str(bench.store):
                workers.append(process)
        except psutil.Error:
            continue  # the process has ended, or belongs to the kernel
    return workers


@contextmanager
def started(bench: Bench, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``bench run`` in the background, ended with the test."""
    process = subprocess.Popen(
        bench.command("run", *QUICK, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=bench.environment,
        cwd=bench.folder,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def has_ended(process: psutil.Process) -> bool:
    """Whether the process ends within ten seconds; a zombie counts as ended."""
    deadline = time.monotonic() + 10
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def worker_of(process: subprocess.Popen[str], text: str) -> psutil.Process:
    """The worker that runs after a progress line with ``text``."""
    assert process.stderr is not None
    assert any(text in line for line in process.stderr), f"no progress line with {text!r}"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children():
            if "bench.worker" in child.cmdline():
                return child
        time.sleep(0.05)
    raise AssertionError("no worker started")


def test_ctrl_c_keeps_what_was_measured(bench: Bench, by_backend: ByBackend) -> None:
    bench.register({"hangs": RUDE["hangs"]})
    with started(bench, "--backend", "reference,hangs", "--task", "infer", "--rounds", "2") as process:
        worker = worker_of(process, "hangs: measure")
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert "interrupted: stopped by the user" in out
    assert has_ended(worker)
    records = by_backend(bench.records())
    assert records["hangs"]["status"] == "interrupted"
    assert all(record["parity"]["comparable"] for record in records.values()), "the certificates were kept"


def test_a_killed_parent_takes_its_worker_along_and_keeps_its_rounds(bench: Bench) -> None:
    bench.register({"hangs": RUDE["hangs"]})
    with started(bench, "--backend", "hangs", "--task", "infer") as process:
        worker = worker_of(process, "hangs: measure")
        process.kill()
        assert has_ended(worker)
    record = bench.records()[0]
    assert record["parity"]["comparable"]
    assert (record["status"], record["error"]) == ("interrupted", "the run has not ended")


def test_cifar10_from_disk(bench: Bench, cifar10_folder: Path, by_backend: ByBackend) -> None:
    options = ("--backend", "reference", "--dataset", "cifar10", "--data-dir", str(cifar10_folder), "--task", "infer")
    record = by_backend(bench.run(*options))["reference"]
    assert record["parity"]["comparable"]
    assert record["data"]["train"] == 45_000
    assert record["data"]["test"] == 10_000
    assert len(record["data"]["sha256"]) == 64
    assert "copy" in bench("report").stdout


@pytest.mark.slow
def test_another_interpreter_needs_numpy_psutil_and_the_framework_only(bench: Bench, by_backend: ByBackend) -> None:
    environment = bench.folder / "other"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    packages = ["numpy", "psutil", "threadpoolctl"]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True, timeout=1200)
    bench.register(RIGHT)
    options = ("--backend", "reference", "--python", f"reference={python}", "--task", "infer")
    record = by_backend(bench.run(*options))["reference"]
    assert record["status"] == "ok"
    assert record["parity"]["comparable"]


def test_a_framework_that_the_other_interpreter_lacks_is_unavailable(bench: Bench, by_backend: ByBackend) -> None:
    environment = bench.folder / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    import numpy

    (site / "numpy.pth").write_text("")  # an environment of its own, with NumPy and psutil borrowed
    for package in (numpy, psutil):
        source = Path(package.__file__).parent
        (site / source.name).symlink_to(source)
        libraries = source.parent / f"{source.name}.libs"
        if libraries.exists():
            (site / libraries.name).symlink_to(libraries)
    options = ("--backend", "pytorch", "--python", f"pytorch={environment / 'bin' / 'python'}")
    record = by_backend(bench.run(*options, code=1))["pytorch"]
    assert record["status"] == "unavailable"
    assert "No module named 'torch'" in record["error"]


def test_unwritable_store_is_one_line_before_anything_is_measured(bench: Bench) -> None:
    began = time.monotonic()
    done = bench("run", "--backend", "reference", "--store", "/proc/evenbench/history.db")
    assert done.returncode == 2
    assert done.stderr.startswith("bench: cannot open the store")
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - began < 60


def test_a_full_disk_is_one_line(process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    import numpy as np

    from bench.errors import BenchError
    from bench.runner import plan, planner
    from bench.runner.workspace import DatasetInputs, Workspace
    from bench.workloads.datasets import digits
    from bench.workloads.models import MODELS
    from bench.workloads.workload import RECIPES, Workload

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    workload = Workload(MODELS["article-keras"], "digits", RECIPES["article-keras"])
    made_plan = planner.make_plan(plan.Request(("reference",), workload, devices="cpu"))
    monkeypatch.setattr(np, "save", full)
    with (
        pytest.raises(BenchError, match="No space left on device; set TMPDIR"),
        Workspace(made_plan, DatasetInputs(digits.load())).opened(),
    ):
        pytest.fail("it was opened")


def test_a_task_that_no_backend_can_do(bench: Bench) -> None:
    records = bench.run("--backend", "onnxruntime", "--task", "train", code=1)
    outcomes = {(record["status"], record["error"]) for record in records}
    assert outcomes == {("unsupported", "onnxruntime does not train")}

"""``bench run`` as a user runs it: isolation, interrupts, other interpreters, third-party adapters, data from disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import RIGHT, RUDE, Bench

Records = dict[str, dict[str, Any]]
ByBackend = Callable[[list[dict[str, Any]]], Records]

OUTCOMES = {
    "segfaults": ("crashed", "signal SIGSEGV during prepare"),
    "is-killed": ("crashed", "signal SIGKILL during prepare"),
    "hangs": ("timeout", "no answer to prepare within 8 s (--timeout)"),
    "raises": ("failed", "RuntimeError: the kernel of conv2d is"),
    "refuses": ("unsupported", "no convolutions on Mondays"),
    "runs-out-of-memory": ("out-of-memory", "MemoryError"),
    "exits": ("crashed", "exit code 3 during prepare: a last word on standard error"),
    "writes-garbage": ("failed", "garbage"),
    "lies": ("ok", None),
    "prints": ("ok", None),
}


def test_what_ends_badly_costs_only_its_own_row(bench: Bench, by_backend: ByBackend) -> None:
    bench.register(RUDE)
    rows = ["reference", *RUDE]
    records = by_backend(bench.run("--backend", ",".join(rows), "--task", "infer", "--timeout", "8", code=1))
    assert set(records) == set(rows)
    for name, (status, reason) in OUTCOMES.items():
        assert records[name]["status"] == status, records[name]["error"]
        assert (records[name]["error"] or "").count("\n") == 0
        if reason is not None:
            assert reason in records[name]["error"]
    assert records["reference"]["status"] == "ok"
    assert records["reference"]["parity"]["comparable"]
    assert not records["lies"]["parity"]["comparable"], "a loss that is not a number is not parity"
    report = bench("report")
    assert report.returncode == 0
    assert "timeout: no answer to prepare within 8 s" in report.stdout
    assert not [p for p in psutil.process_iter(["cmdline"]) if "bench.worker" in (p.info["cmdline"] or [])]


def test_third_party_adapter_needs_no_edit_here(bench: Bench, by_backend: ByBackend) -> None:
    bench.register(RIGHT)
    listed = bench("list")
    assert "third-party" in listed.stdout
    records = by_backend(bench.run("--backend", "third-party", "--task", "infer"))
    assert records["third-party"]["parity"]["comparable"]


def test_import_error_of_a_third_party_adapter_is_told(bench: Bench) -> None:
    bench.register({"broken": "evenbench_no_such_module:Adapter"})
    listed = bench("list")
    assert listed.returncode == 0
    assert "cannot be imported: ModuleNotFoundError" in listed.stdout
    done = bench("run", "--backend", "broken")
    assert done.returncode == 2
    assert done.stderr.startswith("bench: backend 'broken' cannot be imported")


def test_rounds_are_shuffled_by_the_seed_and_recorded(bench: Bench) -> None:
    import json

    bench.register(RIGHT)
    options = ("--backend", "reference,third-party", "--task", "infer", "--rounds", "6", "--seed", "3")
    done = bench("run", *options)
    assert done.returncode == 0, done.stderr
    exported = json.loads(bench("export").stdout)
    assert [sorted(order) for order in exported["schedule"]] == [["reference", "third-party"]] * 6
    assert len({tuple(order) for order in exported["schedule"]}) == 2, "6 orders of 2 rows, all alike: not shuffled"
    throughput = next(f for f in exported["records"][0]["figures"] if f["name"] == "throughput")
    assert throughput["n"] == 6
    assert throughput["low"] < throughput["value"] < throughput["high"]


def start(bench: Bench, *arguments: str) -> subprocess.Popen[str]:
    """``bench run`` in the background."""
    return subprocess.Popen(
        bench.command("run", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=bench.environment,
        cwd=bench.folder,
        start_new_session=True,
    )


def wait_for_line(process: subprocess.Popen[str], text: str) -> None:
    """Block until a progress line holds ``text``."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{text!r} never came")


def test_ctrl_c_keeps_what_was_measured(bench: Bench, by_backend: ByBackend) -> None:
    bench.register({"hangs": RUDE["hangs"]})
    process = start(bench, "--backend", "reference,hangs", "--task", "infer", "--rounds", "2", "--seed", "1")
    wait_for_line(process, "hangs: measure")
    worker = psutil.Process(process.pid).children()
    assert worker, "a worker hangs"
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert "interrupted: stopped by the user" in out
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in worker)
    records = by_backend(bench.records())
    assert {record["status"] for record in records.values()} == {"interrupted"}
    assert all(record["parity"]["comparable"] for record in records.values()), "the certificates were kept"


def test_a_killed_parent_takes_its_worker_along_and_keeps_its_rounds(bench: Bench) -> None:
    bench.register({"hangs": RUDE["hangs"]})
    process = start(bench, "--backend", "hangs", "--task", "infer")
    wait_for_line(process, "hangs: measure")
    workers = psutil.Process(process.pid).children()
    process.kill()
    process.communicate(timeout=10)
    gone, alive = psutil.wait_procs(workers, timeout=10)
    assert (len(gone), alive) == (1, [])
    assert bench.records()[0]["parity"]["comparable"]


def test_cifar10_from_disk(bench: Bench, cifar10_folder: Path, by_backend: ByBackend) -> None:
    options = ("--backend", "reference", "--dataset", "cifar10", "--data-dir", str(cifar10_folder), "--task", "infer")
    record = by_backend(bench.run(*options))["reference"]
    assert record["parity"]["comparable"]
    assert record["data"]["train"] == 50_000
    assert record["data"]["test"] == 10_000
    assert len(record["data"]["sha256"]) == 64
    assert "copy" in bench("report").stdout


@pytest.mark.slow
def test_another_interpreter_needs_numpy_psutil_and_the_framework_only(bench: Bench, by_backend: ByBackend) -> None:
    environment = bench.folder / "other"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    packages = ["numpy", "psutil", "threadpoolctl"]
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True, timeout=300)
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
    assert done.returncode == 1
    assert done.stderr.startswith("bench: cannot open the store")
    assert done.stderr.count("\n") == 1
    assert time.monotonic() - began < 60


def test_unwritable_scratch_folder_is_one_line(bench: Bench) -> None:
    bench.environment["TMPDIR"] = "/proc"
    done = bench("run", "--backend", "reference")
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr

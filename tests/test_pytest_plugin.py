"""The fixture ``evenbench`` as a user's test suite meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bench_command import Bench
from fakes.registry import KNOWN

TESTS = """
import pytest

WORKLOAD = "article-pytorch/digits/article-keras"
QUICK = {"workload": WORKLOAD, "batch_size": 4, "profile": "deploy", "rounds": 2}

@pytest.mark.parametrize("backend", ["constant", "twice"])
def test_inference(evenbench, backend):
    record = evenbench(backend, **QUICK)
    assert record.comparable

@pytest.mark.benchmark(group="mine")
def test_training(evenbench):
    evenbench("constant", task="train", **QUICK)
"""


@pytest.fixture
def suite(bench: Bench) -> Bench:
    bench.register(KNOWN)
    (bench.folder / "test_speed.py").write_text(TESTS)
    return bench


def run(suite: Bench, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_speed.py", *options]
    return subprocess.run(
        command, cwd=suite.folder, env=suite.environment, capture_output=True, text=True, timeout=1200, check=False
    )


def benchmarks(file: Path) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in json.loads(file.read_text())["benchmarks"]}


def test_the_workers_own_time_is_recorded(suite: Bench) -> None:
    """A thousand images a second on the worker's own clock, whatever the pipe and the machine take."""
    done = run(suite, "--benchmark-json=out.json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = benchmarks(suite.folder / "out.json")
    assert found["test_inference[constant]"]["stats"]["data"] == pytest.approx([0.004, 0.004])
    assert found["test_inference[twice]"]["stats"]["mean"] == pytest.approx(0.008)
    assert found["test_training"]["stats"]["mean"] == pytest.approx(0.012)
    assert found["test_training"]["group"] == "mine"
    assert found["test_inference[constant]"]["group"].endswith("infer end-to-end, batch 4")
    assert found["test_inference[constant]"]["extra_info"]["images_per_second"] == pytest.approx([1000, 1000])
    assert found["test_inference[constant]"]["params"] == {"backend": "constant"}


@pytest.mark.long
def test_options_of_pytest_and_of_pytest_benchmark_work(suite: Bench) -> None:
    saved = run(suite, "-k", "constant", "--benchmark-autosave")
    assert saved.returncode == 0, saved.stdout + saved.stderr
    assert "1 passed, 2 deselected" in saved.stdout
    compared = run(suite, "-k", "constant", "--benchmark-compare", "--benchmark-compare-fail=mean:1%")
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert "Comparing against benchmarks from" in compared.stdout + compared.stderr
    disabled = run(suite, "-k", "twice", "--benchmark-disable")
    assert "1 passed" in disabled.stdout, disabled.stdout


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        (("--benchmark-only",), "1 passed, 1 skipped"),
        (("--benchmark-skip",), "1 passed, 1 skipped"),
        (("-n", "2", "-p", "xdist"), "2 passed"),
    ],
)
def test_our_tests_are_benchmarks_to_pytest_benchmark(suite: Bench, options: tuple[str, ...], outcome: str) -> None:
    plain = "def test_plain():\n    assert True\n"
    (suite.folder / "test_speed.py").write_text(
        TESTS.partition("@pytest.mark.param")[0]
        + plain
        + """
def test_speed(evenbench):
    evenbench("constant", **QUICK)
"""
    )
    done = run(suite, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcome in done.stdout


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("evenbench('pytroch')", "unknown backend 'pytroch'; did you mean 'pytorch'?"),
        ("evenbench('onnxruntime')", "2 rows fit (of onnxruntime <- keras, onnxruntime <- pytorch)"),
        ("evenbench('constant', workload='a/b')", "not MODEL/DATASET/RECIPE"),
        ("evenbench('reference', boundary='outer')", "0 metrics fit"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(suite: Bench, call: str, message: str) -> None:
    (suite.folder / "test_speed.py").write_text(f"def test_x(evenbench):\n    {call}\n")
    done = run(suite)
    assert done.returncode == 1
    assert message in done.stdout
    assert "Traceback" not in done.stdout

"""Seconds of the commands that measure nothing: ``python -m pytest benchmarks/test_startup.py``.

The target is under 0.5 s each. This is a benchmark and not a test, because a busy machine must not fail tests.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

BENCH = str(Path(sys.executable).parent / "bench")


@pytest.mark.parametrize("command", ["--help", "list"])
def test_startup(benchmark: BenchmarkFixture, command: str) -> None:
    process = benchmark.pedantic(
        subprocess.run, ([BENCH, command],), {"capture_output": True, "check": True}, rounds=10, warmup_rounds=1
    )
    assert process.stdout

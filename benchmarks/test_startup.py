"""How long the commands take that measure nothing: ``python -m pytest benchmarks/test_startup.py``.

Wanted: under 0.5 s each. A benchmark, not a test: a busy machine must not fail anybody's tests.
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
    done = benchmark.pedantic(
        subprocess.run, ([BENCH, command],), {"capture_output": True, "check": True}, rounds=10, warmup_rounds=1
    )
    assert done.stdout

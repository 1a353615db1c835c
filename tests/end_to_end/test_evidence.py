"""The benchmarks behind README's section on trust run in their short form and print their numbers.

Their results on a quiet machine are in benchmarks/results; these tests do not check the numbers.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

PRINTED = {
    "aa.py": r"onnxruntime <- pytorch infer: SD of the log ratio per pair \d+\.\d+%, n = 2 pairs",
    "contention.py": r"contended: 2 of 2 rows marked; every row in 1 of 1 tries",
    "cost.py": r"useful, sum of the above +\d+\.\d+ +\d+\.\d%",
    "fidelity.py": r"pytorch train: harness / hand \d\.\d+ \[.*\], n = 2 processes; peak memory [+-]\d+\.\d MB",
    "repeatability.py": r"\d+ of \d+ ratios agree",
    "power.py": r"simulated over 20 A/A pairs, pytorch train: called a regression at 0%: 0\.\d%",
    "change_points.py": r"evenbench +\d\.\d\d +\d\.\d\d +\d\.\d\d +\d+\.\d%",
    "report_scale.py": r"history of 40 runs of 5 rows: \d+\.\d\d s",
    "onnx_opsets.py": r"\{'certified': 5\}",
    "history_scale.py": r"compare last~1 last: \d\.\d+ s in 1,000 records",
    "site_scale.py": r"'nothing new': \d+\.\d+.*'files': \d+",
    "explain_aa.py": r"onnxruntime <- pytorch infer: blamed .* of \d+ parts; largest ",
    "reproducers.py": r"onnxruntime <- keras \{\"row\": \[\d+",
}


def test_every_benchmark_of_evidence_is_tried_here() -> None:
    scripts = {path.name for path in BENCHMARKS.glob("*.py")}
    assert scripts == {*PRINTED, "bed.py", "parity_margins.py", "test_startup.py"}


LONG = {
    "aa.py", "contention.py", "cost.py", "explain_aa.py", "fidelity.py", "history_scale.py", "repeatability.py",
    "reproducers.py",
}  # fmt: skip
"""Benchmarks that take half a minute or more: too long for CI."""


@pytest.mark.slow
@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("script", [pytest.param(s, marks=pytest.mark.long) if s in LONG else s for s in PRINTED])
def test_it_runs(script: str) -> None:
    results = {path: path.stat().st_mtime for path in (BENCHMARKS / "results").iterdir()}
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), "--quick"],
        capture_output=True,
        text=True,
        timeout=1800,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(PRINTED[script], done.stdout), done.stdout
    assert {path: path.stat().st_mtime for path in (BENCHMARKS / "results").iterdir()} == results, (
        "a trial writes no result"
    )

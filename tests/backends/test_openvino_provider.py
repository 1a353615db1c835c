"""ONNX Runtime with another execution provider, from a wheel of its own in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from bench_command import Bench

OPTIONS = ("--backend", "onnxruntime", "--mode", "openvino-provider", "--task", "infer")


@pytest.fixture(scope="module")
def interpreter(process: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with ``onnxruntime-openvino``, which shares what is installed here."""
    folder = tmp_path_factory.mktemp("provider")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "onnxruntime-openvino"]
    subprocess.run(command, check=True, timeout=1200)
    return python


@pytest.mark.long
def test_all_nodes_run_on_the_provider_that_the_mode_names(bench: Bench, interpreter: Path) -> None:
    records = bench.run(*OPTIONS, "--python", f"onnxruntime={interpreter}")
    rows = [record for record in records if record["job"]["backend"] == "onnxruntime"]
    assert {record["job"]["source"] for record in rows} == {"keras", "pytorch"}
    for record in rows:
        assert record["comparable"], record
        assert "onnxruntime-openvino" in record["versions"]
        assert set(record["settings"]["nodes_per_provider"]) == {"OpenVINOExecutionProvider"}


def test_a_build_without_the_provider_says_which_package_has_it(process: None) -> None:
    script = "import backends; backends.load('onnxruntime')('cpu', 'fp32', 'openvino-provider', 1, 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "Unavailable" in done.stderr
    assert "pip install onnxruntime-openvino into an environment of its own" in done.stderr

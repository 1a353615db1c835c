"""What a worker's environment says, and where its frameworks leave temporary files."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from worker_replies import row

from bench.machine import nvml
from bench.runner.worker_environment import worker_environment


def test_temporary_files_of_a_worker_are_in_the_scratch_folder(process: None, tmp_path: Path) -> None:
    """A worker ends without handlers at exit: what a framework leaves there must go with the scratch folder."""
    environment = {name: value for name, value in worker_environment(row("b"), tmp_path).items() if value is not None}
    script = "import tempfile; print(tempfile.gettempdir())"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == tmp_path
    assert done.stdout.strip() != tempfile.gettempdir()


@pytest.mark.parametrize(
    ("processes", "visible"), [(None, "GPU-1"), (1, "GPU-1"), (2, "GPU-1,GPU-0"), (3, "GPU-1,GPU-0,GPU-2")]
)
def test_every_process_that_trains_has_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, processes: int | None, visible: str
) -> None:
    found = [nvml.Gpu(number, f"GPU-{number}", "H200", 141) for number in range(4)]
    monkeypatch.setattr(nvml, "gpus", lambda: (found, ""))
    plain = row("b")
    scaled = replace(plain, gpu_uuid="GPU-1", job=replace(plain.job, device="cuda", processes=processes))
    assert worker_environment(scaled, tmp_path)["CUDA_VISIBLE_DEVICES"] == visible
    assert worker_environment(plain, tmp_path)["CUDA_VISIBLE_DEVICES"] == "-1"

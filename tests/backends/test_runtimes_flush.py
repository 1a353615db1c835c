"""Every runtime flushes denormal numbers in a worker: proven by a file that makes numbers around 1 of them.

A backend that builds models proves it in each certificate (``stated_denormals``).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import backends
from backends.base import model_file

EXPORT = """
import sys
from pathlib import Path
import backends
from backends.base import model_file
from bench.worker.certificate_outputs import denormal_weights
from bench.worker.reference_outputs import LONG_MODEL
name, folder = sys.argv[1], Path(sys.argv[2])
adapter = backends.load(name)
backend = adapter("cpu", "fp32", adapter.MODES[0], 2, 0)
backend.build(LONG_MODEL, denormal_weights(), None)
for format_name in adapter.WRITES:
    backend.export(folder / model_file(format_name), format_name)
"""
RUN = """
from bench.machine import denormals
denormals.flush()
import json, sys
from pathlib import Path
import numpy as np
import backends
from bench.worker.certificate_outputs import DENORMAL
from bench.worker.reference_outputs import LONG_BATCH, LONG_MODEL
name, path = sys.argv[1], Path(sys.argv[2])
adapter = backends.load(name)
backend = adapter("cpu", "fp32", adapter.MODES[0], 2, 0)
images = np.full((LONG_BATCH, *LONG_MODEL.input_shape), DENORMAL, np.float32)
if adapter.COMPILES:
    own = path.with_name(f"{name}-{path.name}")
    backend.convert(path, own, images, len(images))
    path = own
backend.load(path)
large = backend.infer(np.full(images.shape, 1e-30, np.float32))
print("\\n" + json.dumps([float(np.abs(backend.infer(images)).max()), float(large.min()), denormals.state()]))
"""
SOURCES = {"onnx": "pytorch", "litert": "keras", "exported-program": "pytorch"}
RUNTIMES = [name for name in backends.names() if backends.describe(name).READS]


@pytest.fixture(scope="module")
def exported(process: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of what a trainer exports, made when first asked for."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            run(EXPORT, name, made[name])
        return made[name]

    return of


def run(script: str, name: str, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, name, str(path)], capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_takes_denormal_inputs_for_zero(exported: Callable[[str], Path], name: str) -> None:
    (format_name,) = backends.describe(name).READS
    path = exported(SOURCES[format_name]) / model_file(format_name)
    denormal, normal, state = json.loads(run(RUN, name, path).splitlines()[-1])
    assert normal > 1e6, "the file computes what it should"
    assert (denormal, state) == (0.0, "flushed")

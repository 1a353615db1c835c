"""``bench explain`` and ``bench check --explain`` on real frameworks, one of whose layers is slower on one side."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from bench_command import Bench

from bench.records.gate_result import Check, MetricVerdict
from bench.store.schema import CHECKS
from bench.store.store import Store

QUICK = ("--model", "article-pytorch", "--batch-size", "16", "--threads", "1")


def test_a_training_step_by_layers(bench: Bench) -> None:
    done = bench("explain", "pytorch", "--task", "train", "--processes", "2", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pytorch: a step of training, batch 16 (n = 2 processes, 95%)" in done.stdout
    for part in ("conv2d_1", "conv2d_1 backward", "dense_1 backward", "(loss)", "(optimizer)", "(between operators)"):
        assert f"\n{part} " in done.stdout, part
    assert "the profiler adds" in done.stdout


def test_a_file_by_layers_and_what_its_exporter_inserted(bench: Bench) -> None:
    done = bench("explain", "onnxruntime<-keras", "--processes", "2", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("conv2d_1", "conv2d_2", "dense_1", "dense_3", "max_pool2d_1"):
        assert f"\n{part} " in done.stdout, part
    assert "(Transpose): inserted by the exporter" in done.stdout


@pytest.mark.long
def test_jax_by_layers_and_what_xla_fused(bench: Bench) -> None:
    done = bench("explain", "jax", "--task", "train", "--processes", "2", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("conv2d_1", "conv2d_2 backward", "dense_2"):
        assert f"\n{part} " in done.stdout, part


@pytest.mark.long
@pytest.mark.parametrize("backend", ["keras", "keras-torch", "keras-jax"])
def test_keras_by_layers(bench: Bench, backend: str) -> None:
    done = bench("explain", backend, "--task", "train", "--processes", "2", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    outside = () if backend == "keras-jax" else ("(loss)", "(optimizer)")  # XLA fuses them with others
    for part in ("conv2d_1", "conv2d_2 backward", *outside):
        assert f"\n{part} " in done.stdout, part


def test_openvino_by_layers(bench: Bench) -> None:
    done = bench("explain", "openvino<-pytorch", "--processes", "2", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nconv2d_1 " in done.stdout
    assert "\ndense_1 " in done.stdout


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("reference", "it has no profiler that names operators"),
        ("onnxruntime", "is not one row: "),
        ("torch", "unknown backend 'torch'"),
    ],
)
def test_what_cannot_be_explained_says_why(bench: Bench, row: str, text: str) -> None:
    done = bench("explain", row, "--processes", "2", *QUICK)
    assert done.returncode == 2
    assert text in done.stderr


class Repository:
    """A repository whose main computes one convolution once, and whose work tree computes it several times."""

    def __init__(self, bench: Bench, folder: Path, here: int) -> None:
        folder.mkdir()
        bench.register({"mine": "my_adapter:Adapter", "mine-runtime": "my_adapter:Runtime"})
        bench.environment["PYTHONPATH"] = os.pathsep.join([bench.environment["PYTHONPATH"], str(folder)])
        bench.environment["XDG_CACHE_HOME"] = str(folder.parent / "cache")
        bench.folder = self.folder = folder
        self._git("init", "-q", "-b", "main")
        self._write(1)
        self._git("add", ".")
        self._git("-c", "user.name=n", "-c", "user.email=e@e", "commit", "-q", "-m", "once")
        self._write(here)

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True)

    def _write(self, times: int) -> None:
        (self.folder / "my_adapter.py").write_text(
            f"import os\nos.environ['EVENBENCH_REPEATS'] = '{times}'\n"
            "from evenbench_repeats import Repeating as Adapter, RepeatingRuntime as Runtime\n"
        )


def store_name(bench: Bench) -> str:
    """The last check's."""
    return Store(str(bench.store)).names(CHECKS)[0]


def explained(bench: Bench, backend: str, task: str, source: str = "", code: int = 1) -> MetricVerdict:
    backends = f"{backend},{source}" if source else backend
    options = ("--backend", backends, "--task", task, "--metric", "throughput", "--boundary", "device", *QUICK)
    done = bench("check", "--against", "git:main", "--explain", "--budget", "120s", *options, timeout=590)
    assert done.returncode == code, done.stdout + done.stderr
    store = Store(str(bench.store))
    check = store.read(CHECKS, store.names(CHECKS)[0], Check)
    assert check is not None
    page = bench("history", "show", check.name, "--format", "html").stdout
    assert ('data-figure="operators-' in page) == (code == 1)
    return next(figure for figure in check.figures if figure.row.startswith(backend))


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(900)
def test_the_slower_layer_is_blamed(bench: Bench, tmp_path: Path) -> None:
    Repository(bench, tmp_path / "repository", here=3)
    figure = explained(bench, "mine", "train")
    assert figure.explained is not None
    blamed = {part.layer for part in figure.explained.parts if part.blamed}
    assert "conv2d_2" in blamed, figure.explained
    assert figure.explained.parts[0].layer == "conv2d_2", "the largest part"
    assert not {layer for layer in blamed if layer.startswith("conv2d_1")}
    assert " explains " in bench("history", "show", store_name(bench)).stdout


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("backend", "task", "source"), [("mine", "train", ""), ("mine-runtime", "infer", "pytorch")])
def test_ten_of_ten_checks_blame_the_layer(bench: Bench, tmp_path: Path, backend: str, task: str, source: str) -> None:
    Repository(bench, tmp_path / "repository", here=2)
    for _ in range(10):
        figure = explained(bench, backend, task, source)
        assert figure.explained is not None
        blamed = [part.layer for part in figure.explained.parts if part.blamed]
        print(f"\n{backend}: blamed {blamed}, {100 * figure.explained.parts[0].explains:.1f}% of the step")
        assert figure.explained.parts[0].layer == "conv2d_2"
        assert "conv2d_2" in blamed

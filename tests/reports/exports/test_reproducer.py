"""Rows as plain code: the code has the row's model and weights, and names no package of ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from builders import row, run, speed

import backends
from backends.base import Unsupported
from backends.model import AveragePool2D, Conv2D, Dense, Flatten, ModelSpec, ReLU
from backends.reference import Network
from backends.script import Script
from bench.machine import allocators
from bench.workloads.datasets import registry
from bench.workloads.models import MODELS
from reports.exports import reproducer

POOLED = ModelSpec(
    "pooled", (8, 8, 1), (Conv2D(4, 4, 2, "same", bias=False), ReLU(), AveragePool2D(), Flatten(), Dense(3, bias=False))
)
SEED = 3
ONCE = r"^(tf\.config\.threading\..*|torch\.set_num_interop_threads.*)$"
"""What a process can set only once."""


def text_of(model: ModelSpec, backend: str, source: str | None = None) -> str:
    mode = backends.load(backend).MODES[0]
    made: Script | None = None
    if source is not None:
        made = backends.load(source).script(model, "cpu", "fp32", backends.load(source).MODES[0], 1)
    script = backends.load(backend).script(model, "cpu", "fp32", mode, 1, made)
    record = row(backend, [speed([100.0, 110.0, 105.0], batch_size=16)], job={"seed": SEED, "model": model.name})
    images = np.random.default_rng(0).integers(256, size=(100, *model.input_shape)).astype(np.uint8)
    return reproducer.document(run(record), record, backend, script, images)


def drawn_images(sample: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What the code draws to look like these."""
    record = row("pytorch", [speed([100.0], batch_size=16)])
    script = Script((), (), (), (), ())
    code = reproducer.document(run(record), record, "pytorch", script, sample)
    names: dict[str, Any] = {"np": np}
    exec(code[code.index("pick =") : code.index("step = ")], names)
    images: npt.NDArray[np.float32] = names["images"]
    assert images.dtype == np.float32
    return images


def test_the_codes_images_look_like_the_rows() -> None:
    """Kernels that branch on pixels have the row's work: background, patches, detail, colours."""
    digits = drawn_images(registry.load("digits").train_x)
    assert digits.shape == (1024, 32, 32, 3)
    assert np.mean(digits == -1) == pytest.approx(0.49, abs=0.02)
    assert (digits == digits[..., :1]).all()
    assert (digits[:, ::4, ::4].repeat(4, 1).repeat(4, 2) == digits).all(), "digits have no detail within a patch"

    pick = np.random.default_rng(0)
    smooth = pick.integers(50, 200, (200, 8, 7, 1)).repeat(4, 1).repeat(4, 2)[:, :30, :28]
    detailed = drawn_images((smooth + pick.integers(-20, 21, smooth.shape)).astype(np.uint8))
    assert detailed.shape == (1024, 30, 28, 1)
    assert np.mean(detailed == -1) < 0.01
    patches = detailed[:, :28].reshape(1024, 7, 4, 7, 4)
    within, between = patches.std((2, 4)).mean(), patches.mean((2, 4)).std()
    assert within / between == pytest.approx(20.5 / 75, rel=0.2)
    half = np.where(pick.random(smooth.shape[:3])[..., None] < 0.5, 0, smooth).astype(np.uint8)
    assert np.mean(drawn_images(half) == -1) == pytest.approx(0.5, abs=0.03), "no detail on the background"
    colours = drawn_images(pick.integers(256, size=(100, 8, 8, 3)).astype(np.uint8))
    assert not (colours == colours[..., :1]).all()


@pytest.mark.parametrize(
    ("backend", "source"), [("pytorch", None), ("keras", None), ("onnxruntime", "pytorch"), ("onnxruntime", "keras")]
)
@pytest.mark.parametrize("model", ["article-keras", "article-pytorch"])
def test_the_code_of_the_articles_models_is_short_and_plain(model: str, backend: str, source: str | None) -> None:
    text = text_of(MODELS[model], backend, source)
    assert len(text.splitlines()) < 60
    assert max(map(len, text.splitlines())) <= 140
    assert not re.findall(r"^(?:from|import) (?:bench|backends|reports|evenbench)\b", text, re.MULTILINE)
    compile(text, "script.py", "exec")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pytorch", "keras"])
def test_the_code_computes_the_logits_of_the_rows_seed(process: None, backend: str, tmp_path: Path) -> None:
    """Every built-in model, and one with what they lack: uneven padding, strides, no biases."""
    models = [*MODELS.values(), POOLED]
    for number, model in enumerate(models):
        code = until_timed(text_of(model, backend))
        (tmp_path / f"{number}.py").write_text(re.sub(ONCE, "", code, flags=re.MULTILINE) if number else code)
        np.save(tmp_path / f"x{number}.npy", images_for(model))
    lines = "".join(
        f"names = {{}}\nexec(open('{n}.py').read(), names)\n"
        f"import numpy as np\nnp.save('y{n}.npy', names['infer'](np.load('x{n}.npy')))\n"
        for n in range(len(models))
    )
    completed(lines, tmp_path)
    for number, model in enumerate(models):
        assert_logits(np.load(tmp_path / f"y{number}.npy"), model)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["pytorch", "keras"])
def test_the_code_of_a_runtime_writes_and_reads_the_file(process: None, source: str, tmp_path: Path) -> None:
    model = MODELS["article-pytorch"]
    np.save(tmp_path / "x.npy", images_for(model))
    ends = "np.save('y.npy', infer(np.load('x.npy')))\n"
    completed(until_timed(text_of(model, "onnxruntime", source)) + ends, tmp_path)
    assert_logits(np.load(tmp_path / "y.npy"), model)


@pytest.mark.slow
def test_the_code_runs_to_its_end_where_nothing_of_ours_can_be_imported(process: None, tmp_path: Path) -> None:
    text = (
        text_of(MODELS["article-pytorch"], "pytorch").replace("range(100)", "range(3)").replace("range(50)", "range(3)")
    )
    blocked = "import sys\nfor name in ('bench', 'backends', 'reports', 'evenbench'):\n    sys.modules[name] = None\n"
    output = completed(blocked + text, tmp_path)
    assert re.search(r"^[\d,]+ images/s, median of 3 slices \(80% of them [\d,]+ to [\d,]+\)$", output, re.MULTILINE), (
        output
    )


@pytest.mark.parametrize(
    ("job", "line"),
    [
        ({}, None),
        ({"cpus": (0, 2)}, "As its workers ran: taskset -c 0,2 python THIS_FILE"),
        ({"allocator": allocators.ARENA}, r"As its workers ran: (MALLOC_\w+=\d+ )+python THIS_FILE"),
        (
            {"allocator": allocators.ARENA, "cpus": (1,)},
            r"As its workers ran: (MALLOC_\w+=\d+ )+taskset -c 1 python .*",
        ),
    ],
)
def test_the_code_says_how_its_row_was_started(job: dict[str, Any], line: str | None) -> None:
    record = row("pytorch", [speed([100.0, 110.0, 105.0], batch_size=16)], job={"seed": SEED, **job})
    images = np.zeros((10, 8, 8, 1), np.uint8)
    text = reproducer.document(run(record), record, "pytorch", Script((), (), (), (), ()), images)
    found = [each for each in text.splitlines() if each.startswith("As its workers ran")]
    assert [bool(re.fullmatch(line, each)) for each in found] == [True] if line is not None else not found


def test_what_has_no_code_says_why() -> None:
    model = MODELS["article-pytorch"]
    with pytest.raises(Unsupported, match="writes no plain code"):
        backends.load("openvino").script(model, "cpu", "fp32", "latency", 1)
    with pytest.raises(Unsupported, match="for TensorFlow"):
        backends.load("keras-jax").script(model, "cpu", "fp32", "jit", 1)
    with pytest.raises(Unsupported, match="fp32 files on the CPU"):
        backends.load("onnxruntime").script(model, "cpu", "int8", "all-optimizations", 1, None)
    twice = ModelSpec("twice", (2, 2, 1), (Flatten(), Dense(4), ReLU(), Dense(2)))
    with pytest.raises(Unsupported, match="two dense layers have as many inputs"):
        backends.load("pytorch").script(twice, "cpu", "fp32", "eager", 1)


def test_the_code_of_a_third_party_adapter_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_third_party", lambda: ["theirs"])
    monkeypatch.setattr(backends, "load", lambda name: pytest.fail("its code was run"))
    with pytest.raises(Unsupported, match="a package of its own"):
        backends.plain_code("theirs", MODELS["article-pytorch"], "cpu", "fp32", "usual", 1)


def test_only_certified_speed_is_repeated() -> None:
    with pytest.raises(LookupError, match="not certified"):
        reproducer.throughput(row("a", [speed([1.0])], parity={"comparable": False, "checks": []}))
    with pytest.raises(LookupError, match="not timed"):
        reproducer.throughput(row("a", [speed([1.0], task="train")]))


def until_timed(text: str) -> str:
    return text[: text.index("pick = np.random")]


def images_for(model: ModelSpec) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((4, *model.input_shape)).astype(np.float32)


def completed(code: str, folder: Path) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_logits(actual: np.ndarray, model: ModelSpec) -> None:
    expected = Network(model, model.initial_weights(SEED)).logits(images_for(model).astype(np.float64))
    assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max() + 1e-6, model.name

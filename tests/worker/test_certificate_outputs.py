"""What a worker writes for its certificate is read as untrusted input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import reference
from backends.description import Description
from bench.runner.judges.certificate import Judge
from bench.runner.judges.result import Result
from bench.worker import file_outputs
from bench.worker.certificate_outputs import Candidate, CertificateOutputs
from bench.worker.reference_outputs import CertifiedBatch, Expected, Trial
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES

MODEL = MODELS["article-pytorch"]
WEIGHTS = MODEL.initial_weights(0)
TRIAL = Trial(RECIPES["article-pytorch"])


@pytest.fixture(scope="module")
def expected() -> Expected:
    x = np.random.default_rng(0).normal(size=(16, *MODEL.input_shape)).astype(np.float32)
    return Expected.of(MODEL, WEIGHTS, x, np.arange(16) % 10, TRIAL)


@pytest.fixture(scope="module")
def outputs(expected: Expected) -> CertificateOutputs:
    backend = reference.Adapter("cpu", "fp64", reference.Adapter.MODES[0], 1, 0)
    return Candidate(backend, "fp64", MODEL, WEIGHTS, expected.batch, TRIAL).compute()


def judged(outputs: CertificateOutputs, expected: Expected) -> list[Result]:
    adapter = Description.of(reference.Adapter)
    return Judge(adapter, "fp64", "cpu", MODEL, WEIGHTS, expected, TRIAL).judge(outputs)


def test_what_was_written_is_what_is_judged(outputs: CertificateOutputs, expected: Expected, tmp_path: Path) -> None:
    outputs.write(tmp_path / "certificate.npz")
    expected.write(tmp_path / "expected.npz")
    read = judged(CertificateOutputs.read(tmp_path / "certificate.npz"), Expected.read(tmp_path / "expected.npz"))
    assert [check.passed for check in read] == [True] * len(read), read
    assert [check.name for check in read] == [
        "parameters", "logits", "gradients", "finite_differences", "sgd_losses", "adam_losses",
        "long_training",
    ]  # fmt: skip
    assert read == judged(outputs, expected)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"logits": np.zeros((3, 10))}, "logits"),
        ({"gradients": {}}, "gradients"),
        ({"exact_gradients": {}}, "finite_differences"),
        ({"sgd_losses": np.zeros(1)}, "sgd_losses"),
        ({"adam_losses": np.full(5, np.nan)}, "adam_losses"),
        ({"long": {}}, "long_training"),
    ],
)
def test_what_is_missing_fails(
    outputs: CertificateOutputs, expected: Expected, change: dict[str, Any], check: str
) -> None:
    failed = [result.name for result in judged(replace(outputs, **change), expected) if not result.passed]
    assert failed == [check]


def test_a_file_that_is_not_of_numbers_is_refused(outputs: CertificateOutputs, tmp_path: Path) -> None:
    path = tmp_path / "certificate.npz"
    single = tmp_path / "single.npy"
    np.save(single, np.arange(3))
    for content in (b"", b"PK\x03\x04 broken", single.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"certificate.npz cannot be read"):
            CertificateOutputs.read(path)
        with pytest.raises(ValueError, match=r"certificate.npz cannot be read"):
            file_outputs.read(path)
    replace(outputs, logits=np.array(["one"])).write(path)
    with pytest.raises(ValueError, match="not of numbers"):
        CertificateOutputs.read(path)
    with pytest.raises(ValueError, match="cannot be read"):
        CertificateOutputs.read(tmp_path / "none.npz")


def test_a_batch_keeps_its_masks(tmp_path: Path) -> None:
    batch = CertifiedBatch(np.ones((4, 2, 2, 1), np.float32), np.arange(4), {"dropout_1": np.eye(4)})
    batch.write(tmp_path / "batch.npz")
    read = CertifiedBatch.read(tmp_path / "batch.npz").first(2)
    assert (read.x.shape, read.y.tolist(), read.masks["dropout_1"].shape) == ((2, 2, 2, 1), [0, 1], (2, 4))


def test_outputs_of_a_file_come_back_in_order(tmp_path: Path) -> None:
    calls = {"got": {"a b": [np.arange(3), np.array(["x"])], "y": [np.zeros((0, 2))]}, "plain": {"a b": [np.ones(1)]}}
    file_outputs.write(tmp_path / "outputs.npz", calls)
    read = file_outputs.read(tmp_path / "outputs.npz")
    assert {call: list(outputs) for call, outputs in read.items()} == {"got": ["a b", "y"], "plain": ["a b"]}
    assert read["got"]["a b"][1].tolist() == ["x"]
    assert read["got"]["y"][0].shape == (0, 2)

"""Training on several processes: certified against the whole batch, timed in turns with one; wrong ones are caught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench_command import Bench
from fakes.registry import SCALING

pytestmark = pytest.mark.timeout(2400)
NORMALIZING = """
input_shape = [32, 32, 3]
[[layers]]
kind = "conv2d"
filters = 8
kernel = 5
stride = 2
[[layers]]
kind = "batch_norm"
[[layers]]
kind = "relu"
[[layers]]
kind = "max_pool2d"
size = 2
[[layers]]
kind = "flatten"
[[layers]]
kind = "dropout"
rate = 0.3
[[layers]]
kind = "dense"
units = 10
"""


def by_backend(records: list[dict[str, Any]], processes: int = 2) -> dict[str, dict[str, Any]]:
    return {each["job"]["backend"]: each for each in records if each["job"]["processes"] == processes}


@pytest.fixture
def wrong(bench: Bench) -> dict[str, dict[str, Any]]:
    bench.register(SCALING)
    return by_backend(
        bench.run("--task", "train", "--processes", "2", "--backend", ",".join(SCALING), code=1, timeout=800)
    )


def test_wrong_ones_are_caught(wrong: dict[str, dict[str, Any]]) -> None:
    for name, checks in (("summed", {"gradients", "sgd_losses"}), ("alone", {"gradients", "sgd_losses"})):
        failed = {check["name"] for check in wrong[name]["parity"]["checks"] if not check["passed"]}
        assert checks <= failed, wrong[name]["parity"]
        assert not wrong[name]["comparable"]
    lazy = {check["name"]: check for check in wrong["lazy"]["parity"]["checks"]}
    assert lazy["gradients"]["passed"], "the certificate does not see it"
    assert not lazy["timed_training"]["passed"]
    assert "holds other weights" in lazy["timed_training"]["note"]


@pytest.mark.long
def test_one_and_two_processes_in_turns(bench: Bench, tmp_path: Path) -> None:
    """Also a model with batch normalization and dropout, of which every process has its own."""
    (tmp_path / "model.toml").write_text(NORMALIZING)
    own = ("--model", str(tmp_path / "model.toml"), "--backend", "pytorch,jax")
    bench.run("--task", "train", "--processes", "1,2", *own, code=0, timeout=800)
    records = bench.records()
    two = by_backend(records)
    assert "DistributedDataParallel over gloo, 2 processes" in two["pytorch"]["settings"]["data_parallel"]
    for name in ("pytorch", "jax"):
        assert two[name]["comparable"], two[name]
        checks = {check["name"]: check for check in two[name]["parity"]["checks"]}
        assert {"gradients", "running_statistics", "dropout", "long_training", "timed_training"} <= checks.keys()
        found = {(f["name"], f["batch_size"]): f for f in two[name]["figures"] if f["boundary"] == "device"}
        assert found["weak_efficiency", 32]["value"] > 0
        assert found["strong_efficiency", 16]["value"] > 0
        assert found["strong_efficiency", 32]["n"] == 1
    assert "worst of 2 processes" in next(
        c["note"] for c in two["pytorch"]["parity"]["checks"] if c["name"] == "gradients"
    )
    assert {each["settings"].get("threads") for each in records if each["status"] == "ok"} == {1}
    shown = bench("report", "--format", "simple").stdout
    assert "Scaling of training (1 thread of each process at every size" in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--processes", "2"), "--task train"),
        (("--processes", "3", "--task", "train"), "one of 1, 2, 4, 8"),
        (("--processes", "two", "--task", "train"), "one of 1, 2, 4, 8"),
        (("--processes", "8", "--task", "train", "--batch-size", "12"), "multiple of 8"),
    ],
)
def test_what_cannot_be_is_refused(bench: Bench, options: tuple[str, ...], words: str) -> None:
    done = bench("run", *options)
    assert done.returncode == 2
    assert words in done.stderr

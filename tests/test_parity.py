"""The certificate: what passes, what never passes, and the wrong adapters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import EVERY_LAYER, WRONG, WRONG_LAYERS, Bench

from bench.parity import Result, accuracy, certify_runtime, relative_l2
from bench.tolerances import TOLERANCES


def test_relative_l2_is_scale_free() -> None:
    want = np.array([3.0, 4.0])
    assert relative_l2(want + np.array([0.0, 5e-3]), want) == pytest.approx(1e-3)
    assert relative_l2(1e6 * want, 1e6 * want) == 0


def test_other_shape_never_passes() -> None:
    assert not Result("logits", relative_l2(np.zeros((2, 1)), np.zeros(2)), 1e300).to_dict()["passed"]


@pytest.mark.parametrize("value", [math.nan, math.inf, 2e-6])
def test_above_tolerance_or_not_finite_fails(value: float) -> None:
    assert not Result("logits", value, 1e-6).to_dict()["passed"]


def test_tolerances_are_about_ten_times_what_was_measured() -> None:
    for precision, entries in TOLERANCES.items():
        for check, entry in entries.items():
            if entry.worst is not None:
                assert 4 <= entry.cpu / entry.worst <= 20, (precision, check)
            assert precision != "fp32" or entry.worst is not None, f"{check}: the usual precision is all measured"
            assert precision != "fp32" or entry.cpu <= 3e-3, f"{check}: a peer's tolerance of 100% certifies anything"


def test_runtime_must_agree_on_accuracy_and_logits() -> None:
    rng = np.random.default_rng(0)
    want = rng.standard_normal((500, 10)).astype(np.float32)
    labels = want.argmax(axis=1)
    passed = {result.name: result for result in certify_runtime(want, want, labels, "fp32", "cpu")}
    assert all(result.to_dict()["passed"] for result in passed.values())
    other = want.copy()
    other[300, labels[300]] = -100  # one image in 500 decided otherwise, beyond the first 256
    failed = {result.name: result.to_dict()["passed"] for result in certify_runtime(other, want, labels, "fp32", "cpu")}
    assert failed == {"logits_of_source": True, "accuracy_of_source": False}


def test_accuracy() -> None:
    assert accuracy(np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), np.array([1, 0, 0])) == pytest.approx(2 / 3)


EXPECTED_FAILURES = {
    "flatten-chw": {"logits", "gradients", "sgd_losses", "adam_losses"},
    "pool-off-by-one": {"logits", "gradients", "sgd_losses", "adam_losses"},
    "doubled-learning-rate": {"sgd_losses", "adam_losses"},
    "dampened-momentum": {"sgd_losses"},
    "missing-bias": {"logits", "gradients", "sgd_losses", "adam_losses"},
    "uncorrected-adam": {"adam_losses"},
}


def test_wrong_adapters_are_caught_and_a_right_one_is_not(bench: Bench) -> None:
    bench.register({**WRONG, "third-party": "evenbench_wrong:Right"})
    records = bench.run("--backend", ",".join([*WRONG, "third-party"]), "--task", "infer", "--batch-size", "8", code=1)
    assert len(records) == len(WRONG) + 1
    for record in records:
        name = record["job"]["backend"]
        failed = {check["name"] for check in record["parity"]["checks"] if not check["passed"]}
        assert failed - {"adam_worst_loss"} == EXPECTED_FAILURES.get(name, set()), name
        assert record["parity"]["comparable"] == (name == "third-party")
        assert record["status"] == "ok", "it runs; it just does something else"
        assert bool(record["ratios"]) == (name == "third-party"), "only comparable rows are compared"
    table = bench("report", "--format", "simple").stdout
    assert "not comparable: sgd_losses" in table


WRONG_ABOUT_LAYERS = {
    "unbiased-variance": {"gradients", "sgd_losses", "adam_losses"},
    "other-momentum": {"running_statistics"},
    "swapped-padding": {"logits", "gradients", "sgd_losses", "adam_losses", "running_statistics"},
    "forgets-masks": {"gradients", "sgd_losses", "adam_losses"},
    "no-decay": {"sgd_losses"},
    "no-smoothing": {"gradients", "sgd_losses", "adam_losses"},
    "heavy-ball": {"sgd_losses"},
}
RECIPE = """\
optimizer = "sgd"
learning_rate = 0.05
momentum = 0.9
nesterov = true
weight_decay = 0.0005
label_smoothing = 0.1
batch_size = 32
epochs = 1

[schedule]
kind = "cosine"
"""


def test_wrong_adapters_of_every_layer_are_caught(bench: Bench) -> None:
    (bench.folder / "every.toml").write_text(EVERY_LAYER)
    (bench.folder / "recipe.toml").write_text(RECIPE)
    bench.register({**WRONG_LAYERS, "third-party": "evenbench_wrong:Right"})
    options = ("--model", "every.toml", "--recipe", "recipe.toml", "--task", "infer", "--batch-size", "8")
    records = bench.run("--backend", ",".join([*WRONG_LAYERS, "third-party"]), *options, code=1)
    for record in records:
        name = record["job"]["backend"]
        checks = {check["name"]: check for check in record["parity"]["checks"]}
        failed = {name for name, check in checks.items() if not check["passed"]}
        assert failed >= WRONG_ABOUT_LAYERS.get(name, set()), (name, checks)
        assert record["parity"]["comparable"] == (name == "third-party"), name
        assert "keeps the population variance" in checks["running_statistics"]["note"]
        if name == "third-party":
            assert checks["sgd_losses"]["details"]["momentum_form"] == "rate-outside"

"""The certificate: what passes, what never passes, and the wrong adapters."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest
from bench_command import Bench
from every_layer import EVERY_LAYER
from fakes.registry import ADAPTERS, RIGHT, WRONG, WRONG_IN_THE_LONG_RUN, WRONG_LAYERS

from backends import reference
from backends.base import Unsupported
from backends.description import Description
from backends.model import ModelSpec, Weights
from bench.machine.denormals import FLUSHED, KEPT
from bench.runner.judges.certificate import (
    DROPOUT,
    Judge,
    _identify_form,
    accuracy,
    certify_runtime,
    dropout_error,
    losses_error,
    stated_denormals,
    stated_precision,
)
from bench.runner.judges.result import Result, relative_l2
from bench.runner.judges.tolerances import TOLERANCES, adapter_tolerances, tolerance
from bench.worker.certificate_outputs import Candidate
from bench.worker.protocol import Job
from bench.worker.reference_outputs import LONG_MODEL, CertifiedBatch, Expected, Trial
from bench.workloads.datasets import registry
from bench.workloads.models import MODELS
from bench.workloads.preprocessing import normalize
from bench.workloads.workload import RECIPES

JOB = Job(backend="b", mode="m", model="m", dataset="d", recipe="r", threads=1)
BACKEND = Description.of(reference.Adapter)
"""One that states no tolerances."""


def certify(backend: Any, model: ModelSpec, weights: Weights, expected: Expected, trial: Trial) -> list[Result]:
    """What a worker and the parent do, in this process."""
    got = Candidate(backend, "fp32", model, weights, expected.batch, trial).compute()
    judge = Judge(BACKEND, "fp32", "cpu", model, weights, expected, trial)
    return judge.judge(got)


def test_relative_l2_is_scale_free() -> None:
    want = np.array([3.0, 4.0])
    assert relative_l2(want + np.array([0.0, 5e-3]), want) == pytest.approx(1e-3)
    assert relative_l2(1e6 * want, 1e6 * want) == 0


def test_losses_are_held_against_what_the_steps_change() -> None:
    assert losses_error([2.30, 2.29, 2.28], [2.30, 2.29, 2.28]) == 0
    assert losses_error([2.30, 2.30, 2.30], [2.30, 2.29, 2.28]) == pytest.approx(1), "no step at all"
    assert losses_error([2.30, 2.28, 2.26], [2.30, 2.29, 2.28]) == pytest.approx(1), "steps of twice the length"
    assert losses_error([2.31, 2.29, 2.28], [2.30, 2.29, 2.28]) == pytest.approx(1 / math.sqrt(5))
    assert math.isnan(losses_error([math.nan, 2.0], [2.0, 1.0]))


def test_a_form_is_followed_where_rounding_does_not_hide_it() -> None:
    told, details = _identify_form("adam_form", {"corrected": 2e-3, "epsilon-hat": 1e-5}, "of it")
    assert details == {"adam_form": "epsilon-hat", "off_other_form": 2e-3, "of": "of it"}
    assert told == "in the epsilon-hat form, off the corrected form by 2.0e-03"
    told, details = _identify_form("adam_form", {"corrected": 3e-5, "epsilon-hat": 2e-5}, "of it")
    assert details == {}
    assert told == "in the epsilon-hat or the corrected form, which rounding hides (3.0e-05)"
    assert _identify_form("adam_form", {"corrected": math.inf, "epsilon-hat": 1e-5}, "of it")[1] == {}, (
        "it cannot be stored"
    )
    assert _identify_form("adam_form", {"corrected": math.nan, "epsilon-hat": math.nan}, "of it")[1] == {}


def test_denormal_numbers_are_proven_to_be_kept_or_flushed() -> None:
    """The reference in this process keeps them: it computes in float64, and nothing was set."""
    batch = CertifiedBatch(np.zeros((1, *LONG_MODEL.input_shape), np.float32), np.zeros(1, np.int64), {})
    trial = Trial(RECIPES["article-keras"])
    backend = reference.Adapter("cpu", "fp64", "numpy", 1, 0)
    candidate = Candidate(backend, "fp64", LONG_MODEL, LONG_MODEL.initial_weights(0), batch, trial)
    got = candidate.compute()
    assert 0.1 < got.denormals.max() < 100, "they come to numbers that no precision rounds to zero"
    (kept,) = stated_denormals(got, {"denormals": KEPT})
    assert kept.passed, "what it says is so"
    (flushed,) = stated_denormals(got, {"denormals": FLUSHED})
    assert not flushed.passed, "what it says is not so"
    assert "kept: proven" in flushed.note
    zeros = replace(got, denormals=np.zeros_like(got.denormals))
    assert [each.passed for each in stated_denormals(zeros, {"denormals": FLUSHED})] == [True]
    assert stated_denormals(got, {}) == [], "on a GPU nothing is said"


def test_other_shape_never_passes() -> None:
    assert not Result("logits", relative_l2(np.zeros((2, 1)), np.zeros(2)), 1e300).passed


@pytest.mark.parametrize("value", [math.nan, math.inf, 2e-6])
def test_above_tolerance_or_not_finite_fails(value: float) -> None:
    assert not Result("logits", value, 1e-6).passed


def test_tolerances_are_some_times_what_was_measured() -> None:
    for precision, entries in TOLERANCES.items():
        for check, entry in entries.items():
            if entry.worst is not None:
                assert (4 if precision in ("fp32", "fp64") else 2) <= entry.cpu / entry.worst <= 20, (precision, check)
            assert precision not in ("fp32", "bf16") or entry.worst is not None, f"{check}: what can be is measured"
            assert precision != "fp32" or entry.cpu <= 3e-3, f"{check}: a peer's tolerance of 100% certifies anything"
            assert entry.cpu < 0.9, f"{check}: nor does one that passes steps of a tenth of the length"


FP8 = {"logits_of_source": 0.2, "accuracy_of_source": 0.05}


def test_a_precision_of_an_adapters_own_needs_tolerances_of_its_own() -> None:
    want = np.eye(10, dtype=np.float32)[[*range(10)] * 20]
    job, labels = replace(JOB, precision="fp8"), want.argmax(axis=1)
    with pytest.raises(Unsupported, match="no tolerance for logits_of_source in precision fp8: the adapter must state"):
        certify_runtime(BACKEND, job, want, want, labels)
    stating = replace(BACKEND, TOLERANCES={"fp8": FP8})
    results = certify_runtime(stating, job, 1.1 * want, want, labels)
    assert [(result.name, result.tolerance) for result in results] == [*FP8.items()]
    assert all(result.passed and "tolerance stated by the adapter" in result.note for result in results)
    assert adapter_tolerances(stating, "fp32") == {}, "of a precision in the table nothing is taken from the adapter"


def test_runtime_must_agree_on_accuracy_and_logits() -> None:
    rng = np.random.default_rng(0)
    want = rng.standard_normal((500, 10)).astype(np.float32)
    labels = want.argmax(axis=1)
    passed = {result.name: result for result in certify_runtime(BACKEND, JOB, want, want, labels)}
    assert all(result.passed for result in passed.values())
    other = want.copy()
    other[300, labels[300]] = -100  # one image in 500 decided otherwise, beyond the first 256
    failed = {result.name: result.passed for result in certify_runtime(BACKEND, JOB, other, want, labels)}
    assert failed == {"logits_of_source": True, "accuracy_of_source": False}


def test_losses_under_drawn_masks_are_compared_in_mean_and_spread() -> None:
    rng = np.random.default_rng(0)
    want = rng.normal(2.3, 0.05, 64)
    honest = [dropout_error(rng.normal(2.3, 0.05, 64), want, 0.0)[0] for _ in range(200)]
    assert max(honest) < 0.6 * DROPOUT
    assert dropout_error(rng.normal(2.4, 0.05, 64), want, 0.0)[0] > DROPOUT
    assert dropout_error(rng.normal(2.4, 0.05, 64), want, 0.05)[0] < DROPOUT, "rounding may move the mean"
    assert dropout_error(rng.normal(2.3, 0.3, 64), want, 0.0)[0] > DROPOUT
    nothing_dropped = np.full(64, 2.3)
    assert dropout_error(nothing_dropped * (1 + 1e-7), nothing_dropped, 0.0)[0] < 1, "a rate of 0"
    assert dropout_error(want, nothing_dropped, 0.0)[0] > DROPOUT
    value, note = dropout_error(np.tile(want[:4], 16), want, 0.0)
    assert (value, note) == (float("inf"), "masks repeat: 4 different losses")


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
        expected = EXPECTED_FAILURES.get(name, set())
        assert failed == expected | ({"timed_outputs"} if "logits" in expected else set()), name
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
    "drops-nothing": {"dropout"},
    "first-mask-for-ever": {"dropout"},
    "drops-more": {"dropout"},
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
        if name == "third-party":
            assert "variance in the population form, off the sample form by" in checks["running_statistics"]["note"]
        if name == "third-party":
            assert checks["sgd_losses"]["details"]["momentum_form"] == "rate-outside"


def test_a_model_that_drops_nothing_when_timed_is_seen(bench: Bench) -> None:
    (bench.folder / "every.toml").write_text(EVERY_LAYER)
    (bench.folder / "recipe.toml").write_text(RECIPE)
    bench.register({"drops-when-certified": "evenbench_wrong:DropsWhenCertified", **RIGHT})
    options = ("--model", "every.toml", "--recipe", "recipe.toml", "--task", "train", "--batch-size", "8")
    records = bench.run("--backend", ",".join(["drops-when-certified", *RIGHT]), *options, code=1)
    rows = {record["job"]["backend"]: record for record in records}
    failed = [check for check in rows["drops-when-certified"]["parity"]["checks"] if not check["passed"]]
    assert [check["name"] for check in failed] == ["timed_training"]
    assert "worst: dropout" in failed[0]["note"]
    assert rows["third-party"]["comparable"]


@pytest.mark.parametrize("name", [*WRONG_IN_THE_LONG_RUN, "third-party"])
def test_what_five_steps_hardly_see_is_seen_in_two_hundred(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With the recipe's own optimizer, Adam. The steps before pass, or the long trial would not be run."""
    monkeypatch.syspath_prepend(ADAPTERS)
    model, recipe, images = MODELS["article-pytorch"], RECIPES["article-keras"], registry.load("digits")
    x, y = normalize(images.train_x[:64], recipe.mean, recipe.std), images.train_y[:64]
    weights, trial = model.initial_weights(0), Trial(recipe)
    file = tmp_path_factory.getbasetemp() / "expected-of-the-long-run.npz"
    if not file.exists():
        Expected.of(model, weights, x, y, trial).write(file)
    expected = Expected.read(file)
    target = (WRONG_IN_THE_LONG_RUN | RIGHT)[name]
    backend = EntryPoint(name, target, "evenbench.backends").load()("cpu", "fp32", "third-party", 1, 0)
    results = certify(backend, model, weights, expected, trial)
    failed = [result.name for result in results if not result.passed]
    assert failed == ([] if name == "third-party" else ["long_training"]), results[-1].note
    assert results[-1].name == "long_training"


@pytest.fixture(scope="module")
def mistakes() -> dict[str, dict[str, float]]:
    """By wrong adapter, the value of every check on real images."""
    model, recipe, images = MODELS["article-pytorch"], RECIPES["article-pytorch"], registry.load("digits")
    x, y = normalize(images.train_x[:128], recipe.mean, recipe.std), images.train_y[:128]
    weights, trial = model.initial_weights(0), Trial(recipe)
    expected = Expected.of(model, weights, x, y, trial)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ADAPTERS)
        for name, target in WRONG.items():
            backend = EntryPoint(name, target, "evenbench.backends").load()("cpu", "fp32", "third-party", 1, 0)
            results = certify(backend, model, weights, expected, trial)
            found[name] = {result.name: result.value for result in results}
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", EXPECTED_FAILURES)
def test_every_precisions_tolerances_catch_them(
    mistakes: dict[str, dict[str, float]], name: str, precision: str
) -> None:
    checks = {check: value for check, value in mistakes[name].items() if check in TOLERANCES[precision]}
    failed = {check for check, value in checks.items() if not value <= tolerance(precision, "cpu", check)}
    too_rough = {"gradients"} if (name, precision) == ("missing-bias", "bf16") else set()
    assert failed == EXPECTED_FAILURES[name] - too_rough, checks


@pytest.mark.parametrize(
    ("precision", "settings", "passed"),
    [
        ("fp32", {}, []),
        ("int8", {"computes_in": "float32"}, []),
        ("fp32", {"computes_in": "float32", "computes_in_by": "HINT"}, [True]),
        ("fp32", {"computes_in": "bfloat16", "computes_in_by": "HINT"}, [False]),
        ("bf16", {"computes_in": "float32"}, [False]),
    ],
)
def test_what_a_framework_says_it_computes_in(precision: str, settings: dict[str, str], passed: list[bool]) -> None:
    job = Job(backend="any", precision=precision, mode="", device="cpu", model="", dataset="", recipe="", threads=1)
    results = stated_precision(job, settings)
    assert [result.passed for result in results] == passed
    assert all(settings["computes_in"] in result.note for result in results)

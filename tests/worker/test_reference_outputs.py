"""What a certificate tries: steps in which every setting of a recipe shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from backends.model import Conv2D, Dense, Flatten, ModelSpec, ReLU
from backends.optimizers import forms
from backends.reference import Network
from bench.runner.judges.certificate import losses_error
from bench.runner.judges.tolerances import tolerance
from bench.worker.reference_outputs import LEAST_DECAY, PEAKS, STEPS, Trial
from bench.workloads.recipe import Recipe

SPEC = ModelSpec("small", (6, 6, 2), (Conv2D(3, 3), ReLU(), Flatten(), Dense(4)))


def recipe(optimizer: str, **settings: object) -> Recipe:
    plain = {"learning_rate": 0.1, "batch_size": 1, "epochs": 1, **settings}
    return Recipe("r", optimizer, **plain)  # type: ignore[arg-type]


def losses(trial: Trial, optimizer: str, **changes: object) -> list[float]:
    """Of the trial's steps by the reference, with changes of the optimizer."""
    training = trial.sgd if optimizer == "sgd" else trial.adam
    training = replace(training, optimizer=replace(training.optimizer, **changes))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, *SPEC.input_shape)), rng.integers(0, 4, 16)
    network, state, form = Network(SPEC, SPEC.initial_weights(0), training), {}, forms(training.optimizer)[0]
    rates = trial.rates(trial.sgd if optimizer == "sgd" else trial.adam)
    return [network.train_step(x, y, rate, state, form) for rate in rates]


@pytest.mark.parametrize(
    ("optimizer", "settings", "wrong"),
    [
        ("sgd", {"momentum": 0.9, "weight_decay": 1e-4}, {"weight_decay": 0.0}),
        ("adam", {"weight_decay": 1e-4}, {"weight_decay": 0.0}),
        ("adamw", {"weight_decay": 1e-4}, {"weight_decay": 0.0}),
        ("adamw", {"weight_decay": 1e-4}, {"name": "adam"}),
        ("sgd", {"momentum": 0.9, "nesterov": True}, {"nesterov": False}),
        ("sgd", {"momentum": 0.9}, {"momentum": 0.8}),
    ],
)
def test_a_setting_that_is_left_out_shows(
    optimizer: str, settings: dict[str, object], wrong: dict[str, object]
) -> None:
    trial = Trial(recipe(optimizer, **settings))
    apart = losses_error(losses(trial, optimizer, **wrong), losses(trial, optimizer))
    check = "sgd_losses" if optimizer == "sgd" else "adam_losses"
    assert apart > 10 * max(tolerance("fp32", "cpu", check, normalizes) for normalizes in (False, True))


def test_a_decay_is_raised_and_none_stays_none() -> None:
    assert Trial(recipe("adamw", weight_decay=0.01)).adam.optimizer.weight_decay == LEAST_DECAY
    assert Trial(recipe("adamw")).adam.optimizer.weight_decay == 0
    assert Trial(recipe("adamw", weight_decay=0.01)).sgd.optimizer.weight_decay == 0, "the usual SGD has none"


def test_the_schedule_is_drawn_together_below_the_peak() -> None:
    from bench.workloads.recipe import Schedule

    trial = Trial(recipe("sgd", schedule=Schedule("cosine")))
    rates = trial.rates(trial.sgd)
    assert len(rates) == STEPS
    assert (rates[0], trial.rates(trial.adam)[0]) == (PEAKS["sgd"], PEAKS["adam"])
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == STEPS
    plain = Trial(recipe("sgd", learning_rate=1e-5))
    assert plain.rates(plain.sgd) == [PEAKS["sgd"]] * STEPS, "whatever the recipe's own rate"

"""Recipes: what is built in, schedules by hand, changes, and how they come to a worker."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest

from bench.workloads.recipe import Recipe, Schedule, parse_changes, split_name
from bench.workloads.workload import RECIPES


def test_the_articles_recipes_are_as_written() -> None:
    keras, pytorch = RECIPES["article-keras"], RECIPES["article-pytorch"]
    assert (keras.optimizer, keras.batch_size, keras.epochs, keras.validation) == ("adam", 32, 10, 0.1)
    told = (pytorch.optimizer, pytorch.learning_rate, pytorch.momentum, pytorch.batch_size, pytorch.epochs)
    assert told == ("sgd", 0.001, 0.9, 4, 2)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_plain_form_and_back(recipe: Recipe) -> None:
    import json

    assert Recipe.from_dict(json.loads(json.dumps(asdict(recipe)))) == recipe


def test_schedules_by_hand() -> None:
    assert [Schedule().factor(step, 10) for step in (0, 9)] == [1, 1]
    step = Schedule("step", milestones=(0.5, 0.75), gamma=0.1)
    assert [step.factor(i, 8) for i in range(8)] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = Schedule("cosine", final=0.1)
    assert cosine.factor(0, 4) == 1
    assert cosine.factor(2, 4) == pytest.approx(0.55)
    assert cosine.factor(1, 4) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    warm = Schedule("cosine", warm_up=0.5)
    assert [warm.factor(i, 8) for i in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert warm.factor(4, 8) == 1


def test_one_cycle_is_pytorchs() -> None:
    """torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=11), as its manual defines it: up to step
    0.3 * 11 - 1, down to the last; ours puts peak and end at shares of the training, so only ends and peak agree."""
    cycle = Schedule("one-cycle")
    factors = [cycle.factor(i, 1000) for i in range(1000)]
    assert factors[0] == pytest.approx(1 / 25)
    assert max(factors) == factors[300] == pytest.approx(1)
    assert factors[-1] < 1e-4
    assert factors[:301] == sorted(factors[:301])
    assert factors[300:] == sorted(factors[300:], reverse=True)


def test_steps_count_the_last_small_batch() -> None:
    assert RECIPES["article-keras"].steps(100) == 10 * 4


def test_changes_are_in_the_name() -> None:
    changed = RECIPES["article-keras"].changed({"epochs": 2, "schedule.kind": "cosine"})
    assert changed.name == "article-keras[epochs=2,schedule.kind=cosine]"
    assert (changed.epochs, changed.schedule.kind, changed.learning_rate) == (2, "cosine", 0.001)
    assert split_name("article-keras") == ("article-keras", [])
    entries = ["epochs=2", "nesterov=false", "schedule.kind=step", "schedule.milestones=[0.5,0.8]"]
    again = RECIPES["one-cycle"].changed(parse_changes(entries))
    assert split_name(again.name) == ("one-cycle", entries)
    assert again.schedule.milestones == (0.5, 0.8)
    with pytest.raises(KeyError, match="epoch"):
        RECIPES["article-keras"].changed({"epoch": 2})
    with pytest.raises(ValueError, match="'batch_size' must lie between 1"):
        RECIPES["article-keras"].changed({"batch_size": 0})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"validation": 1.0}, "validation"),
        ({"nesterov": True}, "needs a 'momentum'"),
        ({"schedule": Schedule("cosine"), "std": 0.0}, "std"),
    ],
)
def test_values_out_of_range(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Recipe("r", "adam", **{"learning_rate": 0.1, "batch_size": 1, "epochs": 1, **wrong})  # type: ignore[arg-type]


def test_a_step_schedule_needs_milestones() -> None:
    with pytest.raises(ValueError, match="milestones"):
        Schedule("step")

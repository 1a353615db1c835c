"""Tuning: the trials that are laid out, the best of each row, resumption; and one search with real frameworks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench_command import Bench

from bench.analysis.sweep import Result, Sweep, Trial, search, trials
from bench.analysis.sweep import result as trial_result
from bench.errors import UsageError
from bench.records.record import Record


def sweep_of(*trials: Trial) -> Sweep:
    return Sweep(name="s", workload="m/d/r", seeds=2, trials=list(trials))


def result(*validation: float) -> Result:
    return Result(validation=list(validation), test=[0.5] * len(validation), seconds=[1.0] * len(validation))


GRID = ["learning_rate=0.001,0.01", "batch_size=32,64", "schedule.kind=constant,cosine"]


def test_a_grid_is_every_combination() -> None:
    found = trials(GRID, None, 0)
    assert len({trial.label for trial in found}) == len(found) == 8
    assert found[0].label == "batch_size=32, learning_rate=0.001, schedule.kind=constant"
    assert {(type(t.changes["batch_size"]), type(t.changes["learning_rate"])) for t in found} == {(int, float)}


def test_drawn_trials_are_the_same_for_the_same_seed_and_within_their_ranges() -> None:
    entries = ["learning_rate=1e-4..1e-1", "batch_size=8..256", "momentum=0.8,0.9"]
    found = trials(entries, 200, 3)
    assert found == trials(entries, 200, 3)
    assert found != trials(entries, 200, 4)
    rates = [float(trial.changes["learning_rate"]) for trial in found]
    assert 1e-4 <= min(rates) < 3e-4
    assert 3e-2 < max(rates) <= 1e-1
    assert 70 < sum(rate < 3.16e-3 for rate in rates) < 130, "uniform in the logarithm"
    assert all(type(trial.changes["batch_size"]) is int for trial in found)
    assert {trial.changes["momentum"] for trial in found} == {0.8, 0.9}


def test_no_combination_of_lists_is_drawn_twice() -> None:
    assert len({trial.label for trial in trials(GRID, 5, 1)}) == 5
    assert len({trial.label for trial in trials(GRID, 100, 1)}) == 8, "there are no more"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("learning_rate", "not FIELD="),
        ("learning_rate=", "not FIELD="),
        ("a=0..1", "above 0"),
        ("a=3..2", "to a larger"),
    ],
)
def test_what_is_no_space(entry: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trials([entry], 3, 0)


def test_a_range_needs_a_number_of_trials() -> None:
    with pytest.raises(UsageError, match="a range needs --trials N"):
        trials(["learning_rate=0.1..1"], None, 0)


def test_the_best_is_by_validation_and_per_row() -> None:
    a = Trial(changes={"epochs": 1}, run="a", results={"x": result(0.5, 0.7), "y": result(0.9, 0.9)})
    b = Trial(changes={"epochs": 2}, run="b", results={"x": result(0.7, 0.6), "y": result(0.1, 0.1)})
    assert {row: trial.run for row, trial in sweep_of(a, b).best().items()} == {"x": "b", "y": "a"}


def test_nothing_is_chosen_by_the_test_split() -> None:
    record = trained_record("test")
    assert trial_result(record) is None
    kept = trial_result(trained_record("validation"))
    assert kept is not None
    assert kept.validation == [0.4]
    assert trial_result(trained_record(None)) is None, "no epochs, no curve"


def trained_record(split: str | None) -> Record:
    """A record of a training whose last evaluation was of this split."""
    document = json.loads((Path(__file__).parents[1] / "data" / "schema3.json").read_text())
    plain = next(r for r in document["records"] if r["job"]["backend"] == "pytorch")
    for training in plain["outcome"]["trainings"]:
        training["curve"] = [] if split is None else [training["curve"][-1] | {"split": split, "accuracy": 0.4}]
    plain["outcome"]["trainings"] = plain["outcome"]["trainings"][:1]
    return Record.model_validate(plain)


def test_a_search_goes_on_where_it_was() -> None:
    tried, kept = [], []

    def attempt(number: int, trial: Trial) -> Trial:
        tried.append(trial.label)
        if len(tried) == 2:
            raise KeyboardInterrupt
        return trial.model_copy(update={"run": f"run of {trial.label}"})

    begun = sweep_of(*trials(["epochs=1,2,3"], None, 0))
    with pytest.raises(KeyboardInterrupt):
        search(begun, attempt, kept.append)
    ended = search(Sweep.model_validate_json(kept[-1].model_dump_json()), attempt, kept.append)
    assert tried == ["epochs=1", "epochs=2", "epochs=2", "epochs=3"]
    assert all(trial.run for trial in ended.trials)


@pytest.mark.long
def test_a_framework_over_two_rates(bench: Bench) -> None:
    options = ("--model", "article-pytorch", "--set", "epochs=1", "--over", "learning_rate=1e-6,0.003", "--seeds", "1")
    done = bench("sweep", "--backend", "pytorch", *options, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    best = done.stdout.split("All trials")[0]
    assert "Best of 2 trials by validation accuracy" in best
    (line,) = [line for line in best.splitlines() if line.startswith("pytorch")]
    assert "learning_rate=0.003" in line
    again = bench("sweep", "--backend", "pytorch", *options, timeout=60)
    assert again.stdout == done.stdout, "nothing is trained twice"
    runs = bench("history").stdout
    assert runs.count("article-pytorch/digits/article-keras[") >= 2
    document = json.loads(bench("export", "--format", "json").stdout)
    assert document["records"][0]["job"]["recipe"].startswith("article-keras[epochs=1")


def test_a_recipe_without_validation_chooses_nothing(bench: Bench) -> None:
    done = bench("sweep", "--recipe", "article-pytorch", "--over", "momentum=0.5,0.9")
    assert done.returncode == 2
    assert "add --set validation=0.1" in done.stderr
    done = bench("sweep", "--over", "validation=0,0.1")
    assert done.returncode == 2
    assert "holds out none" in done.stderr, "one of the trials would be chosen by the test split"
    done = bench("sweep", "--over", "learning_rat=1")
    assert done.returncode == 2
    assert "unknown recipe field 'learning_rat'; did you mean 'learning_rate'?" in done.stderr

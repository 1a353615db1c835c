"""Tuning: the same trials, seeds and data for every backend; what they came to, and the best of each.

A trial is a stored run without rounds: trained over all seeds, evaluated, not timed. Trials are chosen by the accuracy
on the images that the recipe holds out; the test split has no say in it.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from bench.errors import UsageError
from bench.records.record import Record

Value = bool | int | float | str


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Result(_Plain):
    """What a row came to in a trial, one value per seed."""

    validation: list[float]
    """Accuracy on the held-out images after the last epoch."""
    test: list[float]
    seconds: list[float]
    """Of training."""


class Trial(_Plain):
    """Changes of the recipe, and what came of them."""

    changes: dict[str, Value]
    run: str | None = None
    """The stored run; null: not yet done."""
    results: dict[str, Result] = {}
    """By row."""
    failed: dict[str, str] = {}
    """By row: why it came to nothing."""

    @property
    def told(self) -> str:
        """``batch_size=32, learning_rate=0.01``."""
        return ", ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in sorted(self.changes.items())
        )


class Sweep(_Plain):
    """All trials of one search."""

    name: str
    workload: str
    seeds: int
    trials: list[Trial]

    def best(self) -> dict[str, Trial]:
        """By row: the trial with the highest mean accuracy on the held-out images."""
        found: dict[str, Trial] = {}
        for trial in self.trials:
            for row, result in trial.results.items():
                if row not in found or _mean(result.validation) > _mean(found[row].results[row].validation):
                    found[row] = trial
        return found


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def search(sweep: Sweep, attempt: Callable[[int, Trial], Trial], keep: Callable[[Sweep], None]) -> Sweep:
    """Do the trials that are not done yet, one after the other; ``attempt`` gets each with its number from 0, and what
    it comes to is kept when it ends."""
    for number, trial in enumerate(sweep.trials):
        if trial.run is None:
            trials = list(sweep.trials)
            trials[number] = attempt(number, trial)
            sweep = sweep.model_copy(update={"trials": trials})
            keep(sweep)
    return sweep


def result(record: Record) -> Result | None:
    """What a record says of its trial; None if it was not trained, or no held-out images were evaluated."""
    accuracy, fit = record.figure("accuracy"), record.figure("fit", "train", "end-to-end")
    if record.outcome is None or accuracy is None or fit is None or not record.comparable:
        return None
    ends = [training.curve[-1] for training in record.outcome.trainings if training.curve]
    if not ends or any(end.split != "validation" for end in ends):
        return None
    return Result(
        validation=[end.accuracy for end in ends],
        test=[sample.value for sample in accuracy.samples],
        seconds=[sample.value for sample in fit.samples],
    )


def grid(space: Mapping[str, Sequence[Value]]) -> list[Trial]:
    """Every combination.

    Raises:
        UsageError: a range among the values.
    """
    for name, values in space.items():
        for value in values:
            if isinstance(value, str) and _range(value):
                raise UsageError(f"--over {name}={value}: a range needs --trials N; a grid needs a list")
    return [Trial(changes=dict(zip(space, values, strict=True))) for values in itertools.product(*space.values())]


def drawn(space: Mapping[str, Sequence[Value]], trials: int, seed: int) -> list[Trial]:
    """Random combinations (Bergstra & Bengio 2012): of a list any value, of a range ``LOW..HIGH`` a value uniform in
    its logarithm, a whole number where both ends are."""
    rng = random.Random(seed)
    return [Trial(changes={name: _draw(values, rng) for name, values in space.items()}) for _ in range(trials)]


def _draw(values: Sequence[Value], rng: random.Random) -> Value:
    value = rng.choice(values)
    ends = _range(value) if isinstance(value, str) else None
    if ends is None:
        return value
    low, high = (float(end) for end in ends)
    found = math.exp(rng.uniform(math.log(low), math.log(high)))
    return round(found) if all(end.isdigit() for end in ends) else float(f"{found:.4g}")


def _range(text: str) -> tuple[str, str] | None:
    number = r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    found = re.fullmatch(rf"{number}\.\.{number}", text)
    if found is None:
        return None
    if not 0 < float(found[1]) < float(found[2]):
        raise UsageError(f"--over ...={text}: a range goes from a number above 0 to a larger one")
    return found[1], found[2]


def space(entries: Sequence[str], read: Callable[[list[str]], dict[str, Any]]) -> dict[str, list[Value]]:
    """``FIELD=A,B,C`` or ``FIELD=LOW..HIGH`` entries by field; ``read`` reads single ``FIELD=VALUE`` entries.

    Raises:
        UsageError: another form, or nothing to search.
    """
    found: dict[str, list[Value]] = {}
    for entry in entries:
        name, _, text = entry.partition("=")
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if not name or not parts:
            raise UsageError(f"--over {entry}: not FIELD=A,B,C or FIELD=LOW..HIGH, such as learning_rate=0.001,0.01")
        found[name] = [part if _range(part) else read([f"{name}={part}"])[name] for part in parts]
    if not found:
        raise UsageError("nothing to search: --over FIELD=A,B,C, such as learning_rate=0.001,0.01")
    return found

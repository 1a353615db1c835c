"""Tuning: the same trials, seeds and data for every backend; what they came to, and the best of each.

A trial is a stored run without rounds: trained over all seeds, evaluated, not timed. Trials are chosen by the accuracy
on the images that the recipe holds out; the test split has no say in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from bench import quantities
from bench.errors import UsageError
from bench.records.record import Record, Run
from bench.workloads.recipe import parse_changes

Value = bool | int | float | str


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Result(_Plain):
    """The result of a row in a trial, one value per seed."""

    validation: list[float]
    """Accuracy on the held-out images after the last epoch."""
    test: list[float]
    seconds: list[float]
    """Of training."""


class Trial(_Plain):
    """Changes of the recipe, and what came of them."""

    changes: dict[str, Value]
    begun: str | None = None
    """The name of its run, from before it begins."""
    run: str | None = None
    """The stored run; null: not yet done."""
    results: dict[str, Result] = {}
    """By id of the row."""
    failed: dict[str, str] = {}
    """By id of the row: why it has no result."""

    @property
    def label(self) -> str:
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
    rows: dict[str, str] = {}
    """Names of the rows by id."""
    changed: list[str] = []
    """What was no longer the same when it went on, where the user told it to all the same."""

    def name_of(self, row: str) -> str:
        """A row's name, for people; older sweeps know rows by it."""
        return self.rows.get(row, row)

    def best(self) -> dict[str, Trial]:
        """By id of the row: the trial with the highest mean accuracy on the held-out images."""
        best: dict[str, Trial] = {}
        for trial in self.trials:
            for row, result in trial.results.items():
                if row not in best or _mean(result.validation) > _mean(best[row].results[row].validation):
                    best[row] = trial
        return best


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def search(
    sweep: Sweep,
    attempt: Callable[[int, Trial], Trial],
    keep: Callable[[Sweep], None],
    name: Callable[[], str] = lambda: "",
) -> Sweep:
    """Do the trials that are not done yet, one after the other. ``attempt`` gets each trial and its number from 0; the
    sweep is passed to ``keep`` when a trial begins, with a ``name`` for its run, and when it ends."""
    for number, trial in enumerate(sweep.trials):
        if trial.run is None:
            if trial.begun is None:
                trial = trial.model_copy(update={"begun": name()})
                sweep = _with_trial(sweep, number, trial)
                keep(sweep)
            sweep = _with_trial(sweep, number, attempt(number, trial))
            keep(sweep)
    return sweep


def search_at_once(
    sweep: Sweep,
    attempt: Callable[[Mapping[int, Trial], Callable[[int, Trial], None]], None],
    keep: Callable[[Sweep], None],
    name: Callable[[], str],
) -> Sweep:
    """Do the trials that are not done yet, in whatever order they end. ``attempt`` gets them by number, and is to pass
    on each that has ended."""
    for number, trial in enumerate(sweep.trials):
        if trial.run is None and trial.begun is None:
            sweep = _with_trial(sweep, number, trial.model_copy(update={"begun": name()}))
    keep(sweep)

    def done(number: int, trial: Trial) -> None:
        nonlocal sweep
        sweep = _with_trial(sweep, number, trial)
        keep(sweep)

    missing = {number: trial for number, trial in enumerate(sweep.trials) if trial.run is None}
    if missing:
        attempt(missing, done)
    return sweep


def ended(trial: Trial, run: Run) -> Trial:
    """The trial with what its run came to."""
    results, failed = {}, {}
    for record in run.records:
        outcome = result(record)
        if outcome is None:
            failed[record.id] = f"{record.status}: {record.error or 'not comparable'}"
        else:
            results[record.id] = outcome
    return trial.model_copy(update={"run": run.name, "results": results, "failed": failed})


def _with_trial(sweep: Sweep, number: int, trial: Trial) -> Sweep:
    trials = list(sweep.trials)
    trials[number] = trial
    return sweep.model_copy(update={"trials": trials})


def result(record: Record) -> Result | None:
    """The result of a trial, from its record; None if the row was not trained, or no held-out images were evaluated."""
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


@dataclass(frozen=True)
class LogUniform:
    """A range: values uniform in their logarithm (Bergstra & Bengio 2012), whole numbers where both ends are."""

    low: str
    high: str

    def rvs(self, random_state: Any) -> Value:
        """One value; the name and argument are those that scikit-learn's ``ParameterSampler`` asks for."""
        from scipy.stats import loguniform

        value = float(loguniform.rvs(float(self.low), float(self.high), random_state=random_state))
        return round(value) if self.low.isdigit() and self.high.isdigit() else float(f"{value:.4g}")


Space = dict[str, "list[Value] | LogUniform"]


def trials(entries: Sequence[str], count: int | None, seed: int) -> list[Trial]:
    """Every combination of ``FIELD=A,B,C`` entries; or ``count`` of them at random, where ``FIELD=LOW..HIGH`` is
    possible too.

    Raises:
        UsageError: another form, nothing to search, or a range and no count.
    """
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    space = _space(entries)
    ranges = [name for name, values in space.items() if isinstance(values, LogUniform)]
    if count is None:
        if ranges:
            raise UsageError(f"--over {ranges[0]}: a range needs --trials N; a grid needs a list")
        return [Trial(changes=changes) for changes in ParameterGrid(space)]
    if not ranges:
        count = min(count, len(ParameterGrid(space)))
    return [Trial(changes=changes) for changes in ParameterSampler(space, count, random_state=seed)]


def _space(entries: Sequence[str]) -> Space:
    space: Space = {}
    for entry in entries:
        name, _, text = entry.partition("=")
        parts = quantities.split_commas(text)
        if not name or not parts:
            raise UsageError(f"--over {entry}: not FIELD=A,B,C or FIELD=LOW..HIGH, such as learning_rate=0.001,0.01")
        whole_range = _range(text.strip())
        space[name] = whole_range or [parse_changes([f"{name}={part}"])[name] for part in parts]
    if not space:
        raise UsageError("nothing to search: --over FIELD=A,B,C, such as learning_rate=0.001,0.01")
    return space


def _range(text: str) -> LogUniform | None:
    number = r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    ends = re.fullmatch(rf"{number}\.\.{number}", text)
    if ends is None:
        return None
    if not 0 < float(ends[1]) < float(ends[2]):
        raise UsageError(f"--over ...={text}: a range goes from a number above 0 to a larger one")
    return LogUniform(ends[1], ends[2])

"""The output of ``bench sweep``: the best trial of every row, then all trials."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis import intervals
from bench.analysis.sweep import Sweep, Trial
from reports.table import Document, Table


def document(sweep: Sweep) -> Document:
    """Two tables, and the trials that failed."""
    seeds = f"n = {sweep.seeds} seeds, ± 95%" if sweep.seeds > 1 else "n = 1 seed"
    headers = ["row", "settings", "validation accuracy", "test accuracy", "training [s]", "run"]
    best = [[sweep.name_of(row), *_cells(trial, row)] for row, trial in sorted(sweep.best().items())]
    every = [[sweep.name_of(row), *_cells(trial, row)] for trial in sweep.trials for row in trial.results]
    failed = [
        f"{sweep.name_of(row)}, {trial.label}: {why}" for trial in sweep.trials for row, why in trial.failed.items()
    ]
    failed += [f"it went on though {change}: results from before and after are mixed" for change in sweep.changed]
    title = f"Best of {len(sweep.trials)} trials by validation accuracy ({sweep.workload}; {seeds})"
    return Document([Table(title, headers, best), Table("All trials", headers, every)], failed)


def _cells(trial: Trial, row: str) -> list[str]:
    result = trial.results[row]
    shares = [_share(values) for values in (result.validation, result.test)]
    return [trial.label, *shares, f"{intervals.arithmetic_mean(result.seconds).value:.3g}", trial.run or "-"]


def _share(values: Sequence[float]) -> str:
    estimate = intervals.arithmetic_mean(values)
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4f}"
    return f"{estimate.value:.4f} ±{(estimate.high - estimate.low) / 2:.4f}"

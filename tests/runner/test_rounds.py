"""Which timed training metrics closing steps follow: nobody can foresee it, and few cost little."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from worker_replies import REQUEST, row

from backends.base import Training
from bench.runner.judges.timed_training import TimedTraining
from bench.runner.planner import timed_metrics
from bench.runner.rounds import LATER_JUDGED, ROUNDS_JUDGED, Rounds
from bench.runner.worker_process import WorkerError
from bench.worker.protocol import TimedMetric

ROW = row("pytorch")
METRICS = tuple(timed_metrics(REQUEST))


class Results(dict[Any, Any]):
    """Of one row, which has measured so many rounds."""

    def __init__(self, rounds: int) -> None:
        self.plan = SimpleNamespace(metrics=METRICS)
        self.result = SimpleNamespace(rounds=dict.fromkeys(range(rounds)), fail=lambda *reasons: None)

    def __getitem__(self, of: Any) -> Any:
        return self.result


def followed(rounds: int, judge: Any = True) -> list[TimedMetric]:
    """The metrics of one worker that closing steps follow, after so many rounds."""
    model = REQUEST.workload.model
    judges = TimedTraining(model, Training(REQUEST.workload.recipe.training.optimizer), [], [])  # type: ignore[arg-type]
    workspace: Any = SimpleNamespace(timed_training=judges if judge else None, folder=lambda of: Path("/scratch"))
    measuring = Rounds(workspace, Results(rounds), began=0.0)  # type: ignore[arg-type]
    found = [metric for metric in METRICS if measuring._closing(ROW, metric) is not None]
    measuring.keep(ROW, WorkerError("failed", "it died"))
    again = [metric for metric in METRICS if measuring._closing(ROW, metric) is not None]
    assert len(again) <= 1, "the next worker has one of its own"
    return found


def test_one_training_metric_of_every_first_round_is_judged() -> None:
    trained = [metric for metric in METRICS if metric.task == "train"]
    drawn = [followed(rounds) for rounds in range(ROUNDS_JUDGED) for _ in range(20)]
    assert all(len(found) == 1 for found in drawn)
    assert {found[0] for found in drawn} == set(trained), "either"


def test_steps_that_an_input_pipeline_feeds_are_judged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pipelines = tuple(timed_metrics(replace(REQUEST, task="input", input_workers=(0,))))
    monkeypatch.setattr(sys.modules[__name__], "METRICS", pipelines)
    assert [metric.name for metric in followed(0)] == ["fed_throughput"]


@pytest.mark.parametrize("batch_error", [None, 0.25])
def test_what_batches_were_found_to_be_is_a_check_of_the_row(batch_error: float | None) -> None:
    (pipeline, _) = timed_metrics(replace(REQUEST, task="input", input_workers=(0,)))
    kept = SimpleNamespace(asked=SimpleNamespace(rows=(0,)), outputs=SimpleNamespace(values=((),)))
    slices = [SimpleNamespace(batch_error=batch_error, kept=kept)]
    outcome: Any = SimpleNamespace(metrics=[SimpleNamespace(metric=pipeline, slices=slices)])
    workspace: Any = SimpleNamespace(timed_outputs=None, timed_training=None)
    checks = Rounds(workspace, Results(0), began=0.0)._judge(ROW, outcome, [])  # type: ignore[arg-type]
    assert [(check.name, check.value) for check in checks] == ([] if batch_error is None else [("timed_batches", 0.25)])


def test_later_a_share_of_the_rounds_is() -> None:
    count = sum(len(followed(ROUNDS_JUDGED + 5)) for _ in range(400))
    assert 400 / LATER_JUDGED * 0.5 < count < 400 / LATER_JUDGED * 1.7


def test_without_a_judge_none_is() -> None:
    assert followed(0, judge=None) == []

"""Outputs of timed steps against the reference with the row's own weights; steps that no machine can do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from worker_replies import CONTEXT, result, row

from backends.reference import Network
from bench.runner import roof
from bench.runner.interleaving import Kept, MeasuredRound
from bench.runner.judges import timed_outputs
from bench.runner.judges.result import Result, worst_of
from bench.runner.judges.timed_outputs import TimedOutputs, rows_asked
from bench.runner.record_builder import to_record
from bench.runner.worker_process import WorkerError
from bench.values import Missing
from bench.worker.protocol import Job, KeptOutputs, ReadKept, TimedMetric
from bench.worker.timed_inputs import Draw
from bench.workloads.models import MODELS

MODEL = MODELS["article-pytorch"]
IMAGES = np.random.default_rng(0).normal(size=(20, *MODEL.input_shape)).astype(np.float32)
WEIGHTS = MODEL.initial_weights(0)
ROWS = (0, 3)


def judge() -> TimedOutputs:
    made = TimedOutputs(MODEL, IMAGES)
    made.keep_weights("the row", WEIGHTS)
    return made


def measured(change: Any = lambda logits: logits, seed: int = 9) -> MeasuredRound:
    """A round whose slices kept two outputs each, as the worker computed them."""
    network, round_ = Network(MODEL, WEIGHTS), result().rounds[0]
    for readings in round_.metrics:
        if readings.metric.batch_size <= max(ROWS):
            continue
        draw = Draw.of(seed, len(IMAGES), readings.metric.batch_size, 5)
        logits = [network.logits(draw.batch(IMAGES, batch, np.array(ROWS))) for batch in (1, 4)]
        values = tuple(tuple(map(tuple, change(each).tolist())) for each in logits)
        kept = Kept(
            seed,
            ReadKept(rows=ROWS),
            KeptOutputs(steps=(1, 4), batches=(1, 4), count=5, values=values, seconds=(0.0, 0.0)),
        )
        readings.slices[:] = [replace(reading, kept=kept) for reading in readings.slices]
    return round_


def checked(round_: MeasuredRound) -> Result:
    verdict = judge().judge(row("pytorch"), "the row", round_)
    assert isinstance(verdict, Result)
    return verdict


def test_right_outputs_pass() -> None:
    check = checked(measured())
    assert (check.name, check.passed) == ("timed_outputs", True)
    assert check.value < 1e-12
    assert check.note.startswith("8 outputs of timed steps; worst in throughput"), "two metrics, two steps, two rows"


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits * (1 + 1e-4),
        lambda logits: logits[::-1],
        lambda logits: np.zeros_like(logits),
        lambda logits: np.concatenate([logits[:1], logits[:1]]),
        lambda logits: logits[:1],
    ],
)
def test_others_do_not(change: Any) -> None:
    check = checked(measured(change))
    assert not check.passed


def test_the_seed_decides_what_is_right() -> None:
    round_ = measured(seed=9)
    for readings in round_.metrics:
        readings.slices[:] = [
            r if r.kept is None else replace(r, kept=replace(r.kept, seed=10)) for r in readings.slices
        ]
    assert not checked(round_).passed


def test_without_outputs_nothing_is_claimed() -> None:
    verdict = judge().judge(row("pytorch"), "the row", result().rounds[0])
    assert verdict == Missing("no outputs were kept")


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(WorkerError, match="do not have the names and shapes"):
        TimedOutputs(MODEL, IMAGES).keep_weights("x", MODELS["article-keras"].initial_weights(0))


def test_the_worst_round_is_the_check_of_the_row() -> None:
    right, wrong = checked(measured()), checked(measured(lambda logits: 2 * logits))
    other = replace(right, name="timed_training")
    assert worst_of([right, wrong, other, right]) == [wrong, other]
    assert worst_of([]) == []
    one = result()
    one.timed = [right]
    record = to_record(one, CONTEXT)
    assert record.comparable
    one.timed = [right, wrong]
    record = to_record(one, CONTEXT)
    assert not record.comparable
    assert [check.name for check in record.parity.checks if not check.passed] == ["timed_outputs"]


def test_a_runtime_is_not_blamed_for_what_its_source_was_when_timed() -> None:
    source = result("pytorch")
    source.timed = [checked(measured(lambda logits: 2 * logits))]
    runtime = result("onnxruntime")
    runtime.source = source
    assert to_record(runtime, CONTEXT).comparable
    assert not to_record(source, CONTEXT).comparable


def test_fewer_rows_of_a_large_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(rows_asked(MODEL, 64)) == timed_outputs.ROWS
    assert rows_asked(MODEL, 1) == (0,)
    monkeypatch.setattr(timed_outputs, "FLOPS", 3.5 * MODEL.flops)
    assert len(rows_asked(MODEL, 64)) == 3
    drawn = {rows_asked(MODEL, 64) for _ in range(5)}
    assert len(drawn) > 1, "nobody can foresee them"


JOB = Job(backend="x", mode="eager", model="m", dataset="d", recipe="r", threads=2)


def test_a_step_faster_than_any_core_is_impossible() -> None:
    metric = TimedMetric("throughput", "infer", 100, "device")
    least = 100 * MODEL.flops / (2 * 64 * 6e9)
    assert roof.least_seconds(MODEL, JOB, metric) == pytest.approx(least)
    assert roof.why_impossible(MODEL, JOB, metric, 1.01 * least) == ""
    why = roof.why_impossible(MODEL, JOB, metric, 0.99 * least)
    assert why.startswith("self-check impossible: ")
    assert "2 threads cannot do its FLOPs" in why
    training = replace(metric, task="train")
    assert roof.least_seconds(MODEL, JOB, training) == pytest.approx(2 * least)
    fed, alone = (replace(metric, task="input", name=name) for name in ("fed_throughput", "input_throughput"))
    assert roof.least_seconds(MODEL, JOB, fed) == pytest.approx(2 * least)
    assert roof.least_seconds(MODEL, JOB, alone) == 0, "it computes nothing of the model"
    assert roof.least_seconds(MODEL, replace(JOB, precision="bf16"), metric) == pytest.approx(least / 64)
    assert roof.least_seconds(MODEL, replace(JOB, device="cuda"), metric) == pytest.approx(100 * MODEL.flops / 5e15)

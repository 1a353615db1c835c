"""Event files, read back by TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import CURVE, recorded, trained_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.util.tensor_util import make_ndarray

from bench.records.record import CurvePoint, Run
from reports.exports import tensorboard

SMALL = trained_run()


def read(folder: Path) -> Any:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "histograms": 0, "scalars": 0})
    found.Reload()
    return found


def test_a_training_is_scalars_by_epoch(tmp_path: Path) -> None:
    tensorboard.write([SMALL], tmp_path)
    seed = read(tmp_path / SMALL.name / "a_cpu_fp32_usual" / "seed-0")
    assert set(seed.Tags()["scalars"]) == {"train/loss", "validation/accuracy", "validation/loss"}
    points = [(event.step, pytest.approx(event.value)) for event in seed.Scalars("validation/accuracy")]
    assert points == [(1, 0.1), (2, 0.2)]
    seconds = [event.wall_time for event in seed.Scalars("train/loss")]
    assert seconds[1] - seconds[0] == pytest.approx(2.0)
    assert tensorboard.left_out(SMALL)["row a"] == "evaluations within an epoch: a step is an epoch"
    assert len(read(tmp_path / SMALL.name / "a_cpu_fp32_usual" / "seed-1").Scalars("train/loss")) == 1


def test_a_row_has_hyperparameters_metrics_latencies_and_its_confusion(tmp_path: Path) -> None:
    tensorboard.write([SMALL], tmp_path)
    whole = read(tmp_path / SMALL.name / "a_cpu_fp32_usual")
    figure = SMALL.records[0].figures[0]
    tag = "infer throughput end-to-end, batch 128 [images/s]"
    assert whole.Scalars(tag)[0].value == pytest.approx(figure.value)
    (latencies,) = (name for name in whole.Tags()["tensors"] if "single calls" in name)
    buckets = [make_ndarray(event.tensor_proto) for event in whole.Tensors(latencies)]
    assert [of_process[:, 2].sum() for of_process in buckets] == [3, 3], "counts of calls"
    assert [of_process[:, :2].mean() for of_process in buckets] == [pytest.approx(10), pytest.approx(20)]
    (image,) = whole.Images("confusion")
    assert image.encoded_image_string.startswith(b"\x89PNG")
    content = whole.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["model"].string_value == "m"
    assert start.hparams["threads"].number_value == 1


def test_a_row_that_is_not_certified_is_left_out(tmp_path: Path) -> None:
    tensorboard.write([SMALL], tmp_path)
    assert not list(tmp_path.rglob("b_cpu*"))
    assert tensorboard.left_out(SMALL)["row b"] == "not comparable"


def test_what_was_written_of_a_training_goes_if_its_row_fails(tmp_path: Path) -> None:
    board = tensorboard.Board(tmp_path)
    board.evaluated(SMALL.name, "b/cpu/fp32/usual", 0, CurvePoint.model_validate(CURVE[0]))
    assert list(tmp_path.rglob("b_cpu*"))
    board.ended(SMALL)
    assert not list(tmp_path.rglob("b_cpu*"))


def test_a_second_export_replaces_the_first(tmp_path: Path) -> None:
    made: Run = recorded()
    tensorboard.write([made], tmp_path)
    once = sorted(path.parent for path in tmp_path.rglob(tensorboard.EVENTS))
    tensorboard.write([made], tmp_path)
    assert sorted(path.parent for path in tmp_path.rglob(tensorboard.EVENTS)) == once

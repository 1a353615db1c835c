"""Parquet and Hugging Face: read back by pandas, polars and datasets."""

from __future__ import annotations

import math
from pathlib import Path

import pandas
import polars
import pytest
from builders import hostile_run, latency, recorded, row, run, speed
from pyarrow import parquet as reader

from bench.records.metrics import METRICS
from reports.exports import huggingface, long_tables, parquet

FAILED = row("broken", [speed([7.0])], status="crashed", error="signal SIGSEGV", parity=None)
UNPROVEN = row("unproven", [speed([9.0])], parity={"comparable": False, "checks": []})
SMALL = run(row("a", [speed([100.0, 110.0, 105.0]), latency([0.01])]), FAILED, UNPROVEN)


def test_every_figure_is_a_row_and_only_certified_ones_have_values() -> None:
    rows = long_tables.figures([SMALL]).to_pylist()
    assert [(each["row"], each["metric"], each["n"]) for each in rows] == [
        ("a/cpu/fp32/usual", "throughput", 3), ("a/cpu/fp32/usual", "latency_p50", 1),
        ("broken/cpu/fp32/usual", "throughput", 0), ("unproven/cpu/fp32/usual", "throughput", 0),
    ]  # fmt: skip
    assert math.isclose(rows[0]["value"], (100 * 110 * 105) ** (1 / 3))
    assert rows[0]["low"] < rows[0]["value"] < rows[0]["high"]
    assert (rows[0]["unit"], rows[0]["direction"], rows[0]["confidence"]) == ("images/s", "higher", 0.95)
    assert rows[1]["low"] is None, "one process has no interval"
    assert [each["value"] for each in rows[2:]] == [None, None]
    assert [each["reason"] for each in rows[2:]] == ["crashed", "not comparable"]


def test_a_figure_that_was_not_measured_says_why() -> None:
    missing = {"name": "energy", "unit": "J/image", "value": None, "reason": "not visible here"}
    (found,) = long_tables.figures([run(row("a", [missing]))]).to_pylist()
    assert (found["value"], found["reason"]) == (None, "not visible here")


def test_every_sample_of_certified_rows_is_a_row() -> None:
    rows = long_tables.samples([SMALL]).to_pylist()
    assert [each["value"] for each in rows] == [100.0, 110.0, 105.0, 0.01]
    assert [each["sample"] for each in rows] == [0, 1, 2, 0]
    assert rows[0]["slices"] == 1
    assert math.isclose(rows[0]["seconds"], 0.1)


def test_parquet_is_read_back_by_its_own_readers(tmp_path: Path) -> None:
    runs = [recorded(), hostile_run(), SMALL]
    figures, samples = parquet.write(runs, tmp_path / "new" / "folder")
    assert reader.read_table(figures).equals(long_tables.figures(runs))
    frame = pandas.read_parquet(samples)
    assert polars.read_parquet(samples)["value"].to_list() == frame["value"].tolist()
    assert list(frame.columns) == list(long_tables.SAMPLES)
    assert set(frame["run"]) == {each.name for each in runs}
    assert sorted(path.name for path in figures.parent.iterdir()) == ["figures.parquet", "samples.parquet"]


def test_other_data_frames_read_the_tables_through_arrow() -> None:
    table = long_tables.figures([SMALL])
    assert polars.from_arrow(table).height == 4  # type: ignore[union-attr]
    assert polars.DataFrame(table).columns == list(long_tables.FIGURES)
    assert pandas.api.interchange.from_dataframe(table).shape == (4, len(long_tables.FIGURES))


def test_hugging_face_reads_the_folder_and_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset
    from huggingface_hub import DatasetCard

    runs = [recorded(), SMALL]
    huggingface.write(runs, tmp_path / "data")
    for name, expected in (("figures", long_tables.figures(runs)), ("samples", long_tables.samples(runs))):
        loaded = load_dataset(str(tmp_path / "data"), name, split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded.column_names == expected.column_names
        assert list(loaded["value"]) == expected["value"].to_pylist()
    card = DatasetCard.load(tmp_path / "data" / "README.md")
    assert [each["config_name"] for each in card.data.configs] == ["figures", "samples"]
    for name in ("throughput", "latency_p50"):
        assert METRICS[name].definition in card.text
    assert "feedc0de" in card.text, "the machine"


def test_foreign_text_is_no_markup_in_the_card() -> None:
    text = huggingface.card([hostile_run()])
    assert "<script>" not in text
    assert "[x](javascript" not in text

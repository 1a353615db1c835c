"""Exports in other tools' formats, checked with those tools themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import figure, latency, row
from builders import run as made_of
from conftest import Bench

from bench.records.export import export
from bench.records.record import Run, label
from reports.exports import bencher, github_action_benchmark, pytest_benchmark


def finite(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_pytest_benchmark_has_one_process_per_datum(run: Run) -> None:
    commit = "c0ffee" + "0" * 34
    run.records[0] = run.records[0].model_copy(update={"commit": f"{commit}+dirty"})
    document = finite(pytest_benchmark.document(run))
    by_name = {benchmark["name"]: benchmark for benchmark in document["benchmarks"]}
    trained = next(record for record in run.records if record.job.backend == "pytorch")
    figure = trained.figure("throughput", "train", "end-to-end")
    benchmark = by_name["train_throughput_end-to-end[pytorch]"]
    assert benchmark["stats"]["data"] == [figure.batch_size / sample.value for sample in figure.samples]
    assert benchmark["stats"]["rounds"] == figure.n
    assert benchmark["stats"]["min"] <= benchmark["stats"]["median"] <= benchmark["stats"]["max"]
    assert benchmark["group"] == "article-keras/digits/article-keras train throughput end-to-end"
    assert benchmark["params"]["batch_size"] == figure.batch_size
    assert benchmark["extra_info"]["accuracy"] == trained.figure("accuracy").value
    assert (document["commit_info"]["id"], document["commit_info"]["dirty"]) == (commit, True)
    assert document["machine_info"]["cpu"]["brand_raw"] == run.records[0].machine["cpu"]
    names = [b["fullname"] for b in document["benchmarks"]]
    assert len(names) == len(set(names))


@pytest.fixture
def storage(tmp_path: Path, run: Run) -> Path:
    """Two exports in the folder where pytest-benchmark stores its own results."""
    from pytest_benchmark.utils import get_machine_id

    for number in ("0001", "0002"):
        file = tmp_path / "storage" / get_machine_id() / f"{number}_run.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(pytest_benchmark.document(run))
    return tmp_path / "storage"


@pytest.mark.usefixtures("process")
def test_pytest_benchmark_compare_reads_it(storage: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest_benchmark", "--storage", str(storage), "compare", "--group-by", "group"]
    outputs = ["--csv", str(tmp_path / "out.csv"), "--histogram", str(tmp_path / "out")]
    done = subprocess.run([*command, *outputs], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "train throughput end-to-end" in done.stdout
    assert "train_throughput_end-to-end[pytorch]" in (tmp_path / "out.csv").read_text()
    assert list(tmp_path.glob("out*.svg"))


@pytest.mark.usefixtures("process")
def test_pytest_benchmark_compare_option_reads_it(storage: Path, tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("def test_x(benchmark):\n    benchmark(lambda: None)\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_x.py")]
    options = [f"--benchmark-storage=file://{storage}", "--benchmark-compare=0001", "--benchmark-max-time=0.01"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Comparing against benchmarks from" in done.stdout + done.stderr


def test_bencher_metric_format(run: Run) -> None:
    """Benchmark, measure, metric: a value, and its bounds if there are any."""
    document = finite(bencher.document(run))
    trained = next(record for record in run.records if record.job.backend == "pytorch")
    figure = trained.figure("throughput", "train", "end-to-end")
    name = f"article-keras/digits/article-keras pytorch train end-to-end batch={figure.batch_size}"
    metric = document[name]["throughput"]
    assert metric == {"value": figure.value, "lower_value": figure.low, "upper_value": figure.high}
    latency = trained.figure("latency_p50", "infer", "end-to-end")
    measure = document["article-keras/digits/article-keras pytorch infer end-to-end batch=1"]
    assert measure["latency"]["value"] == pytest.approx(1e9 * latency.value)
    allowed = {"value", "lower_value", "upper_value"}
    assert all(set(m) <= allowed and "value" in m for measures in document.values() for m in measures.values())


@pytest.mark.parametrize("bigger", [True, False])
def test_github_action_benchmark(run: Run, bigger: bool) -> None:
    """Its format: a list of name, unit, value, and optionally range and extra."""
    entries = finite(github_action_benchmark.document(run, bigger))
    assert entries
    names = [entry["name"] for entry in entries]
    assert len(names) == len(set(names))
    for entry in entries:
        assert set(entry) <= {"name", "unit", "value", "range", "extra"}
        assert isinstance(entry["value"], float | int)
        assert any(word in entry["name"] for word in ("throughput", "accuracy")) is bigger


def test_rows_that_are_not_comparable_are_left_out(run: Run) -> None:
    failed = [record.model_copy(update={"status": "failed"}) for record in run.records]
    bad = run.model_copy(update={"records": failed})
    assert json.loads(pytest_benchmark.document(bad))["benchmarks"] == []
    assert json.loads(bencher.document(bad)) == {}
    assert json.loads(github_action_benchmark.document(bad, True)) == []


def test_standard_error_names_what_is_left_out(bench: Bench, run: Run) -> None:
    failed = run.records[0].model_copy(update={"status": "timeout", "error": "x"})
    named = run.model_copy(update={"name": "20260101T000000-aaaa", "records": [failed, *run.records[1:]]})
    (bench.folder / "run.json").write_text(export(named))
    assert bench("import", "run.json").returncode == 0
    done = bench("export", "--format", "customSmallerIsBetter")
    assert done.returncode == 0, done.stderr
    assert finite(done.stdout)
    row = label(failed.job, [record.job for record in run.records])
    assert f"left out: row {row}: timeout" in done.stderr
    assert "left out: parameters: a property of the model, neither direction is better" in done.stderr
    assert "left out: accuracy: higher is better: --format customBiggerIsBetter has it" in done.stderr
    assert bench("export", "--format", "json").stderr == ""


def test_a_sweep_of_batch_sizes_drops_nothing() -> None:
    sizes = [figure("peak_rss", [1e8 * size], task="infer", batch_size=size) for size in (1, 8)]
    document = finite(pytest_benchmark.document(made_of(row("a", [*sizes, latency([0.1])]))))
    extra = document["benchmarks"][0]["extra_info"]
    assert {name: extra[name] for name in extra if "rss" in name} == {
        "infer_peak_rss_batch-1": pytest.approx(1e8),
        "infer_peak_rss_batch-8": pytest.approx(8e8),
    }


def test_a_metric_of_another_version_is_named_as_left_out() -> None:
    made = made_of(row("a", [latency([0.1])]))
    strange = made.records[0].figures[0].model_copy(update={"name": "strange"})
    more = made.model_copy(update={"records": [made.records[0].model_copy(update={"figures": [strange]})]})
    assert bencher.left_out(more) == {"strange": "not a metric of this version"}

"""Runs in MLflow, read back by its client."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import row, run, speed, trained_run

from bench.errors import BenchError
from reports.exports import mlflow

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


SMALL = trained_run()


def page(of: object) -> str:
    return "<h1>the page</h1>"


def test_every_certified_row_is_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert mlflow.log([SMALL], uri, page) == [f"{SMALL.name} a"]
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("evenbench m/d/r")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["model"] == "m"
    assert found.data.tags["evenbench.row"] == "a/cpu/fp32/usual"
    figure = SMALL.records[0].figures[0]
    key = "infer throughput end-to-end batch 128"
    assert found.data.metrics[f"{key} images per s"] == figure.value
    assert found.data.metrics[f"{key} low images per s"] == figure.low
    history = client.get_metric_history(found.info.run_id, "seed 0/validation accuracy")
    assert [(one.step, one.value) for one in history] == [(1, pytest.approx(0.1)), (2, pytest.approx(0.2))]
    artifact = client.download_artifacts(found.info.run_id, "report.html")
    assert Path(artifact).read_text() == page(None)
    within = "evaluations within an epoch: a step is an epoch"
    assert mlflow.left_out(SMALL) == {"row a": within, "row b": "not comparable"}

    other = run(row("c", [speed([1.0])]), name="other")
    assert mlflow.log([SMALL, other], uri, page) == ["other c"], "a row that is there stays as it is"


def test_a_row_whose_export_was_cut_off_is_logged_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.package("mlflow", "mlflow")
    from mlflow import MlflowClient

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_text", lambda *_: (_ for _ in ()).throw(OSError("gone")))
        with pytest.raises(OSError, match="gone"):
            mlflow.log([SMALL], uri, page)
    assert mlflow.log([SMALL], uri, page) == [f"{SMALL.name} a"]
    assert mlflow.log([SMALL], uri, page) == []


def test_an_unknown_place_is_one_line() -> None:
    with pytest.raises(BenchError, match=r"^MLflow: .*--output names its tracking URI$"):
        mlflow.log([SMALL], "nonsense://x", page)

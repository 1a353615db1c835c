"""Runs in MLflow: a run of MLflow for every certified row, in the experiment of its workload.

Parameters are the row's job, metrics its figures (with the ends of their intervals) and the course of its trainings;
the page of the whole run is an artifact. A row that is there already is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from bench.errors import BenchError
from bench.records.record import Record, Run
from reports.content.comparison import metric_name
from reports.exports import selection
from reports.exports.optional import package

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Without it MLflow 3 opens an experiment as one of traces of language models."""
MOST = 1000
"""Metrics that a server takes at a time."""


def log(runs: Sequence[Run], uri: str | None, page: Callable[[Run], str]) -> list[str]:
    """Log runs; the names of the new runs of MLflow.

    Args:
        runs: with their records.
        uri: of the tracking server or database; None: MLflow's own default (``MLFLOW_TRACKING_URI``).
        page: makes the page of a run.

    Raises:
        UsageError: mlflow is not installed.
        BenchError: the server cannot be reached, or refuses.
    """
    mlflow = package("mlflow", "mlflow")
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        return [name for run in runs for name in _log(client, mlflow.entities, run, page(run))]
    except mlflow.MlflowException as error:
        raise BenchError(f"MLflow: {str(error).splitlines()[0]}; --output names its tracking URI") from error


def left_out(run: Run) -> dict[str, str]:
    """What MLflow does not get, with the reason."""
    return selection.within_epochs(run) | selection.left_out(run)


def _log(client: Any, entities: Any, run: Run, page: str) -> Iterator[str]:
    for record, row in selection.rows(run):
        if not record.certified:
            continue
        experiment = _experiment(client, f"evenbench {selection.workload(record)}")
        tags = {"evenbench.run": run.name, "evenbench.row": record.id}
        if record.id in _whole(client, experiment, run):
            continue
        name, began = f"{run.name} {row}", _milliseconds(run.started_at)
        started = client.create_run(experiment, start_time=began, tags=tags | _tags(record), run_name=name)
        identity = started.info.run_id
        parameters = [entities.Param(field.name, str(getattr(record.job, field.name))) for field in fields(record.job)]
        metrics = [entities.Metric(key, value, at, step) for key, value, at, step in _metrics(record, began)]
        client.log_batch(identity, params=parameters)
        for start in range(0, len(metrics), MOST):
            client.log_batch(identity, metrics=metrics[start : start + MOST])
        client.log_text(identity, page, "report.html")
        client.set_terminated(identity, "FINISHED")
        yield name


def _whole(client: Any, experiment: str, run: Run) -> set[str]:
    """Ids of the rows of a run that are there. One whose export was cut off has not finished, and is logged anew."""
    wanted = f"tags.`evenbench.run` = '{run.name}' and attributes.status = 'FINISHED'"
    return {found.data.tags.get("evenbench.row", "") for found in client.search_runs([experiment], wanted)}


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    identity: str = client.create_experiment(name, tags=KIND) if found is None else found.experiment_id
    return identity


def _tags(record: Record) -> dict[str, str]:
    versions = {f"evenbench.version.{name}": version for name, version in record.versions.items()}
    commit = {} if record.commit is None else {"mlflow.source.git.commit": record.commit}
    return {**versions, **commit, "evenbench.machine": str(record.machine.get("id", ""))}


def _metrics(record: Record, began: int) -> Iterator[tuple[str, float, int, int]]:
    """Key, value, milliseconds since 1970, step."""
    for figure in record.figures:
        for what, value in (("", figure.value), (" low", figure.low), (" high", figure.high)):
            if figure.value is not None and value is not None:
                yield _key(f"{metric_name(figure.key)}{what} {figure.unit}"), value, began, 0
    for training in record.outcome.trainings if record.outcome is not None else ():
        for point in training.curve:
            at, seed = began + round(1e3 * point.seconds), f"seed {training.seed}"
            step = round(point.epoch)
            if point.epoch == step:
                yield _key(f"{seed}/{point.split} accuracy"), point.accuracy, at, step
                yield _key(f"{seed}/{point.split} loss"), point.loss, at, step
                if point.train_loss is not None:
                    yield _key(f"{seed}/train loss"), point.train_loss, at, step


def _key(name: str) -> str:
    """In the characters that MLflow allows."""
    return re.sub(r"[^A-Za-z0-9_\-. /]+", "", name.replace("/s", " per s").replace("J/image", "J per image"))


def _milliseconds(moment: str) -> int:
    return round(1e3 * datetime.fromisoformat(moment).timestamp())

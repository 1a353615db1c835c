"""Runs as TensorBoard shows them: scalars per epoch, hyperparameters with final metrics, latencies, confusion matrices.

``FOLDER/RUN/ROW`` has what is known of a row at the end, ``FOLDER/RUN/ROW/seed-N`` the course of a training. A step is
an epoch. Only certified rows have final metrics.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from bench.records.record import CurvePoint, Record, Run
from reports.content import training_plots
from reports.content.comparison import metric_name
from reports.exports import selection
from reports.exports.optional import package
from reports.render import images

EVENTS = "events.out.tfevents.*"


class _EventFile:
    """An event file, by TensorBoard's own protocol buffers and record writer: no framework is imported."""

    def __init__(self, folder: Path) -> None:
        self._events = package("tensorboard.compat.proto.event_pb2", "tensorboard")
        records = package("tensorboard.summary.writer.record_writer", "tensorboard")
        folder.mkdir(parents=True, exist_ok=True)
        name = EVENTS.replace("*", f"{time.time_ns()}.{os.getpid()}")
        self._records = records.RecordWriter((folder / name).open("wb"))
        self._write(time.time(), file_version="brain.Event:2")

    def scalar(self, tag: str, value: float, step: int, at: float | None = None) -> None:
        """One value. ``at``: seconds since 1970; None: now."""
        self.summary([{"tag": tag, "simple_value": value}], step, at)

    def summary(self, values: Any, step: int, at: float | None) -> None:
        """Values of any kind: a summary, or dicts of the fields of its values."""
        content = {"value": values} if isinstance(values, list) else values
        self._write(time.time() if at is None else at, step=step, summary=content)

    def _write(self, at: float, **content: Any) -> None:
        event = self._events.Event(wall_time=at, **content)
        self._records.write(event.SerializeToString())
        self._records.flush()

    def close(self) -> None:
        self._records.close()


class Board:
    """A folder of event files.

    Raises:
        UsageError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._hparams = package("tensorboard.plugins.hparams.summary_v2", "tensorboard")
        self._histogram = package("tensorboard.plugins.histogram.summary_v2", "tensorboard")
        self._folder = folder
        self._files: dict[Path, _EventFile] = {}

    def evaluated(self, run: str, row: str, seed: int, point: CurvePoint, at: float | None = None) -> None:
        """One evaluation of a training. ``at``: seconds since 1970; None: now. Evaluations within an epoch are not
        written."""
        if point.epoch != int(point.epoch):
            return
        file = self._file(Path(run, file_name(row), f"seed-{seed}"))
        values = {f"{point.split}/accuracy": point.accuracy, f"{point.split}/loss": point.loss}
        if point.train_loss is not None:
            values["train/loss"] = point.train_loss
        for tag, value in values.items():
            file.scalar(tag, value, int(point.epoch), at)

    def ended(self, run: Run) -> None:
        """What is known of a run's certified rows at its end. What was written of the others goes."""
        for record, row in selection.rows(run):
            if record.certified:
                self._end(run, record, row)
        self._describe(run)
        for file in self._files.values():
            file.close()
        self._files.clear()
        for record in run.records:
            if not record.certified:
                rmtree(self._folder / run.name / file_name(record.id), ignore_errors=True)

    def add(self, run: Run) -> None:
        """A stored run, with the courses of its trainings; it replaces what the folder has of this run."""
        for earlier in (self._folder / run.name).rglob(EVENTS):
            earlier.unlink()
        began = datetime.fromisoformat(run.started_at).timestamp()
        for record in run.records:
            for training in record.outcome.trainings if record.outcome is not None and record.certified else ():
                for point in training.curve:
                    self.evaluated(run.name, record.id, training.seed, point, began + point.seconds)
        self.ended(run)

    def _file(self, place: Path) -> _EventFile:
        if place not in self._files:
            self._files[place] = _EventFile(self._folder / place)
        return self._files[place]

    def _describe(self, run: Run) -> None:
        """What hyperparameters and final metrics the rows of a run have."""
        certified = [record for record in run.records if record.certified]
        if not certified:
            return
        values: dict[str, list[Any]] = {}
        for record in certified:
            for name, value in _hyperparameters(record).items():
                values.setdefault(name, []).append(value)
        metrics = dict.fromkeys(tag for record in certified for tag in _finals(record))
        hparams = self._hparams
        columns = [hparams.HParam(name, hparams.Discrete(list(dict.fromkeys(each)))) for name, each in values.items()]
        at = datetime.fromisoformat(run.started_at).timestamp()
        config = hparams.hparams_config_pb(columns, [hparams.Metric(tag) for tag in metrics], at)
        self._file(Path(run.name)).summary(config, 0, at)

    def _end(self, run: Run, record: Record, row: str) -> None:
        file = self._file(Path(run.name, file_name(record.id)))
        at = datetime.fromisoformat(run.started_at).timestamp()
        for tag, value in _finals(record).items():
            file.scalar(tag, value, 0, at)
        file.summary(self._hparams.hparams_pb(_hyperparameters(record), f"{run.name} {record.id}", at), 0, at)
        for figure in record.figures:
            for sample in figure.samples:
                calls = [1e3 * call for piece in sample.used for call in piece.latencies or ()]
                if calls:
                    tag = f"{metric_name(figure.key)}: single calls [ms]"
                    file.summary(self._histogram.histogram_pb(tag, np.array(calls)), sample.round, at)
        for plot in training_plots.confusions([(row, record)]):
            height, width, content = images.png(plot)
            picture = {"height": height, "width": width, "colorspace": 4, "encoded_image_string": content}
            file.summary([{"tag": "confusion", "image": picture}], 0, at)


def write(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write the event files of runs; the folders of the runs.

    Raises:
        UsageError: tensorboard is not installed.
    """
    board, folders = Board(folder), []
    for run in runs:
        board.add(run)
        folders.append(folder / run.name)
    return folders


def left_out(run: Run) -> dict[str, str]:
    """What the event files leave out, with the reason."""
    return selection.within_epochs(run) | selection.left_out(run)


def file_name(row: str) -> str:
    """A row's id as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", row.replace("<-", "-from-"))


def _finals(record: Record) -> dict[str, float]:
    """The values of a row's metrics by tag."""
    return {f"{metric_name(f.key)} [{f.unit}]": f.value for f in record.figures if f.value is not None}


def _hyperparameters(record: Record) -> dict[str, bool | int | float | str]:
    values = {field.name: getattr(record.job, field.name) for field in fields(record.job)}
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value)
        for name, value in values.items()
        if value not in (None, "")
    }

"""Who watches a training is told of it, and costs it nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from stored import run

from bench.records.record import CurvePoint
from bench.runner.progress import NotebookLine, RunProgress
from bench.store.store import Store

POINT = CurvePoint(epoch=1, seconds=2, train_loss=0.5, split="test", loss=0.4, accuracy=0.9)


def test_a_watcher_gets_every_evaluation(tmp_path: Path) -> None:
    told: list[tuple[str, str, int, CurvePoint]] = []
    with RunProgress(
        store=Store(str(tmp_path / "h.db")), run_name=run().name, watch=lambda *it: told.append(it)
    ) as shown:
        shown.evaluated("a/cpu", 3, lambda: POINT)
    assert told == [(run().name, "a/cpu", 3, POINT)]


def test_without_a_watcher_nothing_is_scored(tmp_path: Path) -> None:
    with RunProgress(store=Store(str(tmp_path / "h.db")), run_name="r") as shown:
        shown.evaluated("a/cpu", 0, lambda: pytest.fail("it was scored"))


def test_what_cannot_be_written_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with RunProgress(store=Store(str(tmp_path / "h.db")), run_name="r", watch=full) as shown:
        shown.evaluated("a/cpu", 0, lambda: POINT)
        shown.evaluated("a/cpu", 1, lambda: POINT)
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_a_terminal_is_no_notebook() -> None:
    assert not NotebookLine.is_possible()

"""What is written to one store, made in another: every call that a run or check makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stored import record, run

from bench.errors import BenchError
from bench.store import journal, replay
from bench.store.journal import Change
from bench.store.schema import BASELINES, CHECKS, SWEEPS
from bench.store.store import Store

NAME = run().name


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store that notes its changes."""
    monkeypatch.setenv(journal.ENVIRONMENT, str(tmp_path / "journal"))
    store = Store(str(tmp_path / "node.db"))
    monkeypatch.delenv(journal.ENVIRONMENT)
    return store


def lines(tmp_path: Path) -> list[str]:
    return (tmp_path / "journal").read_text().splitlines()


def copy(tmp_path: Path, name: str = "driver.db") -> Store:
    """Another store after the same changes."""
    store = Store(str(tmp_path / name))
    for line in lines(tmp_path):
        replay.apply(store, replay.read(line))
    return store


def test_a_run_comes_over_as_it_goes(noted: Store, tmp_path: Path) -> None:
    noted.add_run(run(), {"begun": b"\x00\xff", "course": b"{}"})
    noted.save(NAME, record(), record("keras"), parts={"round 0 a": b"1"})
    noted.keep_weights(NAME, "row", b"\x01\x02")
    noted.forget_parts(NAME, ["course"])
    half = copy(tmp_path)
    assert half.load(NAME) == noted.load(NAME)
    assert half.parts(NAME) == noted.parts(NAME) == {"begun": b"\x00\xff", "round 0 a": b"1"}
    assert half.weights(NAME) == noted.weights(NAME)
    noted.end_run(run().model_copy(update={"rounds": 9, "records": [record()]}))
    whole = copy(tmp_path)  # and applied twice, it comes to the same
    assert whole.load(NAME) == noted.load(NAME)
    assert whole.load(NAME).rounds == 9
    assert whole.parts(NAME) == {}


def test_documents_and_parts_come_over(noted: Store, tmp_path: Path) -> None:
    noted.put(CHECKS, "check-a", "{}", {"begun": b"b"})
    noted.keep_parts("check-a", {"pairs": b"p"})
    other = copy(tmp_path)
    assert other.get(CHECKS, "check-a") == "{}"
    assert other.parts("check-a") == {"begun": b"b", "pairs": b"p"}
    noted.forget_parts("check-a")
    assert copy(tmp_path, "third.db").parts("check-a") == {}


def test_another_store_gets_what_goes_on(noted: Store, tmp_path: Path) -> None:
    noted.add_run(run(), {"begun": b"b"})
    noted.save(NAME, record(), parts={"round 0 a": b"1"})
    noted.keep_weights(NAME, "row", b"w")
    noted.put(BASELINES, "good", "{}")
    other = Store(str(tmp_path / "other.db"))
    for line in [*replay.of_run(noted, NAME), *replay.of_document(noted, BASELINES, "good")]:
        replay.apply(other, replay.read(line))
    assert other.load(NAME) == noted.load(NAME)
    assert other.parts(NAME) == noted.parts(NAME)
    assert other.weights(NAME) == noted.weights(NAME)
    assert other.get(BASELINES, "good") == "{}"
    assert list(replay.of_document(noted, BASELINES, "none")) == []


def test_without_a_journal_nothing_is_noted(tmp_path: Path) -> None:
    Store(str(tmp_path / "plain.db")).add_run(run())
    assert not (tmp_path / "journal").exists()


@pytest.mark.parametrize(
    "line", ["", "{}", "[]", '{"call": "drop", "name": "x"}', '{"call": "save", "name": "x", "records": [{}]}', "\x00"]
)
def test_what_is_no_change_is_refused(line: str) -> None:
    with pytest.raises(BenchError, match="cannot be read"):
        replay.read(line)


@pytest.mark.parametrize(
    "change",
    [
        {"call": "save", "name": "other"},
        {"call": "add_run", "name": NAME, "run": run("other")},
        {"call": "put", "name": NAME, "table": BASELINES.name},
    ],
)
def test_a_node_changes_what_is_its_own(change: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match="may change"):
        replay.check_owner(Change(**change), NAME)


@pytest.mark.parametrize(
    "change",
    [
        {"call": "add_run", "name": NAME},
        {"call": "end_check", "name": NAME},
        {"call": "put", "name": NAME, "table": SWEEPS.name},
    ],
)
def test_an_incomplete_change_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="incomplete"):
        replay.apply(Store(str(tmp_path / "a.db")), Change(**change))

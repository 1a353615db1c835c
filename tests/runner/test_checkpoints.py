"""What a run goes on from: every part comes back as it was, damage is said, changes are refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stored import run
from worker_replies import CONTEXT, result, spoil_round

from bench.errors import BenchError, UsageError
from bench.runner import checkpoints, resumption
from bench.runner.judges.result import Result
from bench.runner.kept_rounds import KeptRounds
from bench.runner.record_builder import to_record
from bench.runner.resumption import Begun, Circumstances, Owner
from bench.runner.row_result import RowResult
from bench.runner.timing import Timing
from bench.store import queries
from bench.store.store import Store

NOW = Circumstances(
    rows=("pytorch",), work="w", data="d" * 64, machine="here", commit="c" * 40, versions={"torch": "2.9", "numpy": "2"}
)


def begun(name: str = "run", **changes: Any) -> dict[str, bytes]:
    part = resumption.begun({"some": {"option": 1}}, replace(NOW, **changes))
    return replace(part, owner=Owner("here", 2**22 + 1, 0.0)).part()  # no process has that number


def store_with(tmp_path: Path, *names: str) -> Store:
    store = Store(str(tmp_path / "history.db"))
    for name in names:
        store.add_run(run(name), begun())
    return store


def restored(parts: dict[str, bytes]) -> RowResult:
    blank = result()
    blank.begin_anew()
    checkpoints.restore({blank.row.id: blank}, parts, "the run")
    return blank


def test_a_row_comes_back_as_it_was() -> None:
    measured = result()
    measured.checks.append(Result("off", float("nan"), 1.0, details={"worst": float("inf")}))
    measured.arena = [(measured.plan.metrics[0], [1.5, 1.25])]
    back = restored(dict(checkpoints.parts_of(measured)))
    assert back.restored
    assert to_record(back, CONTEXT) == to_record(measured, CONTEXT)
    assert list(back.rounds) == [0, 1, 2]
    assert not back.checks[-1].passed, "NaN stays NaN"


def test_a_round_that_is_stored_is_not_stored_again() -> None:
    measured = result()
    names = [name for name, _ in checkpoints.parts_of(measured, {0, 2})]
    assert names == [f"row {measured.row.id}", f"round 1 {measured.row.id}"]


def test_a_row_that_is_not_certified_has_nothing_to_go_on_from() -> None:
    assert list(checkpoints.parts_of(replace(result(), certified=None))) == []


def test_a_row_that_failed_a_check_begins_anew_and_no_other() -> None:
    fast, slow = result("fast"), result("slow")
    parts = dict(checkpoints.parts_of(fast)) | dict(checkpoints.parts_of(slow))
    ended = {fast.row.id: ("failed", "self-check late"), slow.row.id: ("crashed", "SIGSEGV")}
    course = checkpoints.Course(schedule=[], timing=Timing(), ended=ended).encoded()
    forgotten = checkpoints.parts_to_forget({**parts, checkpoints.COURSE: course}, "the run")
    assert sorted(forgotten) == sorted(dict(checkpoints.parts_of(fast)))
    assert checkpoints.parts_to_forget(parts, "the run") == []


def test_rounds_of_an_earlier_beginning_do_not_come_back() -> None:
    old = dict(checkpoints.parts_of(result()))
    anew = result()
    anew.rounds = KeptRounds({7: anew.rounds[0]})
    assert list(restored(old | dict(checkpoints.parts_of(anew))).rounds) == [7]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"measured": 1}', b"\xff\xfe", b'{"schedule": 3}'])
def test_a_damaged_part_is_one_line(content: bytes) -> None:
    parts = dict(checkpoints.parts_of(result()))
    for damaged in parts:
        with pytest.raises(BenchError, match=r"^what the run would go on from is damaged \(.*begin anew") as caught:
            restored({**parts, damaged: content})
        assert "\n" not in str(caught.value)
    with pytest.raises(BenchError, match="is damaged"):
        checkpoints.course_of({checkpoints.COURSE: content}, "the run")


def test_nothing_changed_is_no_change() -> None:
    assert NOW.changes(NOW) == []


def test_what_changed_is_named_and_goes_on_only_if_told(tmp_path: Path) -> None:
    store = store_with(tmp_path, "20260101T000000-aaaa")
    other = replace(NOW, machine="there", data="e" * 64, versions={"torch": "2.10", "numpy": "2"})
    expected = ["machine here became there", "data dddddddddddd became eeeeeeeeeeee", "torch 2.9 became 2.10"]
    with pytest.raises(BenchError, match=r"cannot go on as it was: machine here.*--anyway"):
        resumption.goes_on(store, "20260101T000000-aaaa", other, anyway=False)
    resumed = resumption.goes_on(store, "20260101T000000-aaaa", other, anyway=True)
    assert resumed.changed == expected
    assert resumption.resumption(resumed, 3).changed == expected


@pytest.mark.parametrize("changes", [{"rows": ("pytorch", "keras")}, {"rows": ()}, {"work": "another"}])
def test_other_work_cannot_be_joined(tmp_path: Path, changes: dict[str, Any]) -> None:
    store = store_with(tmp_path, "20260101T000000-aaaa")
    with pytest.raises(BenchError, match=r"cannot go on: .* are others.*without --resume"):
        resumption.goes_on(store, "20260101T000000-aaaa", replace(NOW, **changes), anyway=True)


def test_the_newest_is_found_by_when_it_began_or_by_the_beginning_of_its_name(tmp_path: Path) -> None:
    store = store_with(tmp_path, "20260102T000000-aaaa", "20260101T000000-bbbb")
    assert resumption.find(store, "", "run")[0] == "20260101T000000-bbbb", "begun last"
    assert resumption.find(store, "20260102", "run")[0] == "20260102T000000-aaaa"
    for text, kind, said in (
        ("2026", "run", "more than one run"),
        ("x", "run", "no run 'x'"),
        ("", "check", "no check"),
    ):
        with pytest.raises(UsageError, match=said):
            resumption.find(store, text, kind)


def test_one_that_has_ended_or_goes_on_is_left_alone(tmp_path: Path) -> None:
    store = store_with(tmp_path, "20260101T000000-aaaa")
    assert resumption.unended_lines(store) == [
        "20260101T000000-aaaa stopped early: bench run --resume 20260101T000000-aaaa does what is missing"
    ]
    mine = resumption.begun({"some": {}}, replace(NOW, machine="here"))
    store.save("20260101T000000-aaaa", parts=mine.part())
    assert resumption.unended_lines(store) == [f"20260101T000000-aaaa is still going on, in process {os.getpid()}"]
    store.end_run(run("20260101T000000-aaaa"))
    assert resumption.unended_lines(store) == []
    with pytest.raises(UsageError, match="has ended: nothing is missing"):
        resumption.goes_on(store, "20260101T000000-aaaa", NOW, anyway=False)


def test_what_a_search_begun_is_not_offered(tmp_path: Path) -> None:
    store = store_with(tmp_path)
    store.add_run(run("20260101T000000-aaaa"), resumption.begun({}, NOW).part())
    assert resumption.unended(store) == {}


def test_a_checkpoint_goes_with_its_run(tmp_path: Path) -> None:
    store = store_with(tmp_path, "20260101T000000-aaaa", "20260102T000000-bbbb")
    queries.delete(store, ["20260101T000000-aaaa"])
    assert list(store.unended()) == ["20260102T000000-bbbb"]
    queries.prune(store, queries.Filter(), keep=0, dry_run=False)
    assert store.unended() == {}


def test_a_checkpoint_of_another_version_is_not_offered(tmp_path: Path) -> None:
    store = store_with(tmp_path, "20260101T000000-aaaa")
    plain = json.loads(store.unended()["20260101T000000-aaaa"])
    store.save("20260101T000000-aaaa", parts={"begun": json.dumps({**plain, "more": 1}).encode()})
    assert resumption.unended_lines(store) == []
    assert Begun.read(json.dumps(plain).encode()).circumstances == NOW
    folder = replace(Begun.read(json.dumps(plain).encode()), folder="h\udcf6f")
    assert Begun.read(folder.part()["begun"]) == folder, "a name that is no UTF-8"
    with pytest.raises(ValueError, match="nested too deeply"):
        Begun.read(b"[" * 100_000)


def test_other_versions_than_those_of_the_first_worker_are_named() -> None:
    measured = result()
    first = measured.reports[0][2]
    assert measured.changed_versions(first) == ""
    assert measured.changed_versions(replace(first, versions={"x": "2"})) == "x 1 became 2"
    spoil_round(measured, 1, finished=replace(measured.rounds[1].finished, report=replace(first, versions={"x": "2"})))
    assert measured.changed_versions() == "", "the last worker is as the first"

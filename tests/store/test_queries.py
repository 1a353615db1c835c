"""Queries across runs: lists and filters, series, tags, deletion, import; on both databases."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from stored import comparable, run

from bench.errors import BenchError, UsageError
from bench.records.export import export
from bench.records.record import Run
from bench.records.series import row_name
from bench.store import queries
from bench.store.queries import Filter
from bench.store.store import Store

DAYS = [f"2026-01-{day:02}T00:00:00+00:00" for day in range(1, 10)]


def stored(number: int, value: float = 100.0, backend: str = "pytorch", **changes: object) -> Run:
    name = f"2026010{number}T000000-aaaa"
    moment = DAYS[number - 1]
    records = [comparable(value, backend, started_at=moment, **changes)]
    return run(name).model_copy(update={"started_at": moment, "records": records})


@pytest.fixture
def store(store_url: str) -> Store:
    opened = Store(store_url)
    opened.add(stored(1))
    opened.add(stored(2, 101.0, commit="c0ffee" + "0" * 34))
    opened.add(stored(3, 50.0, "keras"))
    return opened


def names(listed: list[queries.Listed]) -> list[int]:
    return [int(one.name[7]) for one in listed]


def test_runs_are_listed_newest_first(store: Store) -> None:
    listed = queries.runs(store, Filter(), 10)
    assert names(listed) == [3, 2, 1]
    assert (listed[0].rows, listed[0].workloads, listed[0].machines) == (("keras",), ("m/d/r",), ("x",))
    assert names(queries.runs(store, Filter(), 2)) == [3, 2]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (Filter(backend="pytorch"), [2, 1]),
        (Filter(workload=("m", "d", "r")), [3, 2, 1]),
        (Filter(workload=("m", "d", "other")), []),
        (Filter(machine="x"), [3, 2, 1]),
        (Filter(machine="y"), []),
        (Filter(commit="c0ffee"), [2]),
        (Filter(since=queries.parse_since("2026-01-02")), [3, 2]),
        (Filter(backend="pytorch", since=queries.parse_since("2026-01-02")), [2]),
    ],
)
def test_filters(store: Store, which: Filter, expected: list[int]) -> None:
    assert names(queries.runs(store, which, 10)) == expected


def test_times_of_since() -> None:
    assert queries.parse_since("2026-01-02").isoformat() == "2026-01-02T00:00:00+00:00"
    assert (queries.parse_since("1h") - queries.parse_since("3h")).total_seconds() == pytest.approx(7200, abs=5)
    days = queries.parse_since("1h") - queries.parse_since("30d")
    assert days.total_seconds() == pytest.approx(29 * 86400 + 82800, abs=5)
    assert queries.parse_since("2026-01-02T00:00+05:00").isoformat() == "2026-01-01T19:00:00+00:00"
    with pytest.raises(UsageError, match="--since tomorrow: not a time"):
        queries.parse_since("tomorrow")
    with pytest.raises(UsageError, match="not a date such as"):
        queries.parse_since("2026-99-99")
    with pytest.raises(UsageError, match="before the first year"):
        queries.parse_since("99999999999h")


def test_series_hold_one_key_each_oldest_first(store: Store) -> None:
    store.add(stored(4, 99.0, machine={"id": "y", "gpus": []}))
    listed = queries.series(store, Filter(), None, 100)
    values = {(row_name(one, listed), one.machine): [p.value for p in one.points] for one in listed}
    assert values == {("pytorch", "x"): [100.0, 101.0], ("keras", "x"): [50.0], ("pytorch", "y"): [99.0]}
    assert queries.series(store, Filter(), "accuracy", 100) == []
    (newest,) = queries.series(store, Filter(backend="pytorch", machine="x"), "throughput", 1)
    assert [point.value for point in newest.points] == [101.0]


def test_rows_that_are_not_comparable_are_in_no_series(store: Store) -> None:
    bad = stored(5, 1.0)
    records = [record.model_copy(update={"status": "failed"}) for record in bad.records]
    store.add(bad.model_copy(update={"records": records}))
    assert queries.runs(store, Filter(), 1)[0].rows == ("pytorch: failed",)
    assert all(p.value > 1 for one in queries.series(store, Filter(), None, 100) for p in one.points)


def test_runs_by_tag_commit_and_age(store: Store) -> None:
    assert queries.tag(store, "good", "20260101") == stored(1).name
    assert store.load("good").name == stored(1).name
    assert store.load("last~1").name == stored(2).name
    assert store.load("last").name == store.load().name == stored(3).name
    assert store.load("c0ffee0").name == stored(2).name
    assert queries.tag(store, "good", "last") == stored(3).name
    assert store.load("good").name == stored(3).name, "a tag moves"
    with pytest.raises(UsageError, match="no run 'last~9'"):
        store.load("last~9")
    with pytest.raises(UsageError, match="tag 'last'"):
        queries.tag(store, "last", None)


def test_deleting_takes_all_or_none(store: Store) -> None:
    queries.tag(store, "good", "last")
    with pytest.raises(UsageError, match="no run 'nothing'"):
        queries.delete(store, [stored(1).name, "nothing"])
    assert len(queries.runs(store, Filter(), 10)) == 3
    assert queries.delete(store, ["good", stored(1).name]) == [stored(3).name, stored(1).name]
    assert names(queries.runs(store, Filter(), 10)) == [2]
    assert len(queries.series(store, Filter(), None, 10)) == 1, "metrics are deleted with their run"
    with pytest.raises(UsageError, match="no run 'good'"):
        store.load("good")


@pytest.mark.parametrize("name", ["", "2026", stored(1).name[:12]])
def test_only_a_full_name_deletes(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="no run"):
        queries.delete(store, [name])
    assert len(queries.runs(store, Filter(), 10)) == 3


def test_pruning_keeps_the_newest_and_tagged_runs(store: Store) -> None:
    queries.tag(store, "good", stored(1).name)
    assert queries.prune(store, Filter(), keep=1, dry_run=True) == [stored(2).name]
    assert len(queries.runs(store, Filter(), 10)) == 3
    assert queries.prune(store, Filter(backend="keras"), keep=0, dry_run=False) == [stored(3).name]
    assert queries.prune(store, Filter(), keep=0, dry_run=False) == [stored(2).name]
    assert names(queries.runs(store, Filter(), 10)) == [1]


def test_an_acknowledged_run_keeps_its_note(store: Store) -> None:
    queries.acknowledge(store, "last~1", "torch 2.14")
    assert queries.runs(store, Filter(), 10)[1].acknowledged == "torch 2.14"
    (one,) = queries.series(store, Filter(backend="pytorch"), None, 10)
    assert [point.acknowledged for point in one.points] == [None, "torch 2.14"]


def test_an_export_is_imported_once(store: Store) -> None:
    text = export(stored(6).model_copy(update={"schedule": [["a"]], "timing": {"wall": 1.0}}))
    assert queries.import_(store, text, "f") == (stored(6).name, True)
    assert queries.import_(store, text, "f") == (stored(6).name, False)
    assert export(store.load(stored(6).name)) == text
    document = json.loads(text)
    document["command"] = "another"
    with pytest.raises(BenchError, match="another run"):
        queries.import_(store, json.dumps(document), "f")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: "{", "not a document of bench export"),
        (lambda d: "[]", "not a document of bench export"),
        (lambda d: json.dumps({**d, "schema": 99}), "newer evenbench"),
        (lambda d: json.dumps({k: v for k, v in d.items() if k != "command"}), "not a document"),
        (lambda d: json.dumps({**d, "records": [{"status": "ok"}]}), "not a document"),
    ],
)
def test_other_documents_are_refused(store: Store, change: Callable[[dict[str, object]], str], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        queries.import_(store, change(json.loads(export(stored(6)))), "file.json")
    assert len(queries.runs(store, Filter(), 10)) == 3

"""Documents from elsewhere: what is wrong is refused in one line with its place; what is let in can be reported."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import recorded

from bench.analysis import run_comparison, trends
from bench.errors import BenchError
from bench.records import untrusted
from bench.records.export import export, parse_export
from bench.records.record import Run
from bench.store import queries
from bench.store.queries import Filter
from bench.store.store import Store
from reports.content import comparison, history, plots, tables
from reports.content.timing import timing_table
from reports.exports import bencher, github_action_benchmark, pytest_benchmark
from reports.pages import html, markdown, pull_request
from reports.render.text import render

DATA = Path(__file__).parents[1] / "data"


def document(schema: int = 4) -> dict[str, Any]:
    """An exported run."""
    found: dict[str, Any] = json.loads(
        export(recorded()) if schema == 4 else (DATA / f"schema{schema}.json").read_text()
    )
    return found


def put(content: Any, place: str, value: Any) -> None:
    """Replace the value at a place such as ``records[0].figures[1].value``; a place that is not there is added."""
    *way, last = [int(part) if part.isdigit() else part for part in re.findall(r"\w+", place)]
    for part in way:
        content = content[part]
    content[last] = value


def refused(content: Any) -> str:
    """The reason for which a document is refused."""
    with pytest.raises(BenchError) as caught:
        parse_export(content if isinstance(content, str) else json.dumps(content), "FILE")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix("FILE is not a document of bench export --format json: ")


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        ("records[1].figures[2].value", -5.0, r"records\[1\]\.figures\[2\]\.value: -5 is not above zero"),
        ("records[1].figures[2].value", "12", r"records\[1\]\.figures\[2\]\.value: Input should be a valid number.*"),
        ("records[1].figures[2].value", 10**400, r"records\[1\]\.figures\[2\]\.value: a whole number of more.*"),
        ("records[1].figures[2].value", 1e308, r"records\[1\]\.figures\[2\]\.value: 1e\+308 is no number that is.*"),
        ("records[1].figures[2].name", "speed", r"records\[1\]\.figures\[2\]\.name: unknown figure 'speed'"),
        ("records[1].figures[2].name", "", r"records\[1\]\.figures\[2\]\.name: unknown figure ''"),
        ("records[1].figures[0].batch_size", 0, r"records\[1\]\.figures\[0\]\.batch_size: it is below 1"),
        ("records[1].figures[0].n", -1, r"records\[1\]\.figures\[0\]\.n: a count below zero"),
        ("records[1].figures[0].low", 1.0, r"records\[1\]\.figures\[0\]: an interval with one end"),
        ("records[1].figures[0].samples[0].round", -1, r"records\[1\]\.figures\[0\]\.samples\[0\]\.round: a count.*"),
        ("records[1].figures[0].more", 1, r"records\[1\]\.figures\[0\]\.more: Extra inputs are not permitted"),
        ("rounds", -3, "rounds: a count below zero"),
        ("started_at", "yesterday", "started_at: 'yesterday' is no date of ISO 8601"),
        ("records[0].started_at", "2026-13-45T00:00:00+00:00", r"records\[0\]\.started_at: '2026-13-45.*"),
        ("started_at", "2026-01-01T00:00:00", "started_at: .* has no time zone"),
        ("run", "", "run: '' is no name of a run.*"),
        ("run", "last", "run: 'last' is no name of a run.*"),
        ("run", "../../etc/passwd", "run: .* is no name of a run.*"),
        ("run", 7, "name: Input should be a valid string"),
        ("records[0].job.backend", "x" * 10_000, r"records\[0\]\.job\.backend: a text of 10,000 characters.*"),
        ("records[0].job.backend", "  ", r"records\[0\]\.job\.backend: it is empty"),
        ("records[0].job.backend", "\x1b[2Jkeras", r"records\[0\]\.job\.backend: control .* in '\\x1b\[2Jkeras'"),
        ("records[0].job.model", "a\nb", r"records\[0\]\.job\.model: control characters in 'a\\nb'"),
        ("records[0].log", "\x9b31m", r"records\[0\]\.log: control characters.*"),
        ("records[0].error", "a \u202e b", r"records\[0\]\.error: control characters.*"),
        ("records[0].job.threads", 0, r"records\[0\]\.job.*"),
        ("records[0].machine.memory", "much", r"records\[0\]\.machine\.memory: Input should be a valid number"),
        ("records[0].machine.gpus", [{}], r"records\[0\]\.machine\.gpus\[0\]\.name: Field required"),
        ("records[0].outcome.confusion", [[1]], r"records\[0\]\.outcome\.confusion: it is no square.*"),
        ("records[0]", 3, r"records\[0\]: .*"),
        ("records", {}, "the document: it has no list 'records'"),
        ("timing", {"wall": "long"}, "timing.wall: Input should be a valid number"),
        ("schema", "4", "schema: not a number from 1 to 4"),
        ("schema", True, "schema: not a number from 1 to 4"),
        ("schema", 0, "schema: not a number from 1 to 4"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_place(place: str, value: Any, reason: str) -> None:
    content = document()
    put(content, place, value)
    assert re.fullmatch(reason, refused(content))


def test_a_value_lies_within_its_interval() -> None:
    content = document()
    content["records"][0]["figures"][0] |= {"low": 1e12, "high": 2e12}
    assert refused(content) == "records[0].figures[0]: the value is not within its interval [1e+12, 2e+12]"
    content["records"][0]["figures"][0] |= {"low": 2.0, "high": 1e12}
    parse_export(json.dumps(content), "FILE")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(constant: str) -> None:
    content = document()
    put(content, "records[1].figures[0].value", 123456789.5)
    text = json.dumps(content).replace("123456789.5", constant)
    assert constant in text
    reason = refused(text)
    assert "no number of JSON" in reason or reason.startswith(
        "records[1].figures[0].value: a number that is not finite"
    )


def test_names_that_stand_twice_are_refused() -> None:
    content = document()
    content["records"].append(content["records"][0])
    assert refused(content).startswith(f"records[{len(content['records']) - 1}]: a second row ")
    content = document()
    figures = content["records"][0]["figures"]
    figures.append(figures[0])
    assert refused(content).startswith(f"records[0].figures[{len(figures) - 1}]: a second figure ")
    assert refused('{"schema": 4, "schema": 4, "records": []}') == "the document: 'schema' stands twice in one object"


def test_what_is_no_document_is_refused() -> None:
    assert refused("[" * 100_000).startswith("the document: nested deeper")
    deep: Any = 1
    for _ in range(untrusted.DEEPEST + 5):
        deep = {"in": deep}
    assert refused({"schema": 4, "records": [{"machine": deep}]}).startswith("records[0].machine.in.in")
    assert refused("").startswith("Expecting value")
    assert refused("[]") == "the document: it has no list 'records'"
    assert refused('{"records": []}') == "'schema' is missing"
    assert refused(f'{{"schema": 4, "records": [{"9" * 5000}]}}').startswith("Exceeds the limit")


def test_a_document_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "LARGEST_FILE", 2**20)
    assert refused(" " * (2**20 + 1)) == "the document: larger than 1 MiB"


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_older_documents_are_checked_before_they_are_upgraded(schema: int) -> None:
    for place in ("records[0].job", "records[0].figures[0]", "records[0].figures[0].samples[0].slices", "records[0]"):
        content = document(schema)
        put(content, place, 5)
        assert refused(content).startswith(f"{place}: it is not ")
    content = document(schema)
    del content["records"][0]["figures"][0]["name"]
    assert refused(content) == "'name' is missing"


def leaves(content: Any, place: str = "") -> Iterator[str]:
    """A place of each kind: of lists only the first element."""
    if isinstance(content, dict):
        for name, inner in content.items():
            yield from leaves(inner, f"{place}.{name}" if place else name)
    elif isinstance(content, list) and content:
        yield from leaves(content[0], f"{place}[0]")
    if place:
        yield place


HOSTILE = (
    None,
    -1,
    0,
    10**400,
    1e300,
    1e-300,
    "",
    "x" * 10_000,
    "a\x1b[2J",
    "\ud800",
    [],
    {},
    [[[]]],
    True,
    {"a": [1]},
)


def short(content: Any) -> Any:
    """With at most two elements of a list."""
    if isinstance(content, dict):
        return {name: short(inner) for name, inner in content.items()}
    return [short(inner) for inner in content[:2]] if isinstance(content, list) else content


def test_our_own_exports_are_let_in() -> None:
    """A worker's log may hold terminal escapes, what a framework says of itself several lines."""
    run = recorded()
    odd = run.records[0].model_copy(
        update={"log": "\x1b[31mred\x1b[0m\n\tline", "error": "a\x00b", "settings": {"build": ["two\nlines"]}}
    )
    (read, *_) = parse_export(export(run.model_copy(update={"records": [odd, *run.records[1:]]})), "FILE").records
    assert (read.log, read.error) == ("?[31mred?[0m\n\tline", "a?b")
    assert read.settings == {"build": ["two?lines"]}


@pytest.mark.usefixtures("process")
def test_whatever_is_let_in_can_be_shown(tmp_path: Path) -> None:
    """Every value of a document is replaced by hostile ones: one line, or a run that every command can show (40 s, so
    not among the quick tests)."""
    whole = document()
    whole["records"] = [{**short(record), "outcome": record["outcome"]} for record in whole["records"][:2]]
    store, other = Store(str(tmp_path / "history.db")), recorded()
    places = sorted(set(leaves(whole)))
    assert len(places) > 100
    shown, refusals = 0, []
    for place in places:
        let_in = None
        for value in HOSTILE:
            content = copy.deepcopy(whole)
            put(content, place, value)
            try:
                let_in = parse_export(json.dumps(content), "FILE")
            except BenchError as error:
                refusals.append(str(error))
        if let_in is not None:
            shown += 1
            show(let_in.model_copy(update={"name": f"run-{shown}"}), store, other, place)
    assert shown > 20
    assert len(refusals) > 1000
    assert all(refusal.isprintable() for refusal in refusals), "one line, without terminal escapes"


def show(run: Run, store: Store, other: Run, what: str) -> None:
    """As ``report``, ``export``, ``history`` and ``compare`` do."""
    try:
        render(tables.document(run), "simple")
        markdown.render(run)
        pull_request.run_comment(run)
        timing_table(run)
        plots.run_sections(run)
        html.run_page(run)
        json.loads(export(run))
        for bigger in (True, False):
            github_action_benchmark.document(run, bigger)
        pytest_benchmark.document(run)
        bencher.document(run)
        store.add(run)
        series = queries.series(store, Filter(), None, 3)
        shifts = trends.all_level_shifts(series)
        history.change_points(series, shifts)
        html.history_page(series, shifts, "bench history")
        history.runs(queries.runs(store, Filter(), 3), 3)
        with contextlib.suppress(BenchError):  # its key is another one
            comparison.document(run_comparison.compare(run, other, {}, frozenset()))
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error

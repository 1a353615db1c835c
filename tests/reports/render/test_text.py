"""Documents in every format: complete, and harmless whatever foreign text they contain."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from builders import HOSTILE, hostile_run

from bench.errors import UsageError
from reports.content import tables
from reports.pages import markdown, pull_request
from reports.render.text import FORMATS, body, check_format, in_spreadsheet, render
from reports.table import Document, Table

DOCUMENT = Document(
    [Table("t (x)", ["name", "n"], [["a", "-1.5"], ["b", "2 ±3%"]], numbers_from=1)], ["a note"], "head"
)
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
HTML = {"html", "github"}
"""Formats that may be shown as HTML."""


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_shows_all_of_it(name: str) -> None:
    text = render(DOCUMENT, check_format(name))
    for part in ("name", "a note", "head"):
        assert part in text
    assert re.search(r"2 (±|\\u00b1)3", text), text


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_records_do_no_harm(name: str) -> None:
    text = render(tables.document(hostile_run()), name)
    assert not CONTROL.search(text.replace("\t", "") if name == "tsv" else text), "terminal escapes"
    if name == "json":
        assert json.loads(text)["tables"]
    if name in HTML:
        assert "<script" not in text
        assert "<img" not in text
    if name == "latex":
        assert not re.search(r"(?<!\\textbackslash)\\input", text)
        assert not re.search(r"(?<!\\)%", text)
    if name == "github":
        rows = [line for line in text.splitlines() if line.startswith("|")]
        borders = {len(re.findall(r"(?<!\\)\|", line)) for line in rows}
        assert len(borders) <= len(tables.document(hostile_run()).tables), "a row broke"
        assert not re.search(r"(?<!\\)\]\(", text), "a link"


@pytest.mark.parametrize("name", ["csv", "tsv"])
def test_no_cell_is_a_formula(name: str) -> None:
    text = render(tables.document(hostile_run()), name)
    for cells in csv.reader(io.StringIO(text), delimiter="," if name == "csv" else "\t"):
        for cell in cells:
            assert not re.match(r"\s*[=+@-](?![\d.,]*(e[+-]?\d+)?%?$)", cell), cell


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("-1.5", "-1.5"),
        ("+0.62", "+0.62"),
        ("-", "-"),
        ("-2+3", "'-2+3"),
        ("@x", "'@x"),
        (" =x", "' =x"),
        ("a=b", "a=b"),
        ("-5.0%", "-5.0%"),
    ],
)
def test_formulas_are_escaped_for_spreadsheets(text: str, shown: str) -> None:
    assert in_spreadsheet(text) == shown


def test_csv_is_read_back() -> None:
    parts = render(DOCUMENT, "csv").split("\n\n")
    assert parts[0] == "head"
    assert list(csv.reader(io.StringIO(parts[1]))) == [["t (x)"], ["name", "n"], ["a", "-1.5"], ["b", "2 ±3%"]]
    quoted = Document([Table("t", ["a"], [['x, "y"']])])
    assert list(csv.reader(io.StringIO(render(quoted, "csv"))))[2] == ['x, "y"']


def test_json_is_one_object() -> None:
    document = json.loads(render(DOCUMENT, "json"))
    assert document["tables"] == [{"title": "t (x)", "columns": ["name", "n"], "rows": [["a", "-1.5"], ["b", "2 ±3%"]]}]
    assert (document["headline"], document["notes"]) == ("head", ["a note"])


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown format 'gitub'; did you mean 'github'\? \(one of .*csv, json"):
        check_format("gitub")


def test_markdown_and_the_comment_do_no_harm() -> None:
    for text in (markdown.render(hostile_run()), pull_request.run_comment(hostile_run())):
        assert not CONTROL.search(text)
        text = re.sub(r"`[^`\n]*`", "", text)  # code is shown as it is
        assert "<script" not in text
        assert "<img" not in text
        assert not re.search(r"(?<!\\)\]\(", text)
        assert not re.search(r"^# head", text, re.MULTILINE)


def test_foreign_cells_stay_in_their_cells() -> None:
    table = Table("t", ["a", "x|\x1b[31m"], [["p|q", "r"], *[[text, "s"] for text in HOSTILE]])
    lines = body(table, "github").splitlines()
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}

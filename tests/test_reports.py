"""Tables and Markdown: what was not measured is said, every figure is defined, foreign text is shown as text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.job import Figure, Record, Run
from bench.ratios import SPEEDS, with_ratios
from reports import markdown, tables
from reports.definitions import FIGURES

SCHEMA1 = Path(__file__).parent / "records" / "schema1.json"


@pytest.fixture
def run() -> Run:
    document = json.loads(SCHEMA1.read_text())
    records = [Record.model_validate(record) for record in document["records"]]
    return Run(
        name=document["run"],
        command=document["command"],
        started_at=document["started_at"],
        rounds=document["rounds"],
        records=with_ratios(records),
    )


def changed(run: Run, index: int, **changes: object) -> Run:
    records = list(run.records)
    records[index] = Record.model_validate({**records[index].model_dump(), **changes})
    return run.model_copy(update={"records": records})


def test_every_figure_is_defined(run: Run) -> None:
    names = {figure.name for record in run.records for figure in record.figures}
    assert names <= FIGURES.keys()
    assert names >= SPEEDS
    text = markdown.render(run)
    assert all(f"**{name}**" in text for name in FIGURES)


def test_cells_have_values_intervals_and_reasons(run: Run) -> None:
    text = tables.text(run)
    trained = next(record for record in run.records if record.job.backend == "pytorch")
    throughput = trained.figure("throughput", "train", "end-to-end")
    assert f"{throughput.value:,.0f} ±" in text
    assert re.search(r"reference .* n/m \[a\]", text)
    assert "[a] not measured: reference does not train to a recipe's end" in text
    assert not re.search(r"\b(nan|None)\b", text)
    assert "n = 3 processes, ± 95%" in text
    assert "Adam's epsilon enters differently (corrected: pytorch, reference; epsilon-hat: keras)" in text


def test_the_fastest_comparable_row_is_one(run: Run) -> None:
    table = next(table for table in tables.build(run, tables.Notes()) if table.title.startswith("Training"))
    ratios = [row[2] for row in table.rows if row[2] != "-"]
    assert "1" in ratios
    assert all(float(ratio.split()[0]) <= 1 for ratio in ratios)


def test_a_single_round_has_no_interval_and_says_so(run: Run) -> None:
    plain = json.loads(run.model_dump_json())
    for record in plain["records"]:
        record["ratios"] = []
        for figure in record["figures"]:
            if figure["n"]:
                figure |= {"n": 1, "low": None, "high": None, "samples": figure["samples"][:1]}
    text = tables.text(Run.model_validate(plain))
    assert "±" not in text
    assert "n = 1 process" in text
    assert "no intervals: one process has no spread between processes" in text


def test_failed_and_incomparable_rows_are_shown_with_their_reasons(run: Run) -> None:
    checks = [{"name": "logits", "value": 0.5, "tolerance": 2e-6, "passed": False}]
    broken = changed(run, 0, parity={"comparable": False, "checks": checks}, ratios=[])
    assert "not comparable: logits 5.0e-01 > 2e-06" in tables.text(broken)
    crashed = changed(run, 0, status="crashed", error="signal SIGSEGV", figures=[], ratios=[])
    text = tables.text(crashed)
    assert "crashed: signal SIGSEGV" in text
    assert "not measured: crashed: signal SIGSEGV" in text


@pytest.mark.parametrize("format_name", ["simple", "github", "grid", "latex", "tsv", "html"])
def test_every_format_of_tabulate(run: Run, format_name: str) -> None:
    assert "pytorch" in tables.text(run, tables.check_format(format_name))


HOSTILE = "<script>alert(1)</script> | **bold** \x1b[31m \n# head"


def test_foreign_text_is_text_in_markdown(run: Run) -> None:
    text = markdown.render(changed(run, 0, status="failed", error=HOSTILE, figures=[], ratios=[]))
    assert "<script>" not in text
    assert "\n# head" not in text
    assert "\\| \\*\\*bold\\*\\*" in text
    rows = [line for line in text.splitlines() if line.startswith("| keras") and "alert" in line]
    assert [line.count("|") - line.count("\\|") for line in rows] == [8]


def test_foreign_text_does_not_reach_the_terminal_raw(run: Run) -> None:
    text = tables.text(changed(run, 0, status="failed", error=HOSTILE, figures=[], ratios=[]))
    assert "\x1b" not in text
    assert "\n# head" not in text


def test_two_devices_are_told_apart(run: Run) -> None:
    first = run.records[0]
    twin = first.model_copy(update={"job": first.job.model_copy(update={"device": "cuda"})})
    both = run.model_copy(update={"records": [first, twin]})
    text = tables.text(both)
    assert f"{first.job.backend} cpu" in text
    assert f"{first.job.backend} cuda" in text


@pytest.mark.parametrize(
    ("low", "high", "shown"), [(90, 1 / 0.009, "±11%"), (99, 100 / 0.99, "±1.0%"), (None, None, "100")]
)
def test_half_width_is_a_percentage(low: float | None, high: float | None, shown: str) -> None:
    figure = Figure(name="throughput", value=100.0, unit="images/s", low=low, high=high, n=3)
    text = tables.cell(figure, tables.FORMATS["throughput"], tables.Notes(), None)  # type: ignore[arg-type]
    assert text.endswith(shown)

"""Tables and Markdown: missing values have a reason, every metric is defined, foreign text is shown as text."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from builders import row, speed
from builders import run as made_of

from bench.analysis.ratios import with_ratios
from bench.records.metrics import METRICS
from bench.records.record import Figure, Record, Run, label
from reports.content import definitions, tables
from reports.content.timing import timing_table
from reports.pages import html, markdown
from reports.render import text as formats
from reports.render.text import body, check_format
from reports.table import Document, Table


def as_text(run: Run, format_name: str = "simple") -> str:
    return formats.render(tables.document(run), format_name)


def changed(run: Run, index: int, **changes: object) -> Run:
    records = list(run.records)
    records[index] = Record.model_validate({**records[index].model_dump(), **changes})
    return run.model_copy(update={"records": records})


GROUPS = ("throughput", "latency", "start and size", "outcome")
"""Of every run; those of load are of ``bench serve``, energy came later than this stored run."""


def test_every_metric_is_defined(run: Run) -> None:
    names = {figure.name for record in run.records for figure in record.figures}
    assert names <= METRICS.keys()
    assert names >= {name for name, metric in METRICS.items() if metric.compared and metric.group in GROUPS}
    text = markdown.render(run)
    assert all(f"**{name}**: {words}" in text for name, words in definitions.definitions().items())


def test_cells_have_values_intervals_and_reasons(run: Run) -> None:
    text = as_text(run)
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
    text = as_text(Run.model_validate(plain))
    assert "±" not in text
    assert "n = 1 process" in text
    assert "no intervals: one process has no spread between processes" in text


def test_failed_and_incomparable_rows_are_shown_with_their_reasons(run: Run) -> None:
    checks = [{"name": "logits", "value": 0.5, "tolerance": 2e-6, "passed": False}]
    broken = changed(run, 0, parity={"comparable": False, "checks": checks}, ratios=[])
    assert "not comparable: logits 5.0e-01 > 2e-06" in as_text(broken)
    crashed = changed(run, 0, status="crashed", error="signal SIGSEGV", figures=[], ratios=[])
    text = as_text(crashed)
    assert "crashed: signal SIGSEGV" in text
    assert "not measured: crashed: signal SIGSEGV" in text


@pytest.mark.parametrize("format_name", ["simple", "github", "grid", "latex", "tsv", "html"])
def test_every_format_of_tabulate(run: Run, format_name: str) -> None:
    assert "pytorch" in as_text(run, check_format(format_name))


def test_a_disturbed_row_is_marked_with_its_reason(run: Run) -> None:
    quiet = changed(run, 0, disturbance={"disturbed": False, "reason": "", "slices": 6})
    assert "(!)" not in as_text(quiet)
    noise = {"disturbed": True, "reason": "other processes used 48% of its cores", "slices": 12, "marked": 9}
    text = as_text(changed(run, 0, disturbance=noise))
    name = label(run.records[0].job, [record.job for record in run.records])
    assert f"{name} (!)" in text
    assert f"(!) {name} was disturbed: other processes used 48% of its cores; 9 of 12 slices are marked" in text
    assert "| YES |" in re.sub(" +", " ", markdown.render(changed(run, 0, disturbance=noise)))
    blind = {"disturbed": None, "reason": "not visible here: no /proc", "slices": 6}
    assert f"{name}: disturbance not visible here: no /proc" in as_text(changed(run, 0, disturbance=blind))


def arena(value: float, low: float | None, high: float | None) -> dict[str, object]:
    place = {"name": "throughput", "task": "train", "batch_size": 128, "boundary": "device"}
    return {**place, "value": value, "low": low, "high": high, "n": 3, "against": "--allocator system"}


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (arena(1.26, 1.2, 1.32), True),
        (arena(1.04, 1.03, 1.05), False),
        (arena(1.3, 0.9, 1.8), False),
        (arena(1.3, None, None), True),
    ],
)
def test_a_faster_allocator_is_named_with_its_setting(run: Run, ratio: dict[str, object], said: bool) -> None:
    text = as_text(changed(run, 0, arena=[ratio]))
    assert ("higher with --allocator arena" in text) is said
    if ratio["low"] == 1.2:
        assert (
            "train throughput device is 26% higher with --allocator arena (1.26 times, 95% interval 1.2 to 1.32" in text
        )


def test_timing_adds_up_to_the_wall_time(run: Run) -> None:
    assert "not recorded" in formats.render(Document([timing_table(run)]))
    phases = {"import": 4.0, "fit": 3.0, "timed": 2.0, "spawn": 0.5}
    timing = {"wall": 12.0, "timed": 2.1, "parent_cpu_while_timed": 0.021, "asleep_wait": 0.5, "phases": phases}
    rows = {row[0]: row[1:] for row in timing_table(run.model_copy(update={"timing": timing})).rows}
    assert rows["useful, sum of the above"] == ["9.00", "75.0%"]
    assert rows["everything else"] == ["2.00", "16.7%"]
    assert rows["wall time"] == ["12.00", "100.0%"]
    assert rows["CPU time of the parent while a worker was timed"] == ["0.021", "1.0%"]


HOSTILE = "<script>alert(1)</script> | **bold** \x1b[31m \n# head"


def test_foreign_text_is_text_in_markdown(run: Run) -> None:
    assert run.records[0].parity is not None
    parity = run.records[0].parity.model_copy(update={"uncertified": HOSTILE})
    text = markdown.render(changed(run, 0, status="failed", error=HOSTILE, parity=parity, figures=[], ratios=[]))
    assert "<script>" not in text
    assert "\n# head" not in text
    assert "\\| \\*\\*bold\\*\\*" in text
    rows = [line for line in text.splitlines() if line.startswith("| keras") and "alert" in line]
    assert [line.count("|") - line.count("\\|") for line in rows] == [8]
    (note,) = (line for line in text.splitlines() if "not measured" in line and "alert" in line)
    letter = note[note.index("[") : note.index("]") + 1].replace("\\", "")
    assert "failed: " in note
    assert all(f"failed {letter}" in row.replace("\\", "") for row in rows), "the status leads to its reason"


def test_foreign_text_does_not_reach_the_terminal_raw(run: Run) -> None:
    text = as_text(changed(run, 0, status="failed", error=HOSTILE, figures=[], ratios=[]))
    assert "\x1b" not in text
    assert "\n# head" not in text


def test_two_devices_are_distinguished(run: Run) -> None:
    first = run.records[0]
    twin = first.model_copy(update={"job": replace(first.job, device="cuda")})
    both = run.model_copy(update={"records": [first, twin]})
    text = as_text(both)
    assert f"{first.job.backend} cpu" in text
    assert f"{first.job.backend} cuda" in text


@pytest.mark.parametrize(
    ("low", "high", "shown"), [(90, 1 / 0.009, "±11%"), (99, 100 / 0.99, "±1.0%"), (None, None, "100")]
)
def test_half_width_is_a_percentage(low: float | None, high: float | None, shown: str) -> None:
    figure = Figure(name="throughput", value=100.0, unit="images/s", low=low, high=high, n=3)
    text = tables.cell(figure, tables.Notes(), None)  # type: ignore[arg-type]
    assert text.endswith(shown)


def test_headers_and_bars_of_foreign_text_stay_in_their_cells() -> None:
    table = Table("t", ["a", "x|\x1b[31m"], [["p|q", "r"]])
    assert "\x1b" not in body(table, "simple")
    lines = body(table, "github").splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines} == {3}


def test_a_sweep_of_batch_sizes_is_a_table_of_its_own() -> None:
    """The table has a column for every batch size, and the batch size at which the metric is best."""
    a = row("a", [speed([100.0, 101.0], batch_size=8), speed([300.0, 301.0], batch_size=64)])
    b = row("b", [speed([500.0, 501.0], batch_size=8), speed([200.0, 201.0], batch_size=64)])
    swept = next(t for t in tables.build(made_of(a, b), tables.Notes()) if "by batch size" in t.title)
    assert swept.title == "Inference throughput by batch size (end-to-end, images/s; n = 2 processes, ± 95%)"
    assert swept.headers == ["row", "batch 8", "batch 64", "best"]
    assert [line[-1] for line in swept.rows] == ["batch 64", "batch 8"]


def test_a_metric_of_another_version_breaks_nothing() -> None:
    """An export of a later version may have metrics that this version does not know: the others are shown."""
    made = made_of(row("a", [speed([100.0, 101.0])]), row("b", [speed([200.0, 201.0])]))
    figures = [figure.model_copy(update={"name": "strange", "unit": "x"}) for figure in made.records[0].figures]
    samples = [sample.model_copy(update={"steady": False}) for sample in figures[0].samples]
    figures = [figures[0].model_copy(update={"samples": samples}), *made.records[0].figures]
    strange = changed(made, 0, figures=[figure.model_dump() for figure in figures])
    strange = strange.model_copy(update={"records": with_ratios(strange.records)})
    assert "101 images/s" not in as_text(strange)
    assert "100 ±" in as_text(strange)
    assert "strange" not in markdown.render(strange)
    assert "strange" not in html.run_page(strange)

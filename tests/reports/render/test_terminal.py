"""The output to a terminal, and to a pipe."""

from __future__ import annotations

import io

import pytest
from builders import HOSTILE, figure, hostile_run, latency, row, run, speed
from rich.console import Console

from reports.content import tables
from reports.render.terminal import fit_to_width, show
from reports.render.text import render
from reports.table import Document, Table

DEVICE = figure("throughput", [6000.0, 6100.0, 6050.0], task="infer", batch_size=128, boundary="device")
WIDE = run(
    row(
        "onnxruntime",
        [speed([5000.0, 5100.0, 5050.0]), speed([900.0, 910.0, 905.0], "train"), latency([0.001, 0.0011]), DEVICE],
        job={"source": "pytorch"},
    ),
    row(
        "pytorch",
        [speed([4000.0, 4100.0, 4050.0]), speed([800.0, 810.0, 805.0], "train"), latency([0.002, 0.0021]), DEVICE],
    ),
)


def shown(document: Document, format_name: str = "simple", *, terminal: bool, width: int = 80) -> str:
    out = io.StringIO()
    show(document, format_name, Console(file=out, force_terminal=terminal, width=width, highlight=False))
    return out.getvalue()


def test_a_pipe_gets_plain_and_complete_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert shown(tables.document(WIDE), terminal=False) == render(tables.document(WIDE)) + "\n"


def test_tables_fit_into_eighty_columns_and_name_the_columns_left_out() -> None:
    text = fit_to_width(tables.document(WIDE), 80)
    assert all(len(line) <= 80 for line in text.splitlines()), text
    assert "left out of Inference throughput to fit 80 columns: device [images/s], × fastest" in " ".join(text.split())
    assert "(--format github shows all)" in text
    assert "onnxruntime <- pytorch" in text
    assert fit_to_width(tables.document(WIDE), 400) == render(tables.document(WIDE)), "a wide terminal shows everything"


def test_long_texts_are_wrapped_not_cut() -> None:
    long = "word " * 60
    text = fit_to_width(Document([Table("t", ["a", "b"], [["x", long.strip()]])]), 60)
    assert max(map(len, text.splitlines())) <= 60
    assert text.count("word") == 60


def test_colour_only_on_a_terminal_that_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document([Table("t", ["verdict"], [["REGRESSION"], ["no change"], ["not comparable: x"]])])
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = shown(document, terminal=True)
    assert "\x1b[31mREGRESSION" in coloured
    assert "\x1b[32mno change" in coloured
    assert "\x1b[31mnot comparable" in coloured, "not green for its second word"
    assert "\x1b" not in shown(document, "github", terminal=True), "other formats are read by programs"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in shown(document, terminal=True)


def test_foreign_escapes_do_not_reach_a_terminal() -> None:
    text = fit_to_width(tables.document(hostile_run()), 80)
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert HOSTILE[0] in text.replace("\n", ""), "shown as text"

"""Jobs of a fleet, and their rows by machine."""

from __future__ import annotations

from typing import Any

import pytest
from builders import latency, row, run, speed

from bench.records.placed import Placed, Price, prices
from reports.content import machines
from reports.render.text import render


def placed(number: int, node: str, rate: float, **more: Any) -> Placed:
    versions = more.pop("versions", {"pytorch": "1.0"})
    records = [row("pytorch", [speed([rate, rate * 1.02]), latency([0.001])], versions=versions)]
    content: dict[str, Any] = {
        "number": number, "job": "run --backend=pytorch", "node": node, "machine": f"id-{node}", "status": "done",
        "code": 0, "attempts": 1, "why": "", "log": (), "result": f"run-{number}", "run": run(*records), "check": None,
        "price": None,
    }  # fmt: skip
    return Placed(**{**content, **more})


def test_rows_stand_side_by_side_and_no_ratio_is_formed() -> None:
    text = render(machines.document("fleet-a", [placed(0, "north", 1000), placed(1, "south", 3000)]), "tsv")
    assert "2 of 2 jobs done, on 2 nodes" in text
    lines = [line for line in text.splitlines() if line.startswith("pytorch")]
    assert ["north" in lines[0], "south" in lines[1]] == [True, True]
    assert "1,010" in lines[0]
    assert "a ratio of" in text
    assert "versions that differ" not in text


def test_other_versions_are_marked() -> None:
    document = machines.document(
        "fleet-a", [placed(0, "north", 1), placed(1, "south", 1, versions={"pytorch": "2.0", "onnx": "1"})]
    )
    text = render(document, "tsv")
    assert "versions that differ" in text
    assert "onnx none, pytorch 1.0" in text
    assert "onnx 1, pytorch 2.0" in text


def test_images_for_money_where_a_price_is_known() -> None:
    jobs = [placed(0, "north", 1000, price=Price(2.0, "EUR")), placed(1, "south", 1000)]
    text = render(machines.document("fleet-a", jobs), "tsv")
    assert "million images per EUR" in text
    assert "1.818" in text, "1,010 images/s are 1.818 million images for 1 EUR of an hour of 2 EUR"
    assert "no price of south in [tool.evenbench.prices]" in text


def test_what_failed_and_was_lost_is_told() -> None:
    log = tuple(f"line {number}\x1b[2J" for number in range(9))
    jobs = [
        placed(0, "north", 1, status="lost", code=None, run=None, why="its node died", log=log, attempts=2),
        placed(1, "", 1, status="waiting", code=None, run=None, machine="", result=""),
        placed(2, "south", 1, code=2, run=None, log=("bench: no",)),
    ]
    document = machines.document("fleet-a", jobs)
    text = render(document, "tsv")
    assert "1 of 3 jobs done, 1 lost" in text
    assert "its node died" in text
    assert "line 8" in text
    assert "line 3" not in text
    assert "exit code 2" in text
    assert "\x1b" not in text
    assert "any" in text


@pytest.mark.parametrize("table", [{"a": 0}, {"a": "1"}, {"a": True}, {"currency": 3}, {"a": float("nan")}])
def test_what_is_no_price(table: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="is no"):
        prices(table)


def test_prices_by_machine() -> None:
    assert prices({"currency": "EUR", "a": 1, "b": 2.5}) == ({"a": 1.0, "b": 2.5}, "EUR")

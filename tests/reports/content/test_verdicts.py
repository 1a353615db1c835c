"""The table of verdicts: base, present and change agree."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from html_pages import check

from bench.gate.gated_metric import IN_PAIRS
from bench.records.gate_result import Check
from bench.records.metrics import METRICS, gated
from reports.content import verdicts


def judged(name: str, change: float | None, bases: list[float], **more: Any) -> Check:
    """A check whose pairs have values that disagree with the change, as real pairs may."""
    metric = METRICS[name]
    figure = {
        "row": "pytorch/cpu/fp32/eager",
        "label": "pytorch",
        "name": name,
        "unit": metric.unit,
        "margin": metric.margin,
        "verdict": "no change" if change is not None else "inconclusive",
        "change": change,
        "low": None if change is None else change - 0.009,
        "high": None if change is None else change + 0.009,
        "pairs": [
            {"number": i, "base_first": True, "base": base, "present": 0.996 * base, "harm": 0.0}
            for i, base in enumerate(bases)
        ],
    }
    return check(figures=[figure | more])


def cells(made: Check) -> dict[str, str]:
    table = verdicts.document(made).tables[0]
    return dict(zip(table.headers, table.rows[0], strict=True))


def number(cell: str) -> float:
    return float(re.sub(r"[^\d.]", "", cell.partition(" ")[0]))


@pytest.mark.parametrize("gate", IN_PAIRS)
@pytest.mark.parametrize("change", [-0.0173, 0.0004, 0.3])
def test_present_over_base_is_the_change(gate: str, change: float) -> None:
    metric = gated()[gate]
    bases = [9140.0, 9000.0, 9301.0, 9222.0] if gate == "throughput" else [0.0123, 0.0125, 0.0119]
    made = judged(metric.name, change, bases if gate != "memory" else [2.5e8, 2.61e8])
    levels = verdicts.levels(made.figures[0])
    assert levels is not None
    assert levels[1] / levels[0] - 1 == pytest.approx(change)
    shown = cells(made)
    assert number(shown["present"]) / number(shown["base"]) - 1 == pytest.approx(change, abs=2e-4)
    assert shown["change"] == f"{100 * change:+.2f}%"
    assert shown["base"].endswith(metric.quantity.shown_unit)


def test_accuracy_differs_by_points() -> None:
    shown = cells(judged("accuracy", -0.0123, [0.95, 0.96, 0.97], smallest=0.01))
    assert shown["change"] == "-1.23 points"
    assert number(shown["present"]) - number(shown["base"]) == pytest.approx(-0.0123)
    assert shown["could find"] == "1.0 points"


def test_base_is_the_median_of_the_pairs_that_count() -> None:
    pairs = [
        {"number": i, "base_first": True, "base": base, "present": 1.0, "harm": 0.0, "disturbed": base > 500}
        for i, base in enumerate([100.0, 110.0, 130.0, 900.0, 901.0])
    ]
    made = judged("throughput", math.expm1(0.01), [], pairs=pairs)
    assert number(cells(made)["base"]) == 110
    assert "base: median over the pairs that count; present: that base with the change" in " ".join(
        verdicts.document(made).notes
    )


def test_without_a_change_neither_side_is_shown() -> None:
    shown = cells(judged("throughput", None, [9140.0]))
    assert (shown["change"], shown["base"], shown["present"]) == ("n/m", "n/m", "n/m")

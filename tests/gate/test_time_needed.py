"""The time until a check's first look, from an earlier check."""

from __future__ import annotations

from typing import Any

import pytest

from bench.gate.gated_metric import GatedMetric
from bench.gate.time_needed import until_first_look
from bench.records.gate_result import Check

ROWS = ("a/cpu/fp32/eager", "b/cpu/fp32/eager")
GATED = {GatedMetric(row, "throughput", "infer", 4, "device") for row in ROWS}


def check(seconds: float, pairs: tuple[int, int] = (6, 4), **more: Any) -> Check:
    pair = {"number": 0, "base_first": True, "base": 1.0, "present": 1.0, "harm": 0.0}
    figures = [
        {**GatedMetric(row, "throughput", "infer", 4, "device")._asdict(), "label": row, "unit": "images/s",
         "margin": 0.01, "verdict": "no change", "pairs": [pair] * count}
        for row, count in zip(ROWS, pairs, strict=True)
    ]  # fmt: skip
    environment = {"label": "x"}
    return Check.model_validate({
        "name": "check-1", "command": "", "started_at": "", "base": environment, "present": environment,
        "figures": figures, "looks": [4, 6], "alpha": 0.05, "seconds": seconds, "machine": {"id": "m"},
        "data": {"name": "d", "sha256": "0", "train": 1, "test": 1}, **more,
    })  # fmt: skip


def test_four_pairs_of_each_row_at_the_time_of_a_pair() -> None:
    """Ten pairs of two rows in 50 s: 5 s each, eight until the first look."""
    assert until_first_look(check(50.0), GATED, 4) == pytest.approx(40.0)


def test_what_earlier_checks_cannot_tell() -> None:
    assert until_first_look(check(50.0), {*GATED, GatedMetric("c", "throughput")}, 4) is None
    assert until_first_look(check(0.0), GATED, 4) is None
    assert until_first_look(check(50.0, (0, 0)), GATED, 4) is None

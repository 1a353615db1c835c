"""The time until a check's first look, from an earlier check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.gate.gated_metric import Criteria, GatedMetric
from bench.gate.time_needed import earlier_check, too_noisy, until_first_look, why_too_short
from bench.records.gate_result import Check
from bench.runner.plan import Request
from bench.runner.planner import make_plan
from bench.store.schema import CHECKS
from bench.store.store import Store
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES, Workload

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


def test_a_damaged_check_in_the_store_keeps_no_new_one_from_running(tmp_path: Path) -> None:
    """The newest one that can be read decides."""
    store = Store(str(tmp_path / "history.db"))
    workload = Workload(MODELS["article-keras"], "digits", RECIPES["article-keras"])
    plan = make_plan(Request(("reference",), workload, task="infer", devices="cpu", batch_sizes=(4,)))
    criteria = Criteria(metrics=("throughput",), boundary="device", margins={"throughput": 0.01}, budget=30.0, seeds=1)
    (row,) = (each for each in plan.rows if each.requested)
    earlier = check(50.0, (6, 4)).model_dump(mode="json")
    earlier["figures"] = [{**earlier["figures"][0], "row": row.job.row.id}]
    store.put(CHECKS, "check-1", Check.model_validate(earlier).model_dump_json())
    store.put(CHECKS, "check-2", "{]")
    found = earlier_check(plan, criteria, store, "m", "0")
    assert found is not None
    assert "check-1 took 33 s until its first look, the budget is 30 s; --budget 40s would do" in why_too_short(
        found, criteria
    )
    assert why_too_short(found, replace(criteria, budget=34.0)) == ""
    assert earlier_check(plan, criteria, store, "another machine", "0") is None


def noisy(spread: float) -> Check:
    """Six pairs of one row in 30 s, whose harms vary by so much."""
    plain = check(30.0).model_dump(mode="json")
    pair = plain["figures"][0]["pairs"][0]
    harms = [spread * (-1) ** (number // 2) for number in range(6)]
    pairs = [{**pair, "number": i, "base_first": i % 2 == 0, "harm": harm} for i, harm in enumerate(harms)]
    plain["figures"] = [{**plain["figures"][0], "pairs": pairs}]
    return Check.model_validate(plain)


def test_a_budget_that_cannot_find_the_margin_says_so_with_the_one_that_can() -> None:
    criteria = Criteria(metrics=("throughput",), margins={"throughput": 0.005}, budget=60.0)
    (sentence,) = too_noisy(noisy(0.01), criteria)
    assert "as check-1 varied, the 12 pairs of this budget give ±" in sentence
    assert "wider than the margin of 0.5%; --budget 288s would do" in sentence
    assert too_noisy(noisy(0.001), criteria) == []
    assert too_noisy(noisy(0.01), replace(criteria, budget=300.0)) == []


def test_noise_that_no_number_of_pairs_overcomes() -> None:
    criteria = Criteria(metrics=("throughput",), margins={"throughput": 0.005}, budget=60.0)
    (sentence,) = too_noisy(noisy(0.1), criteria)
    assert "no number of pairs would do: a wider --margin, or a quieter machine" in sentence


def test_a_check_of_too_few_pairs_tells_nothing_of_noise() -> None:
    plain = noisy(0.01).model_dump(mode="json")
    plain["figures"][0]["pairs"] = plain["figures"][0]["pairs"][:3]
    assert too_noisy(Check.model_validate(plain), Criteria(margins={"throughput": 0.005}, budget=60.0)) == []

"""The time until a check's first look, from an earlier check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.gate.gated_metric import Criteria, GatedMetric
from bench.gate.time_needed import until_first_look, why_too_short
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
    assert "check-1 took 33 s until its first look, the budget is 30 s; --budget 40s would do" in why_too_short(
        plan, criteria, store, "m", "0"
    )
    assert why_too_short(plan, criteria, store, "another machine", "0") == ""
    assert why_too_short(plan, replace(criteria, budget=34.0), store, "m", "0") == ""

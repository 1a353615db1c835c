"""Comparability keys, and two runs side by side."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pytest
from scipy.stats import t
from stored import comparable, record, run

from bench.analysis import run_comparison
from bench.analysis.run_comparison import FEWEST_DIFFERENCES
from bench.errors import UsageError
from bench.records import series_key
from bench.records.record import Disturbance, Record, Run
from bench.records.series import Point
from bench.worker.protocol import Job
from reports.content import comparison as shown
from reports.render.text import render

KEY = ("throughput", "train", 1, "device")


def of(*records: Record, name: str = "first") -> Run:
    return run(name).model_copy(update={"records": list(records)})


def points(values: list[float], versions: list[str] | None = None) -> list[Point]:
    versions = versions or ["1"] * len(values)
    return [
        Point(f"r{i}", "2026", None, {"torch": version}, value, None, None, None)
        for i, (value, version) in enumerate(zip(values, versions, strict=True))
    ]


def test_the_key_leaves_out_the_seed_and_defaults() -> None:
    first = comparable()
    other_seed = first.model_copy(update={"job": replace(first.job, seed=7)})
    assert series_key.key(first) == series_key.key(other_seed)
    assert not {"seed", "precision", "device", "allocator"} & series_key.key(first).keys()
    assert series_key.key(first)["data"] == "0" * 64
    for field in sorted({each.name for each in fields(Job)} - {"seed"}):
        other = {"threads": 7, "cpus": (1,), "validation": 0.1, "frozen": True}.get(field, "another")
        changed: dict[str, Any] = {field: other}
        moved = first.model_copy(update={"job": replace(first.job, **changed)})
        assert series_key.differences(series_key.key(first), series_key.key(moved)).keys() == {field}


def test_a_field_that_a_later_version_adds_changes_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Later(Job):
        new: str = "as always"

    first = comparable()
    before = series_key.digest(series_key.key(first))
    monkeypatch.setattr(series_key, "Job", Later)
    later = first.model_copy(update={"job": Later(**asdict(first.job))})
    assert series_key.digest(series_key.key(later)) == before


def test_across_takes_parts_of_the_key() -> None:
    assert series_key.across("machines, threads,versions") == {"machine", "threads", "versions"}
    assert series_key.across(None) == frozenset()
    with pytest.raises(UsageError, match="--across planets: not a part"):
        series_key.across("planets")


def test_noise_is_learnt_from_successive_runs_of_the_same_versions() -> None:
    noise = run_comparison.noise(points([100, 110, 100, 110, 100, 200], ["1"] * 5 + ["2"]))
    assert noise.missing == 0
    assert noise.variance == pytest.approx(math.log(1.1) ** 2 / 2), "the step to version 2 is none"
    assert noise.degrees == pytest.approx(4 * 2 / 3)
    assert run_comparison.noise(points([100, 101, 102])).missing == FEWEST_DIFFERENCES - 2


def test_ratio_with_the_variance_between_runs() -> None:
    a, b = of(comparable(100.0)), of(comparable(90.0), name="second")
    digest = series_key.digest(series_key.key(a.records[0]))
    history = {(digest, KEY): points([100, 104, 100, 104, 100, 104, 100])}
    (one,) = run_comparison.compare(a, b, history, frozenset()).figures
    half = t.ppf(0.975, 4) * math.sqrt(2 * math.log(1.04) ** 2 / 2)
    assert (one.ratio, one.missing) == (pytest.approx(0.9), 0)
    assert (one.low, one.high) == (pytest.approx(0.9 * math.exp(-half)), pytest.approx(0.9 * math.exp(half)))


def test_too_little_history_says_how_many_runs_are_missing() -> None:
    found = run_comparison.compare(of(comparable()), of(comparable(90.0), name="second"), {}, frozenset())
    assert (found.figures[0].low, found.figures[0].missing) == (None, FEWEST_DIFFERENCES)
    text = render(shown.document(found))
    assert "not known: 4 more runs with the same versions are needed" in text
    assert "bench check --against BASE" in text


def test_other_keys_are_not_compared_unless_asked() -> None:
    a = of(comparable())
    b = of(comparable(90.0, machine={"id": "y", "kernel": "6.2", "gpus": []}, versions={"torch": "3"}), name="second")
    with pytest.raises(UsageError, match=r"not comparable \(machine: x and y\); --across machine"):
        run_comparison.compare(a, b, {}, frozenset())
    found = run_comparison.compare(a, b, {}, frozenset({"machine"}))
    assert found.changed[0] == ("machine", "x", "y")
    assert ("torch", "not there", "3") in found.changed
    assert ("kernel", "None", "6.2") in found.changed


def test_a_row_that_was_disturbed_is_said() -> None:
    noise = {"disturbed": True, "reason": "other processes used 50% of its cores", "slices": 12, "marked": 12}
    disturbed = comparable().model_copy(update={"disturbance": Disturbance.model_validate(noise)})
    found = run_comparison.compare(of(comparable()), of(disturbed, name="second"), {}, frozenset())
    (told,) = [line for line in shown.document(found).notes if line.startswith("(!)")]
    assert "disturbed in second: other processes used 50% of its cores; 12 of 12 slices" in told
    same = run_comparison.compare(of(comparable()), of(comparable(), name="second"), {}, frozenset())
    assert not any(line.startswith("(!)") for line in shown.document(same).notes)


def test_two_machines_have_two_variances() -> None:
    a, b = of(comparable()), of(comparable(90.0, machine={"id": "y", "gpus": []}), name="second")
    digests = [series_key.digest(series_key.key(r.records[0])) for r in (a, b)]
    history = {(digests[0], KEY): points([100, 104] * 4), (digests[1], KEY): points([100, 100] * 4)}
    (one,) = run_comparison.compare(a, b, history, frozenset({"machine"})).figures
    half = t.ppf(0.975, 7 * 2 / 3) * math.log(1.04) / math.sqrt(2)
    assert one.low == pytest.approx(0.9 * math.exp(-half))


def test_rows_of_one_run_only_and_rows_that_are_not_comparable_are_said() -> None:
    failed = record("keras", status="failed")
    found = run_comparison.compare(
        of(comparable(), failed), of(comparable(backend="reference"), name="second"), {}, frozenset()
    )
    assert (found.figures, found.only_first, found.only_second) == ((), ("pytorch",), ("reference",))
    assert "No row is comparable in both runs." in render(shown.document(found))

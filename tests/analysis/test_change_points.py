"""Change points on series with known ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.analysis import change_points, trends
from bench.analysis.change_points import AFTER, FEWEST
from bench.records.series import Point, Series, row_name
from bench.worker.protocol import RowKey

VERSIONS = {"torch": "2.13.0", "numpy": "2.4.0"}


def stepped(rng: np.random.Generator, before: int, after: int, size: float) -> list[float]:
    return [*rng.normal(0, 1, before), *rng.normal(size, 1, after)]


def test_a_step_is_found_where_it_is() -> None:
    rng = np.random.default_rng(0)
    found = [change_points.find_changes(stepped(rng, 30, 10, 6.0)) for _ in range(50)]
    places = [[change.index for change in changes] for changes in found]
    assert sum(place == [30] for place in places) >= 45, places
    first = next(changes[0] for changes in found if len(changes) == 1)
    assert first.after - first.before == pytest.approx(6, abs=1.5)


def test_it_waits_for_three_points() -> None:
    rng = np.random.default_rng(1)
    series = stepped(rng, 30, AFTER - 1, 20.0)
    assert not any(len(series) - change.index < AFTER for change in change_points.find_changes(series))
    assert [c.index for c in change_points.find_changes([*series, 20.0])] == [30]


def test_white_noise_and_autocorrelated_noise_have_none() -> None:
    """Rates over 20,000 points are in benchmarks/results/change_points.json; here fewer, with room."""
    rng = np.random.default_rng(2)
    assert sum(len(change_points.find_changes(rng.normal(0, 1, 100))) for _ in range(50)) <= 5
    wandering = 0
    for _ in range(50):
        noise = rng.normal(0, 1, 150)
        for i in range(1, 150):
            noise[i] += 0.3 * noise[i - 1]
        wandering += len(change_points.find_changes(noise[50:]))
    assert wandering <= 25


@pytest.mark.parametrize("values", [[], [1.0] * (FEWEST - 1), [1.0] * 40])
def test_few_or_constant_points_have_none(values: list[float]) -> None:
    assert change_points.find_changes(values) == []


def test_a_step_of_a_figure_without_noise_is_found() -> None:
    assert [c.index for c in change_points.find_changes([100.0] * 10 + [101.0] * 5)] == [10]


def series(values: list[float], **changes: dict[int, object]) -> Series:
    points = []
    for i, value in enumerate(values):
        told: dict[str, object] = {"versions": VERSIONS, "commit": "a" * 40, "acknowledged": None}
        for name, by_index in changes.items():
            told[name] = [by_index[at] for at in sorted(by_index) if at <= i][-1] if min(by_index) <= i else told[name]
        points.append(Point(f"run-{i}", f"2026-01-{i + 1:02}", value=value, low=None, high=None, **told))  # type: ignore[arg-type]
    key = ("throughput", "train", 128, "end-to-end")
    row = RowKey("onnxruntime", "keras", "cpu", "int8", "all-optimizations")
    workload = ("every@1a2b3c4d", "digits", "one-cycle[epochs=2,nesterov=false,schedule.milestones=[0.5,0.8]]")
    return Series("0" * 24, row, *workload, "machine", key, "images/s", tuple(points))


def test_a_turn_says_when_by_how_much_and_what_changed() -> None:
    rng = np.random.default_rng(3)
    values = [float(v) for v in np.exp([*rng.normal(0, 0.01, 12), *rng.normal(-0.2, 0.01, 6)])]
    (shift,) = trends.level_shifts(series(values, versions={12: {"torch": "2.14.1", "numpy": "2.4.0"}}))
    assert (shift.last.run, shift.first.run, shift.points) == ("run-11", "run-12", 6)
    assert shift.ratio == pytest.approx(np.exp(-0.2), rel=0.02)
    assert shift.changed == {"torch": ("2.13.0", "2.14.1")}
    job = "--backend onnxruntime --device cpu --precision int8 --mode all-optimizations"
    model = "--model every.toml --dataset digits --recipe one-cycle"
    changes = "--set epochs=2 --set nesterov=false --set 'schedule.milestones=[0.5,0.8]'"
    place = "--metric throughput --task train --boundary end-to-end --batch-size 128"
    assert shift.confirm == f"bench check --against torch==2.13.0 {job} {model} {changes} {place}"
    file = replace(shift, series=replace(shift.series, dataset="random-inputs"))
    assert file.confirm == "", "the gate runs no ONNX files of the user's"


def test_a_row_is_named_by_what_is_not_usual_or_differs() -> None:
    one = series([])
    other = replace(one, key=one.key._replace(mode="no-optimizations"))
    assert row_name(one, [one]) == "onnxruntime <- keras int8"
    assert row_name(one, [one, other]) == "onnxruntime <- keras int8 all-optimizations"


def test_a_turn_of_a_commit_is_confirmed_against_it() -> None:
    values = [1.0, 1.01] * 6 + [1.5, 1.51, 1.5, 1.51]
    (shift,) = trends.level_shifts(series(values, commit={12: "b" * 40}))
    assert shift.changed == {}
    assert shift.confirm.startswith(f"bench check --against git:{'a' * 12} ")
    (unknown,) = trends.level_shifts(series(values))
    assert unknown.confirm == "", "nothing recorded tells the levels apart"


def test_a_quiet_series_has_no_turn() -> None:
    assert trends.level_shifts(series([1.0, 1.01] * 10)) == []
    assert trends.level_shifts(series([])) == []


def test_turns_end_where_the_next_begins() -> None:
    values = [1.0, 1.01] * 6 + [2.0, 2.01] * 3 + [1.0, 1.01] * 4
    found = trends.level_shifts(series([*values]))
    assert [(shift.first.run, shift.points) for shift in found] == [("run-12", 6), ("run-18", 8)]
    assert [shift.first.run for shift in trends.all_level_shifts([series([*values])])] == ["run-18", "run-12"]


def test_a_figure_that_can_be_zero_has_no_relative_level() -> None:
    assert trends.level_shifts(series([0.0] * 10 + [1.0] * 5)) == []

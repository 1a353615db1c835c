"""Efficiencies of several processes, from rounds in which they took turns with one."""

from __future__ import annotations

from typing import Any

import pytest
from builders import figure, row

from bench.analysis.scaling import STRONG, WEAK, with_scaling
from bench.records.record import Figure, Record


def trained(processes: int | None, rates: dict[int, list[float]], **more: Any) -> Record:
    figures = [
        figure("throughput", values, task="train", batch_size=size, boundary="device") for size, values in rates.items()
    ]
    return row("a", figures, {"processes": processes}, **more)


def of(record: Record, name: str, batch_size: int) -> Figure:
    found = record.figure(name, "train", "device", batch_size)
    assert found is not None
    return found


def test_weak_and_strong_scaling_of_known_rates() -> None:
    one = trained(1, {64: [100.0, 110.0, 90.0], 128: [120.0, 120.0, 120.0]})
    two = trained(2, {64: [150.0, 165.0, 135.0], 128: [180.0, 198.0, 162.0]})
    unchanged, scaled = with_scaling([one, two])
    assert unchanged == one, "one process is what efficiency is of"
    assert of(scaled, STRONG, 64).value == pytest.approx(0.75)
    weak = of(scaled, WEAK, 128)
    assert weak.value == pytest.approx(0.9), "180 of twice 100"
    assert (weak.low, weak.high) == pytest.approx((0.9, 0.9)), "of pairs: both slow down in the same rounds"
    assert weak.n == 3
    strong = of(scaled, STRONG, 128)
    assert strong.low is not None
    assert strong.high is not None
    assert strong.low < 0.75 < strong.high
    assert scaled.figure(WEAK, "train", "device", 64) is None, "nobody measured one process at 32"
    assert with_scaling([one, scaled])[1] == scaled, "computed anew, it comes to the same"


def test_without_a_row_of_one_process_it_says_so() -> None:
    (scaled,) = with_scaling([trained(4, {64: [100.0]})])
    assert of(scaled, STRONG, 64).value is None
    assert "no row of one process" in (of(scaled, STRONG, 64).reason or "")


def test_other_rows_have_no_efficiency() -> None:
    plain = trained(None, {64: [100.0]})
    assert with_scaling([plain]) == [plain]
    other = row("b", [], {"processes": 1})
    scaled = with_scaling([other, trained(2, {64: [100.0]})])[1]
    assert of(scaled, STRONG, 64).value is None, "one process of another backend is none of its own"

"""The ratio of a round, from slices that followed one another; how wide the widest interval is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builders import figure, row
from worker_replies import CONTEXT, result

from bench.analysis.ratios import round_ratio, widest, with_ratios
from bench.records.record import Record, Sample, Slice
from bench.runner.record_builder import to_record


def sample(speeds: list[float], disturbed: list[int] | None = None, first_turn: int | None = 0) -> Sample:
    slices = [
        Slice(
            seconds=1 / speed,
            images=1,
            turn=None if first_turn is None else first_turn + i,
            disturbed=i in (disturbed or []),
        )
        for i, speed in enumerate(speeds)
    ]
    return Sample(round=0, value=len(speeds) / sum(piece.seconds for piece in slices), slices=slices)


def test_a_drift_and_a_burst_on_one_slice_cancel() -> None:
    drift = np.linspace(1.0, 3.0, 9)
    ours, theirs = 100 * drift, 200 * drift
    theirs[4] /= 10
    assert round_ratio("throughput", sample(list(ours)), sample(list(theirs))) == pytest.approx(0.5)


def test_disturbed_slices_are_left_out_with_their_partner() -> None:
    ours, theirs = sample([100, 1, 100], disturbed=[1]), sample([100, 100, 50, 50], disturbed=[2])
    assert round_ratio("throughput", ours, theirs) == pytest.approx(1.0)


def test_where_all_are_disturbed_all_count() -> None:
    assert round_ratio("throughput", sample([50], [0]), sample([100], [0])) == pytest.approx(0.5)


def test_records_without_turns_are_compared_by_their_values() -> None:
    assert round_ratio("throughput", sample([50], first_turn=None), sample([100], first_turn=None)) == pytest.approx(
        0.5
    )
    assert round_ratio("throughput", sample([50]), sample([100], first_turn=7)) == pytest.approx(0.5)


def test_tails_and_starts_are_ratios_of_values() -> None:
    ours, theirs = sample([1, 100, 100]), sample([100, 100, 100])
    assert round_ratio("cold_start", ours, theirs) == pytest.approx(ours.value / theirs.value)


def test_latency_is_of_each_slices_median() -> None:
    def made(calls: list[float]) -> Sample:
        slices = [Slice(seconds=sum(calls), images=len(calls), turn=i, latencies=calls) for i in range(3)]
        return Sample(round=0, value=0, slices=slices)

    assert round_ratio("latency_p50", made([2, 2, 90]), made([1, 1, 1])) == pytest.approx(2.0)


def test_what_no_judge_could_certify_is_compared_with_rows_of_its_file_only() -> None:
    def made(backend: str, file: str, speed: float, uncertified: str | None = None) -> Record:
        data = {"name": "random-inputs", "sha256": file, "train": 0, "test": 0}
        return row(
            backend, [figure("throughput", [speed, speed * 1.01], task="infer", batch_size=8, boundary="device")],
            data=data, parity={"comparable": True, "checks": [], "uncertified": uncertified},
        )  # fmt: skip

    records = with_ratios(
        [made("a", "1", 100), made("b", "2", 200), made("c", "3", 900, "no judge"), made("d", "3", 300, "no judge")]
    )
    against = {one.job.backend: one.ratios[0].against.partition("/")[0] for one in records}
    assert against == {"a": "b", "b": "b", "c": "c", "d": "c"}


def test_the_widest_of_the_decisive_ratios() -> None:
    records = with_ratios([to_record(result("slow", 0.5), CONTEXT), to_record(result("fast"), CONTEXT)])
    width, whose = widest(records)
    assert width == pytest.approx(0.0)
    assert whose.startswith("slow, ")
    (alone,) = with_ratios([to_record(result("alone"), CONTEXT)])
    assert widest([alone]) is None
    one_round = [record.model_copy(update={"ratios": [r.model_copy(update={"low": None, "high": None}) for r in record.ratios]}) for record in records]  # fmt: skip  # noqa: E501
    assert math.isinf(widest(one_round)[0])

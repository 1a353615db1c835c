"""The whole harness on backends of known cost: the results must match that cost."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_command import Bench
from fakes.registry import KNOWN
from scipy.stats import bootstrap, t

from bench.worker.clock import MAX_WARM_UP_SECONDS

Record = dict[str, Any]
ByBackend = Callable[[list[Record]], dict[str, Record]]

INFER = ("--task", "infer", "--batch-size", "4")


def figure(record: Record, name: str, boundary: str = "device", task: str = "infer") -> dict[str, Any]:
    matching = (f for f in record["figures"] if (f["name"], f["task"], f["boundary"]) == (name, task, boundary))
    return next(matching)


def faults_of(record: Record) -> float:
    """Mean page faults of a slice of device-resident inference."""
    slices = figure(record, "throughput")["samples"][0]["slices"]
    return statistics.mean(piece["noise"]["minor_faults"] for piece in slices)


@pytest.fixture(scope="module")
def records(bench_named: Callable[[str], Bench]) -> dict[str, Record]:
    """One run of the backends that report a simulated time."""
    bench = bench_named("known")
    bench.register(KNOWN)
    names = ["constant", "twice", "bimodal", "drifting", "slowly-warming"]
    stored = bench.run("--backend", ",".join(names), *INFER, "--rounds", "2")
    report = bench("report").stdout
    return {**{record["job"]["backend"]: record for record in stored}, "report": {"text": report}}


def test_a_constant_cost_comes_out_exactly(records: dict[str, Record]) -> None:
    for name, speed in (("constant", 1000), ("twice", 500)):
        for boundary in ("device", "end-to-end"):
            throughput = figure(records[name], "throughput", boundary)
            assert throughput["value"] == pytest.approx(speed)
            assert (throughput["low"], throughput["high"]) == pytest.approx((speed, speed))
            for percent in (50, 90, 99):
                assert figure(records[name], f"latency_p{percent}", boundary)["value"] == pytest.approx(1 / speed)


def test_the_ratio_of_two_known_costs(records: dict[str, Record]) -> None:
    ratios = {(r["name"], r["boundary"]): r for r in records["twice"]["ratios"] if r["name"] != "cold_start"}
    assert ratios[("throughput", "device")]["value"] == pytest.approx(0.5)
    assert ratios[("latency_p50", "device")]["value"] == pytest.approx(2.0)
    assert ratios[("throughput", "device")]["against"].split("/")[0] in ("constant", "slowly-warming"), (
        "both settle at 1 ms an image"
    )


def test_percentiles_of_a_bimodal_step(records: dict[str, Record]) -> None:
    bimodal = records["bimodal"]
    assert figure(bimodal, "latency_p50")["value"] == pytest.approx(0.001)
    assert figure(bimodal, "latency_p99")["value"] == pytest.approx(0.005)
    assert figure(bimodal, "throughput")["value"] == pytest.approx(1000 / 1.4, rel=0.1)
    slices = figure(bimodal, "latency_p50")["samples"][0]["slices"]
    assert {round(call, 6) for piece in slices for call in piece["latencies"]} == {0.001, 0.005}


def test_slow_first_calls_do_not_affect_the_metrics(records: dict[str, Record]) -> None:
    for sample in figure(records["slowly-warming"], "throughput", "end-to-end")["samples"]:
        assert sample["value"] == pytest.approx(1000, rel=0.01)
        assert sample["warm_up_steps"] > 30
        assert sample["steady"]


def test_a_step_that_never_gets_steady_is_reported(records: dict[str, Record]) -> None:
    sample = figure(records["drifting"], "throughput", "end-to-end")["samples"][0]
    assert sample["steady"] is False
    assert sample["warm_up_steps"] * 4 * 0.001 <= MAX_WARM_UP_SECONDS + 1
    assert "drifting never got steady in warm-up" in records["report"]["text"]
    assert "constant never got steady" not in records["report"]["text"]


def test_intervals_over_processes_of_known_spread(bench: Bench, tmp_path: Path) -> None:
    """Three processes cost 1, 1.1 and 1.3: geometric mean and Student's interval by hand, and a bootstrap."""
    bench.register({"varying": KNOWN["varying"]})
    bench.environment["EVENBENCH_KNOWN_COUNTER"] = str(tmp_path / "counter")
    (record,) = bench.run("--backend", "varying", *INFER, "--rounds", "3")
    throughput = figure(record, "throughput")
    logs = -np.log([1.0, 1.1, 1.3]) + math.log(1000)
    half = t.ppf(0.975, 2) * np.std(logs, ddof=1) / math.sqrt(3)
    assert throughput["n"] == 3
    assert math.log(throughput["value"]) == pytest.approx(np.mean(logs))
    assert math.log(throughput["low"]) == pytest.approx(np.mean(logs) - half)
    assert math.log(throughput["high"]) == pytest.approx(np.mean(logs) + half)
    resampled = bootstrap((logs,), np.mean, method="percentile", random_state=0).confidence_interval
    assert math.log(throughput["low"]) < resampled.low < resampled.high < math.log(throughput["high"])


def test_one_process_has_no_interval_and_the_table_says_why(bench: Bench) -> None:
    bench.register({"constant": KNOWN["constant"]})
    (record,) = bench.run("--backend", "constant", *INFER)
    throughput = figure(record, "throughput")
    assert (throughput["low"], throughput["high"], throughput["n"]) == (None, None, 1)
    assert "no intervals: one process has no spread between processes" in bench("report").stdout


@pytest.mark.alone
def test_rounds_are_added_until_the_target_is_met_or_the_budget_spent(bench: Bench, tmp_path: Path) -> None:
    bench.register({name: KNOWN[name] for name in ("constant", "twice", "varying")})
    options = ("run", "--model", "article-pytorch", *INFER, "--rounds", "2")
    begin = time.monotonic()
    met = bench(*options, "--backend", "constant,twice", "--precision-target", "1%", "--budget", "5m")
    budget = math.ceil(2.5 * (time.monotonic() - begin))  # two rounds and more, however slow the machine is
    assert "precision target ±1.0% reached after 2 rounds" in met.stdout, met.stderr
    bench.environment["EVENBENCH_KNOWN_COUNTER"] = str(tmp_path / "counter")
    spent = bench(*options, "--backend", "constant,varying", "--precision-target", "1%", "--budget", f"{budget}s")
    assert "precision target ±1.0% NOT reached after" in spent.stdout, spent.stderr
    assert f"budget {budget} s: widest ratio ±" in spent.stdout
    varying = next(record for record in bench.records() if record["job"]["backend"] == "varying")
    assert figure(varying, "throughput")["n"] > 2, "no round was added"


@pytest.mark.alone
def test_a_real_sleep_bounds_the_throughput(bench: Bench) -> None:
    """A sleep is never shorter than requested; the machine may make it longer."""
    bench.register({"sleeps": KNOWN["sleeps"]})
    (record,) = bench.run("--backend", "sleeps", *INFER)
    assert 10 < figure(record, "throughput")["value"] < 4 / 0.02
    assert figure(record, "latency_p50")["value"] > 0.02


def test_a_known_allocation_is_seen_whatever_else_is_alive(bench: Bench, by_backend: ByBackend) -> None:
    """Its peak, alone and beside live workers, is 300 MB above that of the same backend without the allocation."""
    bench.register({"allocates": KNOWN["allocates"], "constant": KNOWN["constant"]})
    options = ("--task", "infer", "--batch-size", "4")
    together = by_backend(bench.run("--backend", "allocates,constant", *options))
    peaks = {name: figure(record, "peak_rss", None)["value"] for name, record in together.items()}  # type: ignore[arg-type]
    assert peaks["allocates"] - peaks["constant"] == pytest.approx(300e6, rel=0.1)
    (alone,) = bench.run("--backend", "allocates", *options)
    assert figure(alone, "peak_rss", None)["value"] == pytest.approx(peaks["allocates"], rel=0.02)  # type: ignore[arg-type]
    faults = {name: faults_of(record) for name, record in together.items()}
    huge = 300e6 / 2**21  # pages of one allocation, if the kernel gives the largest; each slice has ten calls or more
    assert faults["allocates"] > faults["constant"] + huge, "fresh pages are counted"

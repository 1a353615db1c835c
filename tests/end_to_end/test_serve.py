"""``bench serve`` on adapters of known cost, and on ones that are wrong under load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bench_command import Bench
from fakes.registry import RIGHT

QUICK = ("--rounds", "1", "--model", "article-pytorch", "--threads", "1", "--test-time", "200ms", "--set", "epochs=1")
RECORDS = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def served(bench_named: Callable[[str], Bench]) -> RECORDS:
    bench = bench_named("served")
    faults = ("constant", "answers-the-first", "fails-under-load")
    classes = {name: "".join(word.title() for word in name.split("-")) for name in faults}
    bench.register({name: f"evenbench_served:{classes[name]}" for name in faults} | RIGHT)
    done = bench("serve", "--backend", ",".join(("answers-the-first", "fails-under-load", *RIGHT)), *QUICK)
    assert done.returncode == 1, done.stdout + done.stderr
    records = bench.records()
    done = bench("serve", "--backend", "constant", "--latency-bound", "p90=50ms", "--rate", "50", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Load (batches of 8 at most, 1 instance, p90 within 50 ms; n = 1 process)" in done.stdout
    page = bench("report", "--format", "html").stdout
    assert 'data-figure="load-curve"' in page
    return {record["job"]["backend"]: record for record in [*records, *bench.records()]}


def figure(record: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in record["figures"] if each["name"] == name)
    return found


def test_every_scenario_has_its_figures(served: RECORDS) -> None:
    record = served["constant"]
    assert (record["status"], record["comparable"]) == ("ok", True)
    assert figure(record, "single_stream_p90")["value"] >= 0.002
    assert figure(record, "multi_stream_p50")["value"] >= 0.002
    assert 0 < figure(record, "offline_throughput")["value"] <= 4000, "eight in two milliseconds"
    rate = figure(record, "server_rate")
    if rate["value"] is None:  # other tests keep the machine busy
        assert rate["reason"].startswith("the generator fell behind"), rate
    else:
        assert 0 < rate["value"] < 4000
    assert figure(record, "peak_rss")["value"] > 0


def test_every_test_is_in_the_record(served: RECORDS) -> None:
    tests = served["constant"]["load"]
    assert {test["scenario"] for test in tests} == {"single-stream", "multi-stream", "offline", "server"}
    by_rate = [test for test in tests if test["rate"] == 50]
    assert len(by_rate) >= 1
    assert not by_rate[0]["searched"]
    assert by_rate[-1]["verdict"] == "holds" or by_rate[-1]["invalid"]
    for test in tests:
        assert "Min queries satisfied : Yes" in test["summary"]
        assert test["percentiles"]["50"] <= test["percentiles"]["99.9"]
        assert 1 <= test["batch"] <= 8


def test_answers_that_are_wrong_only_under_load_are_seen(served: RECORDS) -> None:
    record = served["answers-the-first"]
    assert not record["comparable"]
    failed = [check for check in record["parity"]["checks"] if not check["passed"]]
    assert [check["name"] for check in failed] == ["timed_outputs"]
    assert "tests under load" in failed[0]["note"]


def test_an_error_under_load_ends_the_row(served: RECORDS) -> None:
    record = served["fails-under-load"]
    assert record["status"] == "failed"
    assert "too many requests" in record["error"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--scenario", "server"), "needs --latency-bound"),
        (("--scenario", "offline", "--rate", "10"), "which --scenario leaves out"),
        (("--latency-bound", "15ms"), "not of the form p99=15ms"),
        (("--latency-bound", "p100=15ms"), "not of the form p99=15ms"),
        (("--latency-bound", "p99=fast"), "not a time"),
        (("--rate", "0"), "not a number of requests per second"),
        (("--scenario", "burst"), "unknown scenario 'burst'"),
    ],
)
def test_wrong_options_are_named(bench: Bench, options: tuple[str, ...], text: str) -> None:
    done = bench("serve", *options)
    assert done.returncode == 2
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1

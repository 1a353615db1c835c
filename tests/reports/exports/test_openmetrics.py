"""Metrics for Prometheus: its two parsers, and its own linter, accept the text."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from builders import hostile_run, recorded, row, run, speed
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from bench.records.metrics import METRICS
from reports.exports import openmetrics

RUNS = {"recorded": recorded(), "hostile": hostile_run()}


@pytest.mark.parametrize("name", RUNS)
def test_both_parsers_read_the_same_values(name: str) -> None:
    text = openmetrics.document(RUNS[name])
    parsed = [
        {(one.name, tuple(sorted(one.labels.items()))): one.value for family in parse(text) for one in family.samples}
        for parse in (openmetrics_families, text_families)
    ]
    assert parsed[0] == parsed[1]
    assert len(parsed[0]) > 20


@pytest.mark.parametrize("name", RUNS)
def test_promtool_has_nothing_to_say(process: None, name: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here: apt-get install prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=openmetrics.document(RUNS[name]),
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_value_has_its_interval_and_its_place() -> None:
    made = run(row("a", [speed([100.0, 110.0, 105.0])]), row("b", [speed([5.0])], status="failed", parity=None))
    found = {
        (one.name, one.labels.get("row")): one
        for family in openmetrics_families(openmetrics.document(made))
        for one in family.samples
    }
    figure = made.records[0].figures[0]
    for end, value in (("", figure.value), ("_interval_low", figure.low), ("_interval_high", figure.high)):
        one = found[f"evenbench_throughput{end}_images_per_second", "a"]
        assert one.value == value
        assert one.labels == {
            "row": "a", "workload": "m/d/r", "machine": "feedc0de", "task": "infer", "boundary": "end-to-end",
            "batch_size": "128",
        }  # fmt: skip
    assert ("evenbench_throughput_images_per_second", "b") not in found
    assert [found["evenbench_row_certified", name].value for name in "ab"] == [1, 0]
    assert openmetrics.left_out(made) == {"row b": "failed"}


def test_samples_of_a_users_file_are_no_images() -> None:
    made = run(row("a", [{**speed([100.0]), "unit": "samples/s"}]))
    assert "evenbench_throughput_samples_per_second{" in openmetrics.document(made)
    assert "images_per_second" not in openmetrics.document(made)


def test_no_two_metrics_have_one_name() -> None:
    names = [openmetrics.metric_name(metric, what) for metric in METRICS.values() for what in openmetrics.BOUNDS]
    assert len(names) == len(set(names))

"""``bench run --task input``: on loaders of known cost, on ones that are wrong, and on those of the frameworks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bench_command import Bench

OPTIONS = ("--task", "input", "--set", "augmentation.flip=true", "--set", "augmentation.crop_padding=1")
RECORDS = dict[str, dict[str, Any]]
COST, BATCH = 0.010, 16
"""Of the fakes: seconds of a batch, and its size."""
FAKES = ("known-input", "caches-images", "never-flips", "mislabels", "buffers")


def figure(record: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in record["figures"] if each["name"] == name)
    return found


@pytest.fixture(scope="module")
def faked(bench_named: Callable[[str], Bench]) -> RECORDS:
    bench = bench_named("faked")
    classes = {name: "".join(word.title() for word in name.split("-")) for name in FAKES}
    bench.register({name: f"evenbench_input:{classes[name]}" for name in FAKES})
    records = bench.run(*OPTIONS, "--backend", ",".join(FAKES), "--input-workers", "0", code=1)
    return {record["job"]["backend"]: record for record in records}


@pytest.mark.parametrize("name", ["known-input", "buffers"])
def test_a_known_cost_is_found(faked: RECORDS, name: str) -> None:
    record = faked[name]
    assert (record["status"], record["comparable"]) == ("ok", True), record["error"]
    rate = figure(record, "input_throughput")["value"]
    assert 0 < rate <= 1.02 * BATCH / COST, "batches that were ready before are not counted"
    fed = figure(record, "fed_throughput")["value"]
    assert 0 < fed <= 1.02 * BATCH / COST
    assert 0 < figure(record, "stall")["value"] < 1


def test_a_loader_without_workers_stalls_for_the_whole_batch(faked: RECORDS) -> None:
    record = faked["known-input"]
    (sample,) = figure(record, "fed_throughput")["samples"]
    seconds = sum(piece["seconds"] for piece in sample["slices"])
    batches = sum(piece["images"] for piece in sample["slices"]) / BATCH
    assert figure(record, "stall")["value"] * seconds >= 0.98 * COST * batches


@pytest.mark.parametrize("name", ["caches-images", "never-flips", "mislabels"])
def test_other_pixels_or_labels_are_not_comparable(faked: RECORDS, name: str) -> None:
    record = faked[name]
    assert not record["comparable"]
    failed = [check["name"] for check in record["parity"]["checks"] if not check["passed"]]
    assert failed == ["timed_batches"]


@pytest.fixture(scope="module")
def real(bench_named: Callable[[str], Bench]) -> RECORDS:
    bench = bench_named("real")
    more = ("--set", "augmentation.cutout=3", "--input-workers", "1", "--batch-size", "64")
    records = bench.run(*OPTIONS, *more, "--backend", "pytorch,keras,jax", timeout=500)
    page = bench("report", "--format", "html").stdout
    assert 'data-figure="input_throughput-input-end-to-end"' in page
    return {record["id"]: record for record in records}


@pytest.mark.long
def test_the_loaders_of_the_frameworks_make_the_same_batches(real: RECORDS) -> None:
    assert len(real) == 3
    for name, record in real.items():
        assert (record["status"], record["comparable"]) == ("ok", True), (name, record["error"])
        check = next(each for each in record["parity"]["checks"] if each["name"] == "timed_batches")
        assert check["value"] < 1e-6
        assert figure(record, "input_throughput")["value"] > 0
        assert 0 < figure(record, "stall")["value"] < 1
        assert record["settings"]["input_pipeline"]
        slices = figure(record, "input_throughput")["samples"][0]["slices"]
        assert min(piece["noise"]["halves"] for piece in slices) < 1.3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--input-workers", "2"), "goes with --task input"),
        (("--task", "input", "--input-workers", "many"), "not a number from 0 to 1024"),
        (("--task", "input", "--input-workers", "-1"), "not a number from 0 to 1024"),
        (("--task", "inputs"), "unknown task 'inputs'"),
    ],
)
def test_wrong_options_are_named(bench: Bench, options: tuple[str, ...], text: str) -> None:
    done = bench("run", *options)
    assert done.returncode == 2
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1

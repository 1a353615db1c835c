"""Outcomes of training, end to end: seeds, targets, curves, classes, modes, precisions, fine-tuning."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench_command import Bench

Records = dict[str, dict[str, Any]]
ByBackend = Callable[[list[dict[str, Any]]], Records]
QUICKLY = ("--set", "epochs=2", "--task", "infer")


def figure(record: dict[str, Any], name: str) -> dict[str, Any]:
    return next(f for f in record["figures"] if f["name"] == name)


@pytest.fixture(scope="module")
def seeded(bench_named: Callable[[str], Bench]) -> tuple[Bench, list[dict[str, Any]]]:
    """PyTorch and Keras over three seeds with a target, and ONNX Runtime."""
    bench = bench_named("seeded")
    options = ("--seeds", "3", "--target-accuracy", "50%", *QUICKLY)
    return bench, bench.run("--backend", "pytorch,keras,onnxruntime", *options, timeout=400)


@pytest.mark.slow
def test_seeds_give_an_interval_and_a_verdict(
    seeded: tuple[Bench, list[dict[str, Any]]], by_backend: ByBackend
) -> None:
    bench, stored = seeded
    records = by_backend(stored)
    for name in ("pytorch", "keras"):
        accuracy = figure(records[name], "accuracy")
        assert accuracy["n"] == 3
        assert accuracy["low"] < accuracy["value"] < accuracy["high"]
        assert figure(records[name], "fit")["n"] == 3
        assert len(records[name]["outcome"]["trainings"]) == 3
    first = figure(records["pytorch"], "accuracy")["samples"][0]["value"]
    runtime = figure(records["onnxruntime <- pytorch"], "accuracy")
    assert (runtime["n"], runtime["value"]) == (1, pytest.approx(first, abs=0.003))
    table = bench("report", "--format", "simple").stdout
    assert "Same accuracy? (margin 2 points" in table
    assert "keras - pytorch" in table
    assert "n = 3 seeds" in table


@pytest.mark.slow
def test_time_to_accuracy_counts_training_steps_only(
    seeded: tuple[Bench, list[dict[str, Any]]], by_backend: ByBackend
) -> None:
    for name in ("pytorch", "keras"):
        record = by_backend(seeded[1])[name]
        reached, whole = figure(record, "time_to_accuracy"), figure(record, "fit")
        assert 0 < reached["value"] < whole["value"]
        for training, fit in zip(record["outcome"]["trainings"], whole["samples"], strict=True):
            assert training["curve"][-1]["seconds"] == pytest.approx(fit["value"])
            assert [point["split"] for point in training["curve"]] == ["validation"] * len(training["curve"])
            first = next(p["seconds"] for p in training["curve"] if p["accuracy"] >= 0.5)
            assert training["time_to_accuracy"] == first


@pytest.mark.slow
def test_classes_and_confusion_agree_with_the_accuracy(
    seeded: tuple[Bench, list[dict[str, Any]]], by_backend: ByBackend
) -> None:
    bench, stored = seeded
    for record in by_backend(stored).values():
        outcome = record["outcome"]
        images = sum(map(sum, outcome["confusion"]))
        right = sum(row[i] for i, row in enumerate(outcome["confusion"]))
        assert images == record["data"]["test"] == sum(c["support"] for c in outcome["classes"])
        assert right / images == pytest.approx(figure(record, "accuracy")["samples"][0]["value"])
        assert record["data"]["validation"] == 144
        assert figure(record, "top5_accuracy")["value"] > figure(record, "accuracy")["samples"][0]["value"]
    markdown = bench("report").stdout
    assert "keras: confusion (true by predicted, images)" in markdown
    assert re.search(r"\| epoch +\|", markdown)


@pytest.mark.long
def test_a_target_that_is_not_reached_is_not_measured(bench: Bench) -> None:
    (record,) = bench.run("--backend", "pytorch", "--target-accuracy", "0.999", "--set", "epochs=1", "--task", "infer")
    missed = figure(record, "time_to_accuracy")
    assert missed["value"] is None
    assert missed["reason"] == "not reached within 1 epochs: 1 of 1 seeds"


@pytest.mark.long
def test_modes_are_rows_of_their_own_and_the_fastest_is_named(bench: Bench) -> None:
    options = ("--mode", "channels-last,compile", "--set", "epochs=0", "--task", "infer")
    records = bench.run("--backend", "pytorch", *options, timeout=500)
    modes = {(r["job"]["backend"], r["job"]["mode"]): r for r in records}
    assert set(modes) == {("pytorch", "channels-last"), ("pytorch", "compile")}
    assert all(record["parity"]["comparable"] for record in records)
    compiled, eager = (figure(modes["pytorch", m], "first_call")["value"] for m in ("compile", "channels-last"))
    assert compiled > 3 * eager, "compile time is in the first call, not hidden by a cache"
    report = bench("report", "--format", "simple").stdout
    assert "pytorch fp32, infer: mode" in report
    assert "is the fastest" in report


@pytest.mark.long
def test_precisions_each_with_its_tolerance_and_difference(bench: Bench, by_backend: ByBackend) -> None:
    options = ("--precision", "all", *QUICKLY)
    records = bench.run("--backend", "pytorch,onnxruntime", *options, code=1, timeout=500)
    by_variant = {(r["job"]["backend"], r["job"]["source"], r["job"]["precision"]): r for r in records}
    for backend in ("pytorch",):
        assert by_variant[backend, None, "fp16"]["status"] == "unsupported"
        assert "needs CUDA" in by_variant[backend, None, "fp16"]["error"]
        half = {check["name"]: check for check in by_variant[backend, None, "bf16"]["parity"]["checks"]}
        full = {check["name"]: check for check in by_variant[backend, None, "fp32"]["parity"]["checks"]}
        assert half["logits"]["passed"]
        assert half["logits"]["value"] > 100 * full["logits"]["value"], "bfloat16 was computed"
        assert half["logits"]["tolerance"] > full["logits"]["tolerance"]
    for source in ("pytorch",):
        sizes = {}
        for precision in ("fp32", "fp16", "int8"):
            record = by_variant["onnxruntime", source, precision]
            assert record["parity"]["comparable"], record["parity"]
            difference = next(c for c in record["parity"]["checks"] if c["name"] == "accuracy_of_source")
            assert "points over 359 test images" in difference["note"]
            sizes[precision] = figure(record, "model_size")["value"]
        assert sizes["int8"] < 0.5 * sizes["fp32"]
        assert 0.4 * sizes["fp32"] < sizes["fp16"] < 0.7 * sizes["fp32"]


def test_a_mode_that_only_another_backend_has(bench: Bench) -> None:
    (record,) = bench.run("--backend", "reference", "--mode", "channels-last", "--task", "infer", code=1)
    assert record["status"] == "unsupported"
    assert record["error"] == "it has no mode channels-last; it has numpy"
    done = bench("run", "--mode", "channels-lats")
    assert done.returncode == 2
    assert "unknown mode 'channels-lats'; did you mean 'channels-last'?" in done.stderr


@pytest.fixture(scope="module")
def trained(seeded: tuple[Bench, list[dict[str, Any]]], bench_named: Callable[[str], Bench]) -> tuple[Bench, str]:
    """A separate store with the run of ``seeded``, and the run's name."""
    bench = bench_named("trained")
    shutil.copy(seeded[0].store, bench.store)
    return bench, json.loads(bench("export").stdout)["run"]


@pytest.mark.slow
def test_weights_of_one_framework_start_another(trained: tuple[Bench, str], by_backend: ByBackend) -> None:
    bench, run = trained
    exported = json.loads(bench("export", run).stdout)["records"]
    before = figure(by_backend(exported)["pytorch"], "accuracy")["samples"][0]["value"]
    options = ("--init", f"{run}:pytorch", "--set", "epochs=0", "--task", "infer")
    (record,) = bench.run("--backend", "keras", *options)
    assert figure(record, "accuracy")["value"] == pytest.approx(before, abs=0.003)
    assert record["job"]["started_from"] == f"{run}:pytorch/cpu/fp32/eager", "by the row's id"
    assert record["parity"]["comparable"], "certified with those weights"


@pytest.mark.long
def test_frozen_all_but_the_head(trained: tuple[Bench, str]) -> None:
    from bench.store.store import Store
    from bench.store.weights import load_weights

    bench, run = trained
    store = Store(str(bench.store))
    _, started = load_weights(store, f"{run}:keras")
    options = ("--freeze", "--new-head", "--set", "epochs=1", "--task", "infer")
    for record in bench.run("--backend", "pytorch,keras", "--init", f"{run}:keras", *options):
        assert record["job"]["frozen"]
        assert record["parity"]["comparable"], record["parity"]
        _, ended = load_weights(store, f"last:{record['job']['backend']}")
        moved = {name for name in started if (started[name] != ended[name]).any()}
        assert moved == {"dense_3.kernel", "dense_3.bias"}


@pytest.mark.slow
def test_weights_that_do_not_fit_are_a_one_line_error(trained: tuple[Bench, str], tmp_path: Path) -> None:
    from PIL import Image

    bench, run = trained

    def message_of(*options: str) -> str:
        done = bench("run", "--backend", "pytorch", "--model", "article-pytorch", *options)
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stderr.strip().removeprefix("bench: ")

    assert re.search("trained (pytorch, keras|keras, pytorch); name one", message_of("--init", run))
    assert "has no row 'jax'" in message_of("--init", f"{run}:jax")
    assert "no run 'nothing'" in message_of("--init", "nothing")
    assert "conv2d_3.kernel is in the model only" in message_of("--init", f"{run}:keras", "--model", "article-keras")
    assert "these are not weights of model vgg-cifar" in message_of("--init", f"{run}:keras", "--model", "vgg-cifar")
    for label in ("cats", "dogs"):
        (tmp_path / label).mkdir()
        for number in range(5):
            Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / label / f"{number}.png")
    head = message_of("--init", f"{run}:keras", "--dataset", f"folder:{tmp_path}")
    assert "the head is for 10 classes, the data has 2" in head
    assert head.endswith("add --new-head to draw it anew")
    assert "goes with --init" in message_of("--freeze")

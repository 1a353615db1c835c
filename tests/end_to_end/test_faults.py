"""Adapters that are certified and then do something else when timed: each ends by the check that sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bench_command import Bench
from fakes.registry import RIGHT

Records = dict[str, dict[str, Any]]

SEEN_BY = {
    "Lazy": ("impossible", "late"),
    "Asynchronous": ("impossible", "asynchronous"),
    "WorksInToDevice": ("logits",),
    "BribesTheJudge": ("logits",),
    "ReadsTheReference": ("logits",),
    "RemembersByPlace": ("impossible", "timed_outputs"),
    "PinnedInputs": ("timed_outputs",),
    "HalfABatch": ("timed_outputs",),
    "WrongAtOneImage": ("timed_outputs",),
    "BetterOnTheTestSplit": ("test_logits",),
    "OneBuffer": ("timed_outputs",),
    "LowerPrecisionEndToEnd": ("timed_outputs",),
    "KnowsTheCertifiedInputs": ("timed_outputs",),
    "SlowClock": ("clock",),
    "MoreThreads": ("asynchronous", "cpu_time"),
    "AnotherCore": ("affinity", "cpus"),
    "ResetsItsMark": ("peak_memory",),
    "WritesIntoTheData": ("own_files",),
}
"""By fault (``evenbench_faulty``): the checks of which one must name it."""

ALONE = {"Helper": ("affinity", "asynchronous", "cpu_time")}
"""A process that works along disturbs every other row."""

SEEN_IN_TRAINING = {
    "LazyTraining": ("impossible", "late"),
    "AsynchronousTraining": ("impossible", "asynchronous"),
    "SkipsUpdates": ("timed_training",),
    "ForgetsSamples": ("timed_training",),
    "PinnedTraining": ("sgd_losses", "adam_losses", "timed_training"),
}


def name_of(fault: str) -> str:
    """The backend's name: ``SlowClock`` is ``slow-clock``."""
    return "".join("-" * (i > 0) + letter.lower() if letter.isupper() else letter for i, letter in enumerate(fault))


def seen(record: dict[str, Any]) -> set[str]:
    """The checks that a row failed: of its certificate, and of the harness itself."""
    error = record["error"] or ""
    own = {error.removeprefix("self-check ").partition(":")[0]} if error.startswith("self-check ") else set()
    return own | {check["name"] for check in (record["parity"] or {"checks": []})["checks"] if not check["passed"]}


@pytest.fixture(scope="module")
def records(bench_named: Callable[[str], Bench]) -> Records:
    """One run of all faults, and of an honest adapter beside them; one of those that are alone."""
    bench = bench_named("faults")
    bench.register({name_of(fault): f"evenbench_faulty:{fault}" for fault in [*SEEN_BY, *ALONE]} | RIGHT)
    options = ("--task", "infer", "--batch-size", "64", "--cpus", "0", "--set", "epochs=1")
    found = {}
    for names in ([*map(name_of, SEEN_BY), *RIGHT], [*map(name_of, ALONE)]):
        measured = bench.run(*options, "--backend", ",".join(names), code=1, timeout=590)
        found |= {record["job"]["backend"]: record for record in measured}
    return found


@pytest.fixture(scope="module")
def trained(bench_named: Callable[[str], Bench]) -> Records:
    """One run of all faults of training, and of an honest adapter beside them."""
    bench = bench_named("training-faults")
    bench.register({name_of(fault): f"evenbench_faulty:{fault}" for fault in SEEN_IN_TRAINING} | RIGHT)
    names = [*map(name_of, SEEN_IN_TRAINING), *RIGHT]
    # Batches of 16: by them the fakes know a timed step.
    options = ("--backend", ",".join(names), "--task", "train", "--batch-size", "16", "--set", "epochs=1")
    return {record["job"]["backend"]: record for record in bench.run(*options, code=1, timeout=590)}


@pytest.mark.parametrize("fault", [*SEEN_BY, *ALONE])
def test_a_fault_is_named(records: Records, fault: str) -> None:
    record = records[name_of(fault)]
    assert not record["comparable"], "published as comparable"
    assert seen(record) & set((SEEN_BY | ALONE)[fault]), (record["status"], record["error"], seen(record))


@pytest.mark.parametrize("fault", SEEN_IN_TRAINING)
def test_a_fault_of_training_is_named(trained: Records, fault: str) -> None:
    record = trained[name_of(fault)]
    assert not record["comparable"], "published as comparable"
    assert seen(record) & set(SEEN_IN_TRAINING[fault]), (record["status"], record["error"], seen(record))


def test_an_exporter_is_named_for_its_own_file(bench_named: Callable[[str], Bench]) -> None:
    """The runtime that reads it computes what the file says."""
    bench = bench_named("exporter")
    bench.register(
        {"exports-half": "evenbench_exporter:ExportsHalf", "exports-a-table": "evenbench_exporter:ExportsATable"}
    )
    names = "exports-half,exports-a-table,onnxruntime"
    measured = bench.run("--backend", names, "--task", "infer", "--set", "epochs=1", code=1, timeout=590)
    rows = {(record["job"]["backend"], record["job"]["source"]): record for record in measured}
    assert seen(rows["exports-half", None]) == {"exported_file"}
    assert seen(rows["onnxruntime", "exports-half"]) >= {"timed_outputs", "logits_of_source"}
    assert seen(rows["exports-a-table", None]) == {"exported_file", "exported_flops"}
    assert seen(rows["onnxruntime", "exports-a-table"]) >= {"test_logits", "logits_of_source"}
    assert rows["onnxruntime", "pytorch"]["comparable"], seen(rows["onnxruntime", "pytorch"])


def test_the_honest_row_beside_them_is_comparable(records: Records, trained: Records) -> None:
    for found, name in ((records, "timed_outputs"), (trained, "timed_training")):
        (honest,) = (found[backend] for backend in RIGHT)
        assert (honest["status"], honest["comparable"]) == ("ok", True), (honest["error"], seen(honest))
        (check,) = (check for check in honest["parity"]["checks"] if check["name"] == name)
        assert check["value"] < 0.3 * check["tolerance"]

"""Throughput at every batch size; running out of memory affects only the larger sizes."""

from __future__ import annotations

from bench_command import Bench


def throughputs(record: dict, task: str = "infer", boundary: str = "end-to-end") -> dict[int, dict]:
    return {
        f["batch_size"]: f
        for f in record["figures"]
        if (f["name"], f["task"], f["boundary"]) == ("throughput", task, boundary)
    }


def test_every_batch_size_is_measured(bench: Bench) -> None:
    bench.register({"constant": "evenbench_known:Constant"})
    (record,) = bench.run("--backend", "constant", "--batch-size", "8,1,32")
    for task in ("train", "infer"):
        measured = throughputs(record, task)
        assert list(measured) == [1, 8, 32]
        assert all(figure["value"] for figure in measured.values())
    table = bench("report", "--format", "simple").stdout
    assert "Inference throughput by batch size (end-to-end, images/s" in table
    assert "batch 32" in table


def test_batch_sizes_that_do_not_fit(bench: Bench) -> None:
    bench.register({"small": "evenbench_rude:SmallMemory"})
    records = bench.run("--backend", "small", "--batch-size", "1,4,16,64", "--rounds", "2", "--task", "infer")
    measured = throughputs(records[0])
    assert [bool(measured[size]["value"]) for size in (1, 4, 16, 64)] == [True, True, False, False]
    assert measured[4]["n"] == 2
    assert measured[16]["reason"].startswith("out of memory: MemoryError")
    assert records[0]["status"] == "ok"
    assert "out of memory" in bench("report", "--format", "simple").stdout


def test_a_worker_that_dies_of_a_batch_is_measured_again_without_it(bench: Bench) -> None:
    bench.register({"dies": "evenbench_rude:DiesAboveFour"})
    (record,) = bench.run("--backend", "dies", "--batch-size", "1,4,16", "--rounds", "2", "--task", "infer")
    measured = throughputs(record)
    assert [figure["n"] for figure in measured.values()] == [2, 2, 0]
    assert measured[16]["reason"] == "out of memory: batch 16 did not fit into memory"


def test_the_smallest_batch_that_does_not_fit_ends_the_row(bench: Bench) -> None:
    bench.register({"small": "evenbench_rude:SmallMemory"})
    (record,) = bench.run("--backend", "small", "--batch-size", "16,64", "--task", "infer", code=1)
    assert record["status"] == "out-of-memory"


def test_invalid_lists(bench: Bench) -> None:
    for text in ("0", "a", "8,-1", ""):
        done = bench("run", "--batch-size", text)
        assert done.returncode == 2
        assert "--batch-size" in done.stderr

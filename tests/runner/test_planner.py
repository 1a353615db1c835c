"""The rows of a plan, why a row cannot run, and that this does not affect the other rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def plan_under_all() -> Any:
    return plan_of(("all",))


def plan_of(names: tuple[str, ...]) -> Any:
    from bench.runner.plan import Request
    from bench.runner.planner import make_plan
    from bench.workloads.models import MODELS
    from bench.workloads.workload import RECIPES, Workload

    workload = Workload(MODELS["article-pytorch"], "digits", RECIPES["article-keras"])
    return make_plan(Request(names, workload, devices="cpu"))


def test_under_all_a_missing_framework_ends_only_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.runner import planner

    describe, installed = planner.backends.describe, planner.backends.installed

    def without_keras(name: str) -> Any:
        if name == "keras":
            raise ImportError("RuntimeError: broken on import")
        return describe(name)

    def without_torch(adapter: Any) -> tuple[dict[str, str], list[str]]:
        return ({}, ["torch"]) if adapter.EXTRA == "pytorch" else installed(adapter)

    monkeypatch.setattr(planner.backends, "describe", without_keras)
    monkeypatch.setattr(planner.backends, "installed", without_torch)
    rows = {row.name: row for row in plan_under_all().rows}
    assert rows["keras"].problem == ("unavailable", "cannot be imported: RuntimeError: broken on import")
    assert rows["pytorch"].problem[0] == "unavailable"
    assert rows["reference"].problem is None
    assert not any(row.required for row in rows.values())


def test_a_runtime_whose_source_is_unavailable_does_not_fail_the_run(
    process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.records.record import Data
    from bench.runner import planner
    from bench.runner.record_builder import Context
    from bench.runner.results import Results, Silent
    from bench.runner.row_jobs import RowJobs
    from bench.runner.run import _any_failed
    from bench.runner.workspace import DatasetInputs, Workspace
    from bench.workloads.datasets import digits

    ready = {"onnx"}
    monkeypatch.setattr(
        planner.backends, "installed", lambda adapter: ({}, [] if adapter.EXTRA in ready else ["its framework"])
    )
    plan = plan_under_all()
    context = Context({"gpus": []}, Data(name="digits", sha256="", train=1, test=1), None, "")
    workspace, results = Workspace(plan, DatasetInputs(digits.load())), Results(plan, context, Silent(), total=0)
    with workspace.opened():
        RowJobs(workspace, results, digits.load()).run_all()
    records = {row.name: record for row, record in zip(plan.rows, results.records(), strict=True)}
    runtime = records["onnxruntime <- pytorch"]
    assert runtime.status == "unavailable"
    assert runtime.error.startswith("no onnx file: pytorch is unavailable: not installed")
    assert not _any_failed(plan, list(records.values())), "bench run --backend all still exits 0"


def test_a_row_and_its_source_keep_one_name_in_all_variants() -> None:
    from bench.runner.plan import Request
    from bench.runner.planner import make_plan
    from bench.workloads.models import MODELS
    from bench.workloads.workload import RECIPES, Workload

    workload = Workload(MODELS["article-pytorch"], "digits", RECIPES["article-keras"])
    request = Request(
        ("pytorch", "onnxruntime"), workload, devices="cpu", precisions=("all",), modes=("channels-last", "default")
    )
    rows = make_plan(request).rows
    names = {row.name for row in rows}
    assert {"pytorch fp32 eager", "pytorch bf16 channels-last", "onnxruntime <- pytorch int8"} <= names
    assert all(row.source is None or row.source in rows for row in rows)
    assert len(names) == len(rows)


def test_under_all_modes_only_the_first_must_run() -> None:
    """``onnxruntime --mode all`` failed where the wheel of one of its modes was not there."""
    from bench.runner.plan import Request
    from bench.runner.planner import make_plan
    from bench.workloads.models import MODELS
    from bench.workloads.workload import RECIPES, Workload

    workload = Workload(MODELS["article-pytorch"], "digits", RECIPES["article-keras"])

    def required(*modes: str) -> dict[str, bool]:
        plan = make_plan(Request(("pytorch", "onnxruntime"), workload, devices="cpu", task="infer", modes=modes))
        return {row.job.mode: row.required for row in plan.rows if row.requested}

    assert {mode for mode, needed in required("all").items() if needed} == {"eager", "all-optimizations"}
    assert all(required("eager", "no-optimizations").values())


def test_an_unsupported_precision_yields_an_unsupported_row() -> None:
    from bench.runner.plan import Request
    from bench.runner.planner import make_plan
    from bench.workloads.models import MODELS
    from bench.workloads.workload import RECIPES, Workload

    workload = Workload(MODELS["article-pytorch"], "digits", RECIPES["article-keras"])
    requested = Request(("pytorch", "onnxruntime"), workload, devices="cpu", precisions=("fp32", "int8"))
    problems = {(row.job.backend, row.job.precision): row.problem for row in make_plan(requested).rows if row.requested}
    assert problems["pytorch", "int8"] == ("unsupported", "it has no precision int8; it has fp32, bf16, fp16")
    assert problems["pytorch", "fp32"] is None
    assert problems["onnxruntime", "int8"] is None


def test_the_judge_of_parity_is_not_a_contender() -> None:
    rows = {row.name: row.contender for row in plan_under_all().rows}
    assert [name for name, contends in rows.items() if not contends] == ["reference"]


def test_a_runtime_reads_what_a_trainer_writes() -> None:
    rows = {row.name: row for row in plan_under_all().rows}
    assert rows["litert <- keras"].reads == "litert"
    assert rows["onnxruntime <- keras"].reads == "onnx"
    assert rows["aot-inductor <- pytorch"].reads == "exported-program"
    assert not {"litert <- pytorch", "aot-inductor <- keras", "onnxruntime <- jax"} & rows.keys()


def test_only_formats_that_a_row_reads_are_written() -> None:
    from bench.records.record import Data
    from bench.runner.record_builder import Context
    from bench.runner.results import Results, Silent
    from bench.runner.row_jobs import RowJobs
    from bench.runner.workspace import DatasetInputs, Workspace
    from bench.workloads.datasets import digits

    data, context = digits.load(), Context({"gpus": []}, Data(name="digits", sha256="", train=1, test=1), None, "")
    for names, written in (
        (("keras",), ("onnx",)),
        (("keras", "litert"), ("onnx", "litert")),
        (("keras", "onnxruntime"), ("onnx",)),
    ):
        plan = plan_of(names)
        jobs = RowJobs(Workspace(plan, DatasetInputs(data)), Results(plan, context, Silent(), total=0), data)
        keras = next(row for row in plan.rows if row.name == "keras")
        assert jobs._formats(keras) == written, names


def test_a_runtime_that_compiles_gets_a_file_of_its_own(tmp_path: Path) -> None:
    from bench.runner.workspace import DatasetInputs, Workspace
    from bench.workloads.datasets import digits

    workspace = Workspace(plan_under_all(), DatasetInputs(digits.load()))
    workspace.scratch = tmp_path
    work = {row.name: workspace.work(row) for row in workspace.plan.rows}
    assert work["litert <- keras"].converted is None
    assert work["litert <- keras"].file == tmp_path / "keras_cpu_fp32_graph-fit" / "model.tflite"
    compiled = work["aot-inductor <- pytorch"]
    assert compiled.file == tmp_path / "pytorch_cpu_fp32_eager-fit" / "model.pt2"
    assert compiled.converted is not None
    assert compiled.converted.name == "model.pt2"
    assert compiled.converted.parent != compiled.file.parent


def test_as_many_gpus_as_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.machine import nvml
    from bench.runner.plan import Request
    from bench.runner.planner import make_plan
    from bench.workloads.models import MODELS
    from bench.workloads.workload import RECIPES, Workload

    gpus = [nvml.Gpu(number, f"GPU-{number}", "H200", 141) for number in range(2)]
    monkeypatch.setattr(nvml, "gpus", lambda: (gpus, ""))
    workload = Workload(MODELS["article-pytorch"], "digits", RECIPES["article-keras"])
    plan = make_plan(Request(("pytorch",), workload, task="train", processes=(2, 4), devices="cuda"))
    two, four = plan.rows
    assert two.problem is None
    assert four.problem == ("unavailable", "4 processes need 4 GPUs, this machine has 2")


def test_processes_that_train_together_are_rows() -> None:
    from bench.runner.plan import Request
    from bench.runner.planner import make_plan
    from bench.workloads.models import MODELS
    from bench.workloads.workload import RECIPES, Workload

    workload = Workload(MODELS["article-pytorch"], "digits", RECIPES["article-keras"])
    plan = make_plan(Request(("all",), workload, task="train", processes=(1, 2), devices="cpu"))
    rows = {row.name: row for row in plan.rows}
    assert rows["pytorch, 2 processes"].problem is None
    assert rows["jax, 2 processes"].job.all_threads == 2 * rows["jax, 1 process"].job.threads
    assert rows["keras, 2 processes"].problem is not None
    assert rows["keras, 2 processes"].problem[0] == "unsupported"
    assert "tensorflow#72388" in rows["keras, 2 processes"].problem[1]
    assert not rows["reference, 2 processes"].required
    assert {row.tasks for row in plan.rows} == {frozenset({"train"})}, "none is trained to the end of the recipe"
    assert not any("onnxruntime" in name for name in rows)
    assert rows["pytorch, 2 processes"].id == "pytorch/cpu/fp32/eager/2-processes"


def test_input_pipelines_are_rows_by_their_workers() -> None:
    from bench.runner.plan import Request
    from bench.runner.planner import make_plan
    from bench.workloads.models import MODELS
    from bench.workloads.workload import RECIPES, Workload

    workload = Workload(MODELS["article-pytorch"], "digits", RECIPES["article-keras"])
    plan = make_plan(Request(("all",), workload, task="input", input_workers=(0, 2), devices="cpu"))
    names = [row.name for row in plan.rows]
    assert "pytorch, 0 workers" in names
    assert "pytorch, 2 workers" in names
    assert not any("onnxruntime" in name for name in names), "a runtime has no pipeline"
    assert {row.tasks for row in plan.rows} == {frozenset({"input"})}, "nothing is trained to a recipe's end"
    assert [metric.name for metric in plan.metrics] == ["input_throughput", "fed_throughput"]
    (named, _) = make_plan(Request(("onnxruntime",), workload, task="input", input_workers=(0, 2), devices="cpu")).rows
    assert named.problem == ("unsupported", "onnxruntime has no input pipeline")

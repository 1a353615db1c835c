"""One suite over every installed adapter: the certificate, the chain to ONNX, what it says of itself.

Each case runs in workers, as ``bench run`` would: two frameworks in one process end in a segmentation fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bench_command import Bench
from every_layer import EVERY_LAYER

import backends
from backends.base import Backend
from bench.runner.judges.tolerances import TOLERANCES

CHAINS = (
    ("aot-inductor", "pytorch"),
    ("executorch", "pytorch"),
    ("litert", "keras"),
    ("onnxruntime", "keras"),
    ("onnxruntime", "pytorch"),
    ("openvino", "keras"),
    ("openvino", "pytorch"),
)
"""Runtimes and the sources of their files."""
BUILT_IN = ("jax", "keras", "keras-jax", "keras-torch", "pytorch", "reference", *sorted({name for name, _ in CHAINS}))
EXPORTERS = ("keras", "pytorch")
MOMENTUM = dict.fromkeys(("keras", "keras-jax", "keras-torch"), "rate-inside") | dict.fromkeys(
    ("jax", "pytorch"), "rate-outside"
)
VARIANCE = dict.fromkeys(("jax", "keras", "keras-jax", "keras-torch"), "population") | {"pytorch": "sample"}
TRAINED = [name for name in BUILT_IN if not backends.load(name).READS]

ARTICLE = ("article-keras", "article-pytorch")
EVERY = "every.toml"
"""The model of ``every_layer.py``, with a recipe that has everything."""
TIMED = "article-pytorch"
"""The smaller model is the one that is timed in training too; the other on two threads."""
DEEP = (EVERY,)
"""``vgg-cifar``, ``resnet20`` and ``mobilenet-cifar`` take minutes: benchmarks/parity_margins.py certifies them."""
ROWS = {
    "article-keras": ("keras", "pytorch", "reference", "onnxruntime", "litert"),
    "article-pytorch": (
        "keras-jax",
        "keras-torch",
        "pytorch",
        "reference",
        "aot-inductor",
        "executorch",
        "onnxruntime",
    ),
    EVERY: ("jax", "keras", "pytorch", "reference", "litert", "onnxruntime", "openvino"),
}
"""The rows of a model's run. What compiles longest is not with the model of most layers; benchmarks/parity_margins.py
certifies it on deep ones."""
CASES, CHAIN_CASES = list[Any](), list[Any]()
for model, rows in ROWS.items():
    marks = [pytest.mark.long] if model == "article-keras" else []
    CASES += [pytest.param(n, model, marks=marks) for n in TRAINED if n in rows]
    CHAIN_CASES += [pytest.param(*chain, model, marks=marks) for chain in CHAINS if {*chain} <= {*rows}]

Records = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def runs(bench_named: Callable[[str], Bench]) -> Callable[[str], Records]:
    """Records of a quick ``bench run`` per model, run when first asked for: TIMED trains too, others have 2 threads."""
    found: dict[str, Records] = {}

    def of(model: str) -> Records:
        if model not in found:
            bench = bench_named(model)
            rows = ("--backend", ",".join(ROWS[model]), "--recipe", "article-keras")
            rows += () if model == TIMED else ("--task", "infer", "--threads", "2")
            if model in DEEP:
                (bench.folder / EVERY).write_text(EVERY_LAYER)
                rows += ("--recipe", "one-cycle", "--set", "epochs=1")
            records = bench.run(*rows, "--model", model, timeout=590)
            names = [r["job"]["backend"] + (f" <- {r['job']['source']}" if r["job"]["source"] else "") for r in records]
            found[model] = dict(zip(names, records, strict=True))
        return found[model]

    return of


def figure(record: dict[str, Any], name: str, task: str | None = None, boundary: str | None = None) -> dict[str, Any]:
    """A figure of an exported record."""
    return next(f for f in record["figures"] if (f["name"], f["task"], f["boundary"]) == (name, task, boundary))


@pytest.mark.parametrize("name", BUILT_IN)
def test_capabilities_are_readable_without_the_framework(name: str) -> None:
    adapter = backends.load(name)
    assert {"train", "infer", "fit", "input"} >= adapter.TASKS
    assert set(adapter.DEVICES) <= {"cpu", "cuda"}
    assert adapter.PRECISIONS[0] in TOLERANCES
    assert adapter.MODES
    assert backends.installed(adapter)[1] == [], "the tests run with every extra installed"


def test_every_adapter_and_chain_has_a_case() -> None:
    quick = [case for case in (*CASES, *CHAIN_CASES) if not case.marks]
    assert {case.values[0] for case in quick} == set(BUILT_IN)
    assert {case.values[:2] for case in CHAIN_CASES if not case.marks} == set(CHAINS)


@pytest.mark.parametrize("name", BUILT_IN)
def test_signatures_are_the_protocols(name: str) -> None:
    import inspect

    adapter = backends.load(name)
    for method, contract in inspect.getmembers(Backend, inspect.isfunction):
        if not method.startswith("_") or method == "__init__":
            ours = [each for each in inspect.signature(getattr(adapter, method)).parameters if each != "spread"]
            assert ours == list(inspect.signature(contract).parameters), f"{name}.{method}"
    if adapter.SCALES_BY:
        assert "spread" in inspect.signature(adapter.__init__).parameters


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model"), CASES)
def test_certificate(runs: Callable[[str], Records], name: str, model: str) -> None:
    record = runs(model)[name]
    checks = {check["name"]: check for check in record["parity"]["checks"]}
    assert {"parameters", "logits", "gradients", "sgd_losses", "adam_losses"} <= checks.keys()
    assert all(check["passed"] for check in checks.values()), checks
    assert record["settings"]["denormals"] == "flushed"
    assert "stated_denormals" in checks
    assert ("running_statistics" in checks) == (model in DEEP)
    assert ("dropout" in checks) == (model in DEEP)
    if model in DEEP and name != "reference":
        momentum = checks["sgd_losses"]["details"]
        assert momentum["momentum_form"] == MOMENTUM[name]
        kept = checks["running_statistics"]["details"]
        assert kept["variance"] == VARIANCE[name]
        assert kept["off_other_form"] > 10 * checks["running_statistics"]["value"], "the two must be told apart"
    if record["job"]["precision"] == "fp64":
        assert checks["finite_differences"]["value"] < 1e-7
    else:
        assert "training" in checks
        if name in EXPORTERS:
            assert {"flops", "exported_flops"} <= checks.keys(), "both frameworks can count, and so can we"
            assert "exported_file" in checks
        assert checks["logits"]["value"] > 0, "float32 that equals float64 to the last bit was not computed"


@pytest.mark.long
def test_the_two_adams(runs: Callable[[str], Records]) -> None:
    found = runs("article-keras")
    details = {
        name: next(c["details"] for c in found[name]["parity"]["checks"] if c["name"] == "adam_losses")
        for name in ("keras", "pytorch")
    }
    assert details["keras"]["adam_form"] == "epsilon-hat"
    assert details["pytorch"]["adam_form"] == "corrected"
    for told in details.values():
        assert told["of"] == "of the change over 5 steps"
        assert told["off_other_form"] > 1e-5, "the forms must be told apart, not just be near each other"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "source", "model"), CHAIN_CASES)
def test_chain(runs: Callable[[str], Records], name: str, source: str, model: str) -> None:
    trained, runtime = runs(model)[source], runs(model)[f"{name} <- {source}"]
    accuracy = figure(trained, "accuracy")["value"]
    assert (0.93 if model in ARTICLE else 0.05) < accuracy < 1
    assert figure(runtime, "accuracy")["value"] == pytest.approx(accuracy, abs=0.001)
    assert figure(runtime, "loss")["value"] == pytest.approx(figure(trained, "loss")["value"], rel=1e-4)
    assert {check["name"] for check in runtime["parity"]["checks"]} - {"stated_precision"} == {
        "logits_of_source",
        "accuracy_of_source",
        "source",
        "test_logits",
        "timed_outputs",
    }
    assert "exported_file" in {check["name"] for check in trained["parity"]["checks"] if check["passed"]}
    assert runtime["parity"]["comparable"]
    providers = runtime["settings"].get("nodes_per_provider", {"CPUExecutionProvider": 5})
    assert set(providers) == {"CPUExecutionProvider"}
    assert providers["CPUExecutionProvider"] >= 5
    assert runtime["settings"].get("computes_in", "float32") == "float32"
    size = figure(trained, "model_size")["value"]
    parameters = figure(trained, "parameters")["value"]
    assert size > 3.5 * parameters, "an exporter may fold batch normalization into the convolution before it"
    if backends.load(name).READS == ("onnx",):
        assert figure(runtime, "model_size")["value"] == size, "the figure of a source is of its ONNX file"
    else:
        assert figure(runtime, "model_size")["value"] > 3.5 * parameters


@pytest.mark.slow
def test_every_figure_is_measured_or_says_why(runs: Callable[[str], Records]) -> None:
    for name, record in [*runs(TIMED).items(), *runs(EVERY).items()]:
        for found in record["figures"]:
            assert (found["value"] is None) == bool(found["reason"]), (name, found["name"])
            assert found["value"] != 0, (name, found["name"])
        assert record["settings"]["threads"] == record["job"]["threads"], name
        assert record["settings"].get("inter_op_threads", 1) == 1, "intra-op and inter-op swapped"
        assert record["settings"]["fast_path"]
        assert record["versions"]


@pytest.mark.slow
def test_the_reference_never_trains_to_accuracy(runs: Callable[[str], Records]) -> None:
    record = runs(TIMED)["reference"]
    accuracy = figure(record, "accuracy")
    assert accuracy["value"] is None
    assert "does not train to a recipe's end" in accuracy["reason"]
    assert figure(record, "throughput", "train", "end-to-end")["value"] > 0


@pytest.mark.slow
def test_speeds_are_plausible(runs: Callable[[str], Records]) -> None:
    for name, record in runs(TIMED).items():
        throughput = figure(record, "throughput", "infer", "end-to-end")
        slices = throughput["samples"][0]["slices"]
        used = [piece for piece in slices if not piece["disturbed"]] or slices
        speed = sum(piece["images"] for piece in used) / sum(piece["seconds"] for piece in used)
        assert throughput["value"] == pytest.approx(speed), name
        latencies = [figure(record, f"latency_p{p}", "infer", "end-to-end")["value"] for p in (50, 90, 99)]
        assert latencies == sorted(latencies), name
        assert figure(record, "cold_start", "infer", "end-to-end")["value"] > latencies[0], name
        assert 20e6 < figure(record, "peak_rss", "infer")["value"] < 8e9, name

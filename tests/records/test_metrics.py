"""A metric is one entry: whatever shows, judges or exports metrics reads it there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from builders import figure, row, run

from bench.analysis import intervals
from bench.analysis.ratios import with_ratios
from bench.gate.gated_metric import IN_PAIRS, MARGINS, NAMES, GatedMetric, as_change
from bench.records.metrics import METRICS, RATE, SECONDS, Metric, Quantity
from bench.records.record import Run
from reports.content import columns, definitions, plots, tables
from reports.exports import bencher, github_action_benchmark, pytest_benchmark
from reports.pages import html, markdown

ROOT = Path(__file__).parents[2]
JOULES = Quantity("J", "mJ", 1e3, ".3g")


def measured(metric: Metric, **place: object) -> Run:
    """Two comparable rows that were measured in this metric only."""
    both = (("a", [0.25, 0.5]), ("b", [0.75, 0.8]))
    return run(*(row(name, [figure(metric.name, values, **place)]) for name, values in both))


def timed(made: Run) -> Run:
    """The same with a time in every row."""
    rows = [row(r.job.backend, [*map(dict, r.figures), figure("fit", [1.0], task="train")]) for r in made.records]
    return run(*rows)


@pytest.fixture(params=["higher", "lower", None])
def direction(request: pytest.FixtureRequest) -> str | None:
    found: str | None = request.param
    return found


@pytest.fixture(
    params=[
        ("throughput", {"task": "train", "batch_size": 32, "boundary": "device"}, JOULES),
        ("throughput", {"task": "infer", "batch_size": 32, "boundary": "end-to-end"}, RATE),
        ("latency", {"task": "infer", "batch_size": 1, "boundary": "end-to-end"}, SECONDS),
        ("start and size", {"task": "infer"}, JOULES),
        ("outcome", {}, JOULES),
        ("throughput", {}, JOULES),
    ],
    ids=lambda made: f"{made[0]} {made[2].unit} {' '.join(map(str, made[1].values()))}",
)
def toy(request: pytest.FixtureRequest, direction: str | None, monkeypatch: pytest.MonkeyPatch) -> tuple[Metric, Run]:
    """A metric that nobody knew before, registered and measured; nothing else is edited."""
    group, place, quantity = request.param
    metric = Metric("toy_cost", "toy cost", quantity, group, "What a toy costs.", direction=direction, plotted=True)
    monkeypatch.setitem(METRICS, metric.name, metric)
    return metric, measured(metric, **place)


def in_exports(made: Run) -> dict[str, tuple[str, dict[str, str]]]:
    """Document and what it left out, by format."""
    return {
        "bencher": (bencher.document(made), bencher.left_out(made)),
        "pytest-benchmark": (pytest_benchmark.document(made), pytest_benchmark.left_out(made)),
        "bigger": (github_action_benchmark.document(made, True), github_action_benchmark.left_out(made, True)),
        "smaller": (github_action_benchmark.document(made, False), github_action_benchmark.left_out(made, False)),
    }


def test_a_new_metric_is_shown_everywhere_without_another_edit(toy: tuple[Metric, Run]) -> None:
    metric, made = toy
    value = made.records[0].figures[0].value
    assert value is not None
    shown = metric.shown(value)
    text = [cell for table in tables.build(made, tables.Notes()) for line in table.rows for cell in line]
    assert any(cell.startswith(f"{shown} ±") for cell in text), text
    heads = [head for table in tables.build(made, tables.Notes()) for head in table.headers]
    assert any("toy cost" in head for head in heads), heads
    grid = columns.grid(made)
    assert [column.head.startswith("toy cost") for column in grid.columns] == [True]
    assert grid.columns[0].unit == metric.quantity.shown_unit
    assert grid.rows[0][1][0].value == value
    page = html.run_page(made)
    assert f'data-value="{value}"' in page
    assert "What a toy costs." in page
    assert "What a toy costs." in markdown.render(made)
    (plot,) = [plot for section in plots.run_sections(made) for plot in section.plots]
    assert plot.title.startswith("Toy cost")
    assert metric.with_unit(value) in plot.alternative


def test_a_new_metric_is_in_every_export_or_named_as_left_out(toy: tuple[Metric, Run]) -> None:
    metric, made = toy
    for name, (document, left_out) in in_exports(timed(made)).items():
        assert ("toy_cost" in document.replace("-", "_")) is not ("toy_cost" in left_out), (name, document, left_out)
    bigger, smaller = (json.loads(github_action_benchmark.document(made, which)) for which in (True, False))
    assert bool(bigger) is (metric.direction == "higher")
    assert bool(smaller) is (metric.direction == "lower")


def test_a_new_metric_is_documented(toy: tuple[Metric, Run]) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.metrics()
    assert "- **`toy_cost`**: What a toy costs." in text
    assert f"| `toy_cost` | toy cost | {definitions.unit(toy[0])} | {toy[0].direction or 'neither'} |" in text


def test_a_speed_is_compared_in_its_own_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    for direction, fastest in (("higher", "b"), ("lower", "a")):
        toy = Metric("toy_cost", "toy", JOULES, "throughput", "A toy.", direction=direction, compared=True)
        monkeypatch.setitem(METRICS, toy.name, toy)
        made = measured(toy, task="infer", batch_size=1, boundary="device")
        assert {ratio.against for record in made.records for ratio in record.ratios} == {f"{fastest}/cpu/fp32/usual"}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_an_entry_is_whole(metric: Metric) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
    assert metric.definition[0].isupper()
    assert metric.definition.endswith(".")
    assert (metric.gate is None) == (metric.margin is None)
    assert metric.direction is not None or metric.group == "start and size", "only a property of the model has none"
    if metric.compared or metric.gate or metric.questions:
        assert metric.direction is not None
        assert metric.spread_over is not None
    assert (metric.interval is None) == (metric.spread_over is None) == (metric.confidence is None)
    assert metric.confidence in (None, intervals.CONFIDENCE)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_every_metric_is_in_every_export_or_named_as_left_out(metric: Metric) -> None:
    made = measured(metric, task="train", batch_size=8, boundary="device")
    slug = bencher.measure(metric)
    assert metric.name.replace("_", "-").startswith(slug.partition("-")[0])
    texts = in_exports(made)
    assert f'"{slug}"' in texts["bencher"][0]
    assert texts["bencher"][1] == {}
    for name in ("bigger", "smaller"):
        document, left_out = texts[name]
        assert (metric.name in document) is not (metric.name in left_out)
    document, left_out = texts["pytest-benchmark"]
    assert (metric.name in document) is not any(metric.name in why for why in left_out.values())
    if metric.name != "fit":
        assert metric.name in pytest_benchmark.document(timed(made))
        assert pytest_benchmark.left_out(timed(made)) == {}


def test_accuracies_are_bigger_is_better() -> None:
    """They were not: top-5 accuracy was exported as smaller is better."""
    for name in ("accuracy", "top5_accuracy"):
        assert name in github_action_benchmark.document(measured(METRICS[name]), bigger=True)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_direction_agrees_everywhere(metric: Metric) -> None:
    words = definitions.metric_definition(metric)
    assert (f"{metric.direction} is better" in words) is (metric.direction is not None)
    if metric.gate is not None:
        target = GatedMetric("row", metric.name, None, None, None)
        assert (as_change(target, harm=0.1) > 0) is metric.lower_is_better
        assert as_change(target, harm=0.0) == 0.0
    best = min if metric.lower_is_better else max
    place = {"task": "infer", "batch_size": 1, "boundary": "device"}
    if metric.compared:
        made = measured(metric, **place)
        winner = best(made.records, key=lambda record: record.figures[0].value or 0.0)
        assert {ratio.against for record in made.records for ratio in record.ratios} == {winner.id}


def test_the_gate_keeps_its_names() -> None:
    assert NAMES == ("throughput", "latency", "memory", "accuracy")
    assert IN_PAIRS == ("throughput", "latency", "memory")
    assert MARGINS == {"throughput": 0.005, "latency": 0.005, "memory": 0.01, "accuracy": 0.005}


def test_values_are_shown_in_the_units_of_heads() -> None:
    assert METRICS["latency_p50"].with_unit(0.0123456) == "12.3 ms"
    assert METRICS["latency_p50"].with_unit(0.0123456, digits=5) == "12.346 ms"
    assert METRICS["peak_rss"].with_unit(123456789.0) == "123 MB"
    assert METRICS["throughput"].with_unit(9140.0, digits=5) == "9,140.0 images/s"
    assert METRICS["accuracy"].with_unit(0.98765) == "0.9877"
    assert METRICS["peak_rss"].titled("peak RSS") == "peak RSS [MB]"
    assert METRICS["accuracy"].titled("accuracy") == "accuracy"


def test_the_judge_of_parity_is_no_yardstick() -> None:
    place = {"task": "infer", "batch_size": 8, "boundary": "device"}
    judge = row("judge", [figure("throughput", [900.0], **place)], contender=False)
    rows = [row(name, [figure("throughput", [value], **place)]) for name, value in (("a", 100.0), ("b", 200.0))]
    assert {r.against for record in with_ratios([judge, *rows]) for r in record.ratios} == {"b/cpu/fp32/usual"}
    alone = with_ratios([judge])[0].ratios[0]
    assert (alone.against.split("/")[0], alone.value) == ("judge", 1.0)


LISTED_ON_PURPOSE = {
    "bench/records/metrics.py": "the entries",
    "bench/runner/record_builder.py": "where values are computed",
    "bench/runner/invariants.py": "percentiles of one latency are in order",
    "bench/analysis/roofs.py": "the work of a model",
    "bench/analysis/scaling.py": "where efficiencies are computed",
    "bench/worker/session.py": "what a worker replies",
    "bench/worker/training.py": "what an evaluation comes to",
    "bench/runner/judges/certificate.py": "what a framework counts",
    "reports/content/timing.py": "phases of a worker, which share words with metrics",
    "reports/exports/bencher.py": "Bencher's own names of two metrics",
}


def listed(path: Path) -> list[str]:
    """Literal collections that name two metrics or more."""
    collections = []
    for node in ast.walk(ast.parse(path.read_text())):
        parts = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
        names = [part.value for part in parts if isinstance(part, ast.Constant) and part.value in METRICS]
        if len(names) > 1:
            collections.append(f"line {getattr(node, 'lineno', 0)}: {', '.join(names)}")
    return collections


def test_nobody_else_lists_metrics_by_name() -> None:
    """Such lists are what two exports had wrong, and what a new metric would have to be added to."""
    files = [path for room in ("bench", "reports") for path in (ROOT / room).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): lists for path in files if (lists := listed(path))}
    assert {path: lists for path, lists in found.items() if path not in LISTED_ON_PURPOSE} == {}

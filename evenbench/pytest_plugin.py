"""A pytest fixture that times any backend on any workload through pytest-benchmark's ``benchmark``.

    def test_inference(evenbench):
        evenbench("pytorch", task="infer", batch_size=128)

The row is certified once; every round is a fresh worker. The recorded time is the worker's own time of one batch,
without the pipe: the fixture gives pytest-benchmark a timer that advances by exactly that time. All options of
pytest-benchmark work as usual.

pytest loads this module in every project, so nothing of ours is imported before the fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest

from evenbench import own_packages

if TYPE_CHECKING:
    from bench.records.record import Record

DEFAULT_ROUNDS = 5
Timed = Callable[..., Any]


class WorkerClock:
    """A timer that advances only by the seconds that workers report."""

    __name__ = "evenbench_worker"

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        """Sum of the reported seconds."""
        return self._now

    def add(self, seconds: float) -> None:
        """Advance the timer."""
        self._now += seconds


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Name ``benchmark`` among the fixtures of our tests, before pytest-benchmark looks for it: ``--benchmark-only``
    skips every test without it."""
    if config.pluginmanager.hasplugin("benchmark"):
        for item in items:
            names = getattr(item, "fixturenames", [])
            if "evenbench" in names and "benchmark" not in names:
                names.append("benchmark")  # after ours, which gives it the timer


@pytest.fixture
def evenbench(request: pytest.FixtureRequest) -> Timed:
    """``evenbench(backend, workload=..., task="infer", batch_size=128, boundary="end-to-end", profile="precise",
    rounds=5)`` times one row and returns its record. A runtime needs ``source="pytorch"``, the backend whose file it
    reads. ``--benchmark-disable`` runs one round."""
    hiding = own_packages.hidden_by()
    if hiding is not None:
        pytest.fail(f"{hiding} hides a package of evenbench: rename it, or run pytest in another folder", pytrace=False)
    clock = WorkerClock()
    marker = request.node.get_closest_marker("benchmark")
    options = dict(marker.kwargs) if marker else {}
    request.node.add_marker(pytest.mark.benchmark(**{**options, "timer": clock}), append=False)
    try:
        benchmark = request.getfixturevalue("benchmark")
    except pytest.FixtureLookupError:
        pytest.fail("the fixture 'evenbench' needs pytest-benchmark: pip install 'evenbench[pytest]'", pytrace=False)
    return lambda backend, **options: _time_row(benchmark, clock, backend, **options)


def _time_row(
    benchmark: Any,
    clock: WorkerClock,
    backend: str,
    workload: str | None = None,
    task: str = "infer",
    batch_size: int = 128,
    boundary: str = "end-to-end",
    profile: str = "precise",
    device: str = "cpu",
    source: str | None = None,
    rounds: int = DEFAULT_ROUNDS,
    **request: Any,
) -> Any:
    from bench.errors import BenchError
    from bench.machine import speed_variables
    from bench.machine.placement import place
    from bench.runner.plan import Request
    from bench.runner.planner import make_plan
    from bench.runner.run import begin
    from bench.runner.single_row import measure as measure_row
    from bench.runner.single_row import one_row
    from bench.workloads.datasets import registry
    from bench.workloads.workload import DEFAULT_WORKLOAD, parse

    speed_variables.unbind()
    try:
        requested = Request(
            (backend,),
            parse(workload or DEFAULT_WORKLOAD),
            task=task,
            devices=device,
            batch_sizes=(batch_size,),
            placement=place(profile),
            **request,
        )
        dataset = registry.load(requested.workload.dataset, requested.data_dir)
        requested = replace(requested, workload=requested.workload.on(dataset))
        plan = one_row(make_plan(requested), source, boundary)
        _, context = begin(dataset, requested.workload)
        benchmark.group = benchmark.group or f"{requested.workload.name} {task} {boundary}, batch {batch_size}"

        def run_rounds(measure: Callable[[], float]) -> None:
            benchmark.pedantic(lambda: clock.add(measure()), rounds=rounds, iterations=1)

        record = measure_row(plan, dataset, context, run_rounds)
    except BenchError as error:
        pytest.fail(str(error), pytrace=False)
    benchmark.extra_info |= _extra_info(record)
    if not record.comparable:
        pytest.fail(f"{backend} is {record.status}: {record.error or 'not comparable'}", pytrace=False)
    return record


def _extra_info(record: Record) -> dict[str, Any]:
    """The fields of ``extra_info`` in pytest-benchmark's JSON."""
    throughputs = [metric for metric in record.figures if metric.name == "throughput"]
    return {
        "images_per_second": [sample.value for metric in throughputs for sample in metric.samples],
        "job": asdict(record.job),
        "versions": record.versions,
        "disturbed": record.disturbance.disturbed,
    }

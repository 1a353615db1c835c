"""A pytest fixture that times any backend on any workload through pytest-benchmark's ``benchmark``.

    def test_inference(evenbench):
        evenbench("pytorch", task="infer", batch_size=128)

Every round is a fresh worker, certified once before, and what is recorded is the worker's own time of one batch, not
the pipe's: the fixture gives pytest-benchmark a timer that moves on by just that. All its options work as always.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

DEFAULT_ROUNDS = 5
Timed = Callable[..., Any]


class WorkerClock:
    """A timer that stands still but for what workers tell."""

    __name__ = "evenbench_worker"

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        """Seconds that workers have told so far."""
        return self._now

    def add(self, seconds: float) -> None:
        """Move on."""
        self._now += seconds


@pytest.fixture
def evenbench(request: pytest.FixtureRequest) -> Timed:
    """``evenbench(backend, workload=..., task="infer", batch_size=128, boundary="end-to-end", profile="precise",
    rounds=5)`` times one row; returns its record. A runtime takes ``source="pytorch"``, whose file it reads. With
    ``--benchmark-disable`` one round is run."""
    clock = WorkerClock()
    marker = request.node.get_closest_marker("benchmark")
    kept = dict(marker.kwargs) if marker else {}
    request.node.add_marker(pytest.mark.benchmark(**{**kept, "timer": clock}), append=False)
    try:
        benchmark = request.getfixturevalue("benchmark")
    except pytest.FixtureLookupError:
        pytest.fail("the fixture 'evenbench' needs pytest-benchmark: pip install 'evenbench[pytest]'", pytrace=False)
    return lambda backend, **options: _timed(benchmark, clock, backend, **options)


def _timed(
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
    from bench.machine.placement import place
    from bench.runner.plan import Request
    from bench.runner.planner import make
    from bench.runner.run import begin
    from bench.runner.single_row import measure as measure_row
    from bench.runner.single_row import one_row
    from bench.workloads.datasets import registry
    from bench.workloads.workload import DEFAULT_WORKLOAD, parse

    try:
        asked = Request(
            (backend,),
            parse(workload or DEFAULT_WORKLOAD),
            task=task,
            devices=device,
            batch_sizes=(batch_size,),
            placement=place(profile),
            **request,
        )
        dataset = registry.load(asked.workload.dataset, asked.data_dir)
        asked = replace(asked, workload=asked.workload.on(dataset))
        plan = one_row(make(asked), source, boundary)
        _, context = begin(dataset, asked.workload)
        benchmark.group = benchmark.group or f"{asked.workload.name} {task} {boundary}, batch {batch_size}"

        def rounds_of(measure: Callable[[], float]) -> None:
            benchmark.pedantic(lambda: clock.add(measure()), rounds=rounds, iterations=1)

        record = measure_row(plan, dataset, context, rounds_of)
    except BenchError as error:
        pytest.fail(str(error), pytrace=False)
    benchmark.extra_info |= {
        "images_per_second": [s.value for f in record.figures if f.name == "throughput" for s in f.samples],
        "job": asdict(record.job),
        "versions": record.versions,
        "disturbed": record.disturbance.disturbed,
    }
    if not record.comparable:
        pytest.fail(f"{backend} is {record.status}: {record.error or 'not comparable'}", pytrace=False)
    return record

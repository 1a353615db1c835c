"""The part of a record that comes from tests under load: metrics over processes, and every test."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.analysis.load_search import RateSearch
from bench.records.record import Disturbance, Figure, Sample
from bench.records.record import LoadTest as StoredTest
from bench.runner.load import SCENARIOS, STREAM_SAMPLES, Load, LoadTest, probes
from bench.runner.over_processes import over_processes
from bench.runner.row_result import RowResult
from bench.values import Missing
from bench.worker.protocol import Scenario

STREAMS: dict[Scenario, str] = {"single-stream": "single_stream", "multi-stream": "multi_stream"}
"""Scenarios, and how the names of their metrics begin."""
PERCENTILES = (50, 90, 99)


def figures(result: RowResult, load: Load) -> list[Figure]:
    """The metrics of all scenarios that were asked for."""
    found = []
    if "server" in load.scenarios and load.bound is not None:
        found.append(_figure(result, load, "server", "server_rate", lambda tests: _rate(tests, load)))
    if "offline" in load.scenarios:
        found.append(_figure(result, load, "offline", "offline_throughput", lambda tests: tests[-1].achieved))
    for scenario, name in STREAMS.items():
        if scenario in load.scenarios:
            found += [_figure(result, load, scenario, f"{name}_p{p}", _percentile(p)) for p in PERCENTILES]
    return found


def _figure(
    result: RowResult,
    load: Load,
    scenario: Scenario,
    name: str,
    value: Callable[[Sequence[LoadTest]], float | Missing],
) -> Figure:
    """Over processes, from the tests of a scenario that count: ``value`` takes them in their order, of those that were
    made again because they were disturbed the last one."""
    samples, missing = [], result.why_missing("infer")
    for number, measured in result.rounds.items():
        tests = [test for test in measured.load if test.scenario == scenario]
        counting = [test for test in tests if (test.searched if scenario == "server" else not test.invalid)]
        if not counting:
            missing = Missing(tests[-1].invalid if tests else f"no {scenario} test has ended")
            continue
        found = value(counting)
        if isinstance(found, Missing):
            missing = found
        else:
            samples.append(Sample(round=number, value=found))
    batch = STREAM_SAMPLES if scenario == "multi-stream" else load.batch_size(scenario)
    return over_processes(name, samples, missing, task="infer", batch_size=batch, boundary="end-to-end")


def _percentile(percent: int) -> Callable[[Sequence[LoadTest]], float]:
    return lambda tests: tests[-1].percentiles[str(percent)]


def _rate(tests: Sequence[LoadTest], load: Load) -> float | Missing:
    """The highest rate at which the bound holds. A rate at which the generator fell behind is no rate of the row's."""
    tests = probes(tests)
    search = RateSearch(load.allowed, 1.0, [(test.rate, test.late) for test in tests if test.rate and test.late])
    found = search.result
    if isinstance(found, Missing):
        return found
    behind = [(test.rate, test.invalid) for test in tests if test.rate and test.invalid]
    if behind and min(behind)[0] <= found.value:
        rate, invalid = min(behind)
        holding = [test.rate for test in tests if test.rate and test.verdict(load.allowed) == "holds"]
        least = f"the row bears {max(holding):,.0f} requests/s, and may" if holding else "the row may"
        return Missing(f"{invalid}, at {rate:,.0f} requests/s: {least} bear more")
    return found.value


def disturbance(result: RowResult) -> Disturbance:
    """Of the tests that count: how many stayed disturbed when they had been made again."""
    with result.rounds.unpacked():
        made = [test for measured in result.rounds.values() for test in measured.load]
    watched = [test for test in made if test.reasons is not None]
    marked = [test.reasons for test in watched if test.reasons]
    if not watched:
        return Disturbance()
    often = 2 * len(marked) > len(watched)
    reason = f"{len(marked)} of {len(watched)} tests" + (f": {marked[0][0]}" if marked else "")
    return Disturbance(disturbed=often, reason=reason, slices=len(watched), marked=len(marked))


def tests(result: RowResult) -> list[StoredTest]:
    """Every test of every process."""
    load = result.plan.request.load
    if load is None:
        return []
    return [
        _stored(number, test, load)
        for number, measured in result.rounds.items()
        for test in sorted(measured.load, key=lambda test: SCENARIOS.index(test.scenario))
    ]


def _stored(number: int, test: LoadTest, load: Load) -> StoredTest:
    late = test.late
    return StoredTest(
        round=number,
        scenario=test.scenario,
        rate=test.rate,
        achieved=test.achieved,
        queries=test.queries,
        samples=test.samples,
        seconds=test.seconds,
        percentiles=dict(test.percentiles),
        bound=None if late is None else load.bound,
        percent=None if late is None else load.percent,
        late=None if late is None else late.late,
        late_share=None if late is None else late.interval,
        verdict=test.verdict(load.allowed),
        searched=test.searched,
        slip=test.slip,
        batch=test.samples / max(test.batches, 1),
        invalid=test.invalid,
        disturbed=None if test.reasons is None else bool(test.reasons),
        reasons=list(test.reasons or ()),
        summary=test.summary,
    )

"""Plots of tests under load: latency against the rate of requests."""

from __future__ import annotations

from bench.records.record import LoadTest, Record
from reports.content.training_plots import Named
from reports.plot import Axis, Plot, Series


def curves(named: Named) -> list[Plot]:
    """The latency against the rate of requests, all processes together; none if no rate was tried."""
    by_row = [(name, _server_tests(record)) for name, record in named]
    tested = [(name, tests) for name, tests in by_row if tests]
    if not tested:
        return []
    first = tested[0][1][0]
    percent = 99.0 if first.percent is None else first.percent
    series, texts = [], []
    for colour, (name, tests) in enumerate(tested):
        ordered = sorted(tests, key=lambda test: test.rate or 0.0)
        xs = tuple(test.rate or 0.0 for test in ordered)
        ys = tuple(1e3 * test.percentiles[f"{percent:g}"] for test in ordered)
        series.append(Series(name, "points", xs, ys, colour=colour))
        texts.append(f"{name} {ys[0]:.3g} ms at {xs[0]:,.4g} and {ys[-1]:.3g} ms at {xs[-1]:,.4g} requests/s")
    if first.bound is not None:
        rates = [rate for each in series for rate in each.x]
        ends = (min(rates), max(rates))
        series.append(Series("bound", "line", ends, (1e3 * first.bound, 1e3 * first.bound), colour=len(series)))
    title = f"Latency p{percent:g} against the rate of requests"
    axes = Axis("rate [requests/s]", log=True), Axis(f"latency p{percent:g} [ms]", log=True)
    words = f"{title}: {'; '.join(texts)}."
    return [Plot("load-curve", title, *axes, tuple(series), words)]


def _server_tests(record: Record) -> list[LoadTest]:
    """Those that count, with a percentile that can be drawn."""
    return [test for test in record.load if test.scenario == "server" and not test.invalid and test.rate]

"""The highest rate that ``bench serve`` finds for a server of constant time, beside the queue's formula (M/D/1).

The time of service is that of the whole server: two milliseconds of the model, and what handing a request over takes.
An offline test of the same process tells it.
"""

from __future__ import annotations

import statistics

import pytest
from analysis.test_load_search import highest_rate, waits_less
from bench_command import Bench
from scipy.optimize import brentq

SERVICE, BOUND, RATE = 0.002, 0.010, 200
OPTIONS = ("--backend", "constant", "--threads", "1", "--set", "epochs=1", "--model", "article-pytorch")


@pytest.mark.timeout(3600)
@pytest.mark.long
@pytest.mark.alone
def test_the_rate_and_the_percentiles_are_those_of_the_queue(bench: Bench) -> None:
    bench.register({"constant": "evenbench_served:Constant"})
    load = ("--scenario", "offline,server", "--latency-bound", "p99=10ms", "--rate", "200", "--max-batch", "1")
    done = bench("serve", *OPTIONS, *load, "--rounds", "10", "--test-time", "8s", timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = bench.records()
    rates = [test["achieved"] for test in record["load"] if test["scenario"] == "offline"]
    service = 1 / statistics.median(rates)
    assert SERVICE <= service < 1.2 * SERVICE
    want = highest_rate(BOUND, service=service)
    (figure,) = [figure for figure in record["figures"] if figure["name"] == "server_rate"]
    found = [sample["value"] for sample in figure["samples"]]
    print(f"\nservice {1e3 * service:.3f} ms; wanted {want:.1f} requests/s, found", [f"{rate:.1f}" for rate in found])
    p99 = service + float(brentq(lambda time: waits_less(time, RATE, service) - 0.99, 0.0, 0.1))
    measured = [test["percentiles"]["99"] for test in record["load"] if test["rate"] == RATE and not test["disturbed"]]
    print(f"at {RATE} requests/s: p99 wanted {1e3 * p99:.3f} ms, found", [f"{1e3 * each:.3f}" for each in measured])
    assert len(found) == 10
    assert all(rate == pytest.approx(want, rel=0.05) for rate in found)
    assert statistics.median(measured) == pytest.approx(p99, rel=0.10)

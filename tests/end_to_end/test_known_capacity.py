"""The highest rate that ``bench serve`` finds for a server of constant time, beside the queue's formula (M/D/1)."""

from __future__ import annotations

import pytest
from analysis.test_load_search import highest_rate, waits_less
from bench_command import Bench
from scipy.optimize import brentq

SERVICE = 0.002
OPTIONS = ("--backend", "constant", "--threads", "1", "--set", "epochs=1", "--model", "article-pytorch")


@pytest.mark.timeout(3600)
@pytest.mark.long
@pytest.mark.alone
def test_the_rate_and_the_percentiles_are_those_of_the_queue(bench: Bench) -> None:
    bench.register({"constant": "evenbench_served:Constant"})
    bound, want = 0.010, highest_rate(0.010)
    load = ("--scenario", "server", "--latency-bound", "p99=10ms", "--rate", "250", "--max-batch", "1")
    done = bench("serve", *OPTIONS, *load, "--rounds", "10", "--test-time", "8s", timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = bench.records()
    (figure,) = [figure for figure in record["figures"] if figure["name"] == "server_rate"]
    found = [sample["value"] for sample in figure["samples"]]
    print(f"\nwanted {want:.1f} requests/s within {1e3 * bound:g} ms; found", [f"{rate:.1f}" for rate in found])
    at_250 = [test for test in record["load"] if test["rate"] == 250 and not test["disturbed"]]
    p99 = SERVICE + float(brentq(lambda time: waits_less(time, 250.0) - 0.99, 0.0, 0.1))
    measured = sorted(test["percentiles"]["99"] for test in at_250)
    print(f"at 250 requests/s: p99 wanted {1e3 * p99:.3f} ms, found", [f"{1e3 * each:.3f}" for each in measured])
    assert len(found) == 10
    assert all(rate == pytest.approx(want, rel=0.05) for rate in found)
    assert measured[len(measured) // 2] == pytest.approx(p99, rel=0.10)

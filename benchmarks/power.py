"""Power of the gate: the share of checks that detect an injected slow-down, and the share of false alarms.

    python benchmarks/power.py [--checks 20] [--cases NAME,...] [--harm 0.02] [--quick]

*Measured*: whole checks (gate, looks and rule of ``bench check``) of one row on one pinned thread. Base and present
have the same environment; the present repeats a share of every step, the harm (adapters/evenbench_slowed.py).
*Simulated*: checks with pairs drawn from the measured A/A pairs (results/aa_precise.json), with a harm added to each;
10,000 checks per harm, from 0 to 5%. Raw pairs: results/power.json; plot: results/power.svg.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ADAPTERS = Path(__file__).parent / "adapters"
CASES = {
    "onnxruntime infer": ("slowed-onnxruntime", "infer", "onnxruntime <- pytorch infer"),
    "pytorch train": ("slowed-pytorch", "train", "pytorch train"),
    "keras train": ("slowed-keras", "train", "keras train"),
}
"""Case to its backend, its task, and the name of its pairs in the A/A results."""
HARMS = (0.0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05)
SIMULATED = 10_000


def main() -> None:
    """Measure, simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", type=int, default=20)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--harm", type=float, default=0.02)
    parser.add_argument("--quick", action="store_true", help="only a shorter simulation, no file")
    arguments = parser.parse_args()
    from bed import RESULTS

    stored = RESULTS / "power.json"
    checks: dict[str, list[dict[str, Any]]] = json.loads(stored.read_text())["checks"] if stored.exists() else {}
    if not arguments.quick:
        _register()
        for case in arguments.cases.split(","):
            key = f"{case}, {100 * arguments.harm:g}%"
            checks[key] = []
            measure(case, arguments.harm, arguments.checks, lambda check, key=key: save(checks, key, check))
    for key, case_checks in checks.items():
        _print_measured(key, case_checks)
    pairs = json.loads((RESULTS / "aa_precise.json").read_text())["pairs"]
    count = SIMULATED // 20 if arguments.quick else SIMULATED
    curves = {case: curve([math.log(p["ratio"]) for p in pairs[key]], count) for case, (_, _, key) in CASES.items()}
    for case, shares in curves.items():
        results = ", ".join(f"{100 * harm:g}%: {100 * share:.1f}%" for harm, share in zip(HARMS, shares, strict=True))
        print(f"simulated over {len(pairs[CASES[case][2]])} A/A pairs, {case}: called a regression at {results}")
    if not arguments.quick:
        draw(curves, RESULTS / "power.svg")


def _register() -> None:
    """Register the slowed adapters for this process and its workers: a dist-info folder on the path, no
    installation."""
    import os

    folder = Path(tempfile.mkdtemp(prefix="evenbench-slowed-"))
    info = folder / "evenbench_slowed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evenbench-slowed\nVersion: 1.0\n")
    classes = {"slowed-onnxruntime": "OnnxRuntime", "slowed-pytorch": "PyTorch", "slowed-keras": "Keras"}
    lines = [f"{name} = evenbench_slowed:{cls}" for name, cls in classes.items()]
    (info / "entry_points.txt").write_text("[evenbench.backends]\n" + "\n".join(lines) + "\n")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), str(ADAPTERS)])
    sys.path[:0] = [str(folder), str(ADAPTERS)]


def save(checks: dict[str, list[dict[str, Any]]], key: str, check: dict[str, Any]) -> None:
    """Write the results so far, because a check takes minutes."""
    from bed import write

    checks[key].append(check)
    write("power.json", {"checks": checks}, quick=False)


def measure(case: str, harm: float, count: int, on_end: Callable[[dict[str, Any]], None]) -> None:
    """Run ``count`` checks of one case with a harm, certified and exported once; ``on_end`` gets the result of each."""
    from datetime import UTC, datetime

    from bench.gate.gate import BASE, PRESENT, Gate, two_sided
    from bench.gate.gated_metric import Criteria
    from bench.machine.host import fingerprint
    from bench.machine.placement import place
    from bench.records.record import Data
    from bench.runner.plan import Request, Side
    from bench.runner.planner import make_plan
    from bench.runner.record_builder import Context
    from bench.runner.results import Results, Silent
    from bench.workloads.datasets import digits
    from bench.workloads.workload import DEFAULT_WORKLOAD, parse

    backend, task, _ = CASES[case]
    request = Request((backend,), parse(DEFAULT_WORKLOAD), task=task, devices="cpu", placement=place("precise"))
    plan = make_plan(request)
    if len([row for row in plan.rows if row.requested]) > 1:  # a runtime: read the file of one exporter
        kept = next(
            row for row in plan.rows if row.requested and row.source is not None and row.job.source == "pytorch"
        )
        plan = replace(plan, rows=tuple(row for row in plan.rows if row is kept or row == kept.source))
    sides = Side(BASE, "as it is"), Side(PRESENT, "slowed", variables=(("EVENBENCH_SLOWED", str(harm)),))
    criteria = Criteria(metrics=("throughput",), budget=1800.0)
    dataset = digits.load()
    data = Data(name=dataset.name, sha256=dataset.sha256, train=len(dataset.train_y), test=len(dataset.test_y))
    context = Context(fingerprint(), data, None, datetime.now(UTC).isoformat(timespec="seconds"))
    both = two_sided(plan, *sides, criteria)
    results = Results(both, context, Silent(), total=0)
    gate = Gate(results, dataset, *sides, criteria, name="", command="")
    with gate.certified():
        for number in range(count):
            results.plan = replace(both, request=replace(request, seed=number))  # another order each time
            for row in both.rows:
                results[row].rounds.clear()
            gate.measure()
            (verdict,) = gate.check().figures
            pairs = [[pair.harm, pair.base_first, pair.counts] for pair in verdict.pairs]
            result = {"verdict": verdict.verdict, "change": verdict.change, "low": verdict.low, "high": verdict.high}
            on_end({**result, "seconds": gate.seconds, "pairs": pairs, "reason": verdict.reason})
            print(f"{case} {number + 1}: {verdict.verdict} after {verdict.n} pairs, {gate.seconds:.0f} s", flush=True)


def _print_measured(key: str, checks: list[dict[str, Any]]) -> None:
    called = sum(check["verdict"] == "regression" for check in checks)
    seconds, pairs = ([check["seconds"] for check in checks], [len(check["pairs"]) for check in checks])
    changes = [100 * check["change"] for check in checks if check["change"] is not None]
    print(
        f"measured, {key} injected: {called} of {len(checks)} checks called a regression;"
        f" median change {statistics.median(changes):+.2f}%; {statistics.median(pairs):g} pairs and"
        f" {statistics.median(seconds):.0f} s (median), {max(seconds):.0f} s at most"
    )


def curve(logs: list[float], count: int) -> list[float]:
    """Share of simulated checks that call a regression, per harm. Pairs are drawn with replacement from the measured
    pairs of two identical rows. These are centred (their mean is noise too), scaled to the population's variance, and
    get a random sign."""
    from bench.analysis.sequential_test import LOOKS, crossover, judge, share
    from bench.gate.gated_metric import MARGINS

    rng = np.random.default_rng(2026)
    centred = (np.asarray(logs) - np.mean(logs)) * math.sqrt(len(logs) / (len(logs) - 1))
    first = [bool(i % 2) for i in range(LOOKS[-1])]
    shares = []
    for harm in HARMS:
        called = 0
        for _ in range(count):
            drawn = math.log1p(harm) + rng.choice(centred, LOOKS[-1]) * rng.choice([-1, 1], LOOKS[-1])
            for look in LOOKS:
                evidence = crossover(list(drawn[:look]), first[:look])
                assert evidence is not None
                kind = judge({0: evidence}, {0: MARGINS["throughput"]}, share(look))[0].kind
                if kind != "inconclusive":
                    called += kind == "regression"
                    break
        shares.append(called / count)
    return shares


def draw(curves: dict[str, list[float]], path: Path) -> None:
    """Write the power curve of every case as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for case, shares in curves.items():
        axes.plot([100 * harm for harm in HARMS], [100 * share for share in shares], marker="o", label=case)
    axes.axvline(100 * 0.005, color="grey", linestyle=":", label="margin")
    axes.set(title="Power of bench check", xlabel="injected slow-down [%]", ylabel="called a regression [% of checks]")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()

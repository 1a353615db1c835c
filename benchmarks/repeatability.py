"""Repeatability: does a second run of ``bench run --profile precise`` give the same results?

    python benchmarks/repeatability.py [--pairs 10] [--rounds 3] [--quick]

Each pair is two whole runs, one after the other. A ratio agrees if the 95% interval of the difference of the two runs'
log ratios (Welch's t over rounds) contains 0; the ratio of the first row to itself is left out. The script also prints
the differences of the absolute values of a pair. Raw numbers: results/repeatability.json.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bed import write
from scipy.stats import ttest_ind

from bench.analysis.ratios import round_ratio
from bench.records.export import parse_export
from bench.records.metrics import decisive
from bench.records.record import Record

BACKENDS = "pytorch,onnxruntime"
"""Backends that both do inference. See aa.py for training."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one pair of short runs of deploy, no file")
    arguments = parser.parse_args()
    profile, rounds = ("deploy", 2) if arguments.quick else ("precise", arguments.rounds)
    options = ["--profile", profile, "--backend", BACKENDS, "--task", "infer", "--rounds", str(rounds)]
    if arguments.quick:
        options += ["--model", "article-pytorch", "--set", "epochs=0"]
    pairs = []
    for number in range(1 if arguments.quick else arguments.pairs):
        pairs.append([_rounds(_run(options)) for _ in range(2)])
        print(f"pair {number + 1} done", file=sys.stderr, flush=True)
    _print_summary(pairs)
    write("repeatability.json", {"options": options, "pairs": pairs}, arguments.quick)


def _run(options: list[str]) -> list[Record]:
    """The records of one run, with its own store."""
    with tempfile.TemporaryDirectory() as folder:
        store = ["--store", str(Path(folder) / "history.db")]
        bench = [sys.executable, "-P", "-m", "bench.cli"]
        subprocess.run([*bench, "run", *options, *store], check=True, capture_output=True)
        exported = subprocess.run([*bench, "export", *store], check=True, capture_output=True, text=True)
    return parse_export(exported.stdout, "bench export").records


def _rounds(records: list[Record]) -> dict[str, Any]:
    """By metric and row: the value, and the log ratio of each round to the first row that has this metric."""
    values: dict[str, Any] = {}
    for metric in records[0].figures:
        peers = [(r, r.figure(metric.name, metric.task, metric.boundary, metric.batch_size)) for r in records]
        measured = [(record, peer) for record, peer in peers if peer is not None and peer.value is not None]
        if metric.name in decisive() and measured:
            base = measured[0][1]
            for record, peer in measured:
                key = f"{record.job.backend}<-{record.job.source} {peer.task} {peer.name} {peer.boundary}"
                logs = [math.log(round_ratio(peer.name, a, b)) for a, b in zip(peer.samples, base.samples, strict=True)]
                values[key] = {"value": peer.value, "logs": None if peer is base else logs}
    return values


def _print_summary(pairs: list[list[dict[str, Any]]]) -> None:
    agreed, differences, absolute = [], [], []
    for first, second in pairs:
        for key, one in first.items():
            other = second[key]
            absolute.append(abs(math.log(one["value"] / other["value"])))
            if one["logs"] is not None:
                agreed.append(bool(ttest_ind(one["logs"], other["logs"], equal_var=False).pvalue > 0.05))
                differences.append(abs(statistics.mean(one["logs"]) - statistics.mean(other["logs"])))
    ratios, values = 100 * statistics.median(differences), 100 * statistics.median(absolute)
    print(f"{sum(agreed)} of {len(agreed)} ratios agree ({100 * sum(agreed) / len(agreed):.0f}%)")
    print(f"median difference of ratios {ratios:.2f}%, largest {100 * max(differences):.1f}%")
    print(f"median difference of absolute values {values:.2f}%, largest {100 * max(absolute):.1f}%")


if __name__ == "__main__":
    main()

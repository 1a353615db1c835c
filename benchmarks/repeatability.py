"""Repeatability: does a second run of ``bench run --profile precise`` say the same?

    python benchmarks/repeatability.py [--pairs 10] [--rounds 3] [--quick]

Pairs of whole runs, one after the other. A ratio agrees if the 95% interval of the difference of the two runs' log
ratios (Welch's t over rounds) holds 0; the ratio of the fastest row to itself is left out. Beside it, how far absolute
throughputs of the pair are apart. Raw numbers: results/repeatability.json.
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

from bench.analysis.ratios import of_round
from bench.records.export import parse_export
from bench.records.metrics import decisive
from bench.records.record import Record

BACKENDS = "pytorch,onnxruntime"
"""Of inference, which both do; how ratios of training repeat is in aa.py."""


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
    _tell(pairs)
    write("repeatability.json", {"options": options, "pairs": pairs}, arguments.quick)


def _run(options: list[str]) -> list[Record]:
    """The records of one run with a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        store = ["--store", str(Path(folder) / "history.db")]
        bench = [sys.executable, "-P", "-m", "bench.cli"]
        subprocess.run([*bench, "run", *options, *store], check=True, capture_output=True)
        exported = subprocess.run([*bench, "export", *store], check=True, capture_output=True, text=True)
    return parse_export(exported.stdout, "bench export").records


def _rounds(records: list[Record]) -> dict[str, Any]:
    """Per figure and row the log ratio of every round to the figure's first row, and the geometric mean itself."""
    found: dict[str, Any] = {}
    for figure in records[0].figures:
        peers = [(r, r.figure(figure.name, figure.task, figure.boundary, figure.batch_size)) for r in records]
        measured = [(record, peer) for record, peer in peers if peer is not None and peer.value is not None]
        if figure.name in decisive() and measured:
            base = measured[0][1]
            for record, peer in measured:
                key = f"{record.job.backend}<-{record.job.source} {peer.task} {peer.name} {peer.boundary}"
                logs = [math.log(of_round(peer.name, a, b)) for a, b in zip(peer.samples, base.samples, strict=True)]
                found[key] = {"value": peer.value, "logs": None if peer is base else logs}
    return found


def _tell(pairs: list[list[dict[str, Any]]]) -> None:
    agreed, apart, absolute = [], [], []
    for first, second in pairs:
        for key, one in first.items():
            other = second[key]
            absolute.append(abs(math.log(one["value"] / other["value"])))
            if one["logs"] is not None:
                agreed.append(bool(ttest_ind(one["logs"], other["logs"], equal_var=False).pvalue > 0.05))
                apart.append(abs(statistics.mean(one["logs"]) - statistics.mean(other["logs"])))
    ratios, figures = 100 * statistics.median(apart), 100 * statistics.median(absolute)
    print(f"{sum(agreed)} of {len(agreed)} ratios agree ({100 * sum(agreed) / len(agreed):.0f}%)")
    print(f"median difference of ratios {ratios:.2f}%, largest {100 * max(apart):.1f}%")
    print(f"median difference of absolute figures {figures:.2f}%, largest {100 * max(absolute):.1f}%")


if __name__ == "__main__":
    main()

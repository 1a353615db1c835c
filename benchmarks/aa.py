"""A/A: two identical rows are compared. A ratio other than 1 is measurement noise.

    python benchmarks/aa.py [--profile precise|deploy] [--pairs 20] [--quick]

Each pair is two fresh workers of the same row that run alternately, as two rows of a round do. For each case, the
script prints the standard deviation of the log ratio per pair and how often the 95% interval over groups of pairs
covers 1, with a binomial test. Raw numbers: results/aa_PROFILE.json (seconds and images of every slice).
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import replace
from typing import Any

from bed import Bed, placement_of, placement_values, run, write
from scipy.stats import binomtest

from bench.analysis import intervals
from bench.analysis.ratios import round_ratio
from bench.records.record import Sample
from bench.runner.record_builder import sample, throughput

CASES = (("onnxruntime <- pytorch", "infer"), ("pytorch", "train"), ("keras", "train"))
GROUP = 4
"""Number of pairs per interval."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="precise")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="two pairs of few slices of the fastest case, no file")
    arguments = parser.parse_args()
    pairs = 2 if arguments.quick else arguments.pairs
    placement = placement_of(arguments.profile, 4 if arguments.quick else None)
    raw: dict[str, Any] = {"placement": placement_values(placement), "pairs": {}}

    def experiment(bed: Bed) -> None:
        for name, task in CASES[:1] if arguments.quick else CASES:
            raw["pairs"][f"{name} {task}"] = [_pair(bed, name, task, number) for number in range(pairs)]
            _print_summary(
                f"{arguments.profile}: {name} {task}", [pair["ratio"] for pair in raw["pairs"][f"{name} {task}"]]
            )

    backends = ["onnxruntime", "pytorch"] if arguments.quick else ["onnxruntime", "pytorch", "keras"]
    run(backends, placement, experiment, "article-pytorch" if arguments.quick else "article-keras", arguments.quick)
    ratios = [[pair["ratio"] for pair in case] for case in raw["pairs"].values()]
    _print_coverage(f"{arguments.profile}, all cases", [g for case in ratios for g in _groups(case)])
    write(f"aa_{arguments.profile}.json", raw, arguments.quick)


def _pair(bed: Bed, name: str, task: str, number: int) -> dict[str, Any]:
    metric = bed.metric("throughput", task, "device")
    twins = [replace(bed.row(name), variant=twin) for twin in "AB"]
    measured = bed.measure(twins if number % 2 else twins[::-1], [metric])
    sides: list[Sample] = [sample(number, measured[twin.id].metrics[0], throughput, keep=True) for twin in twins]
    slices = [[[s.turn, s.images, round(s.seconds, 7), bool(s.disturbed)] for s in side.slices] for side in sides]
    return {"ratio": round_ratio("throughput", *sides), "slices": slices}


def _print_summary(what: str, ratios: list[float]) -> None:
    logs = [math.log(ratio) for ratio in ratios]
    mean = intervals.geometric_mean(ratios)
    interval = f"[{mean.low:.4f}, {mean.high:.4f}]" if mean.low and mean.high else "no interval"
    spread = statistics.stdev(logs)
    deviation = f"SD of the log ratio per pair {100 * spread:.2f}%, n = {len(logs)} pairs"
    print(f"{what}: {deviation}; ratio {mean.value:.4f} {interval}")
    _print_coverage(what, _groups(ratios))


def _groups(ratios: list[float]) -> list[list[float]]:
    return [ratios[i : i + GROUP] for i in range(0, len(ratios) - GROUP + 1, GROUP)]


def _print_coverage(what: str, groups: list[list[float]]) -> None:
    estimates = [intervals.geometric_mean(group) for group in groups]
    covered = sum(e.low is not None and e.high is not None and e.low <= 1 <= e.high for e in estimates)
    if estimates:
        p = binomtest(covered, len(estimates), intervals.CONFIDENCE).pvalue
        coverage = f"95% interval of {GROUP} pairs covers 1 in {covered} of {len(estimates)}"
        print(f"{what}: {coverage}; binomial test p = {p:.2f}")


if __name__ == "__main__":
    main()

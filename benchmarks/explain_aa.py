"""A/A of ``bench check --explain``: both sides are the same row. A layer that is blamed is a false alarm.

    python benchmarks/explain_aa.py [--profile precise|deploy] [--comparisons 10] [--quick]

Each comparison is what a check does after a regression: pairs of fresh workers under the framework's profiler, in
turns. Prints the layers that are blamed, and the largest part. Results: results/explain_aa.json (all parts).
"""

from __future__ import annotations

import argparse
from typing import Any

from bed import Bed, placement_of, placement_values, run, write

from bench.runner.explaining import compare

CASES = (("onnxruntime <- pytorch", "infer"), ("pytorch", "train"))
SECONDS = 120.0
"""That a worker may take for one answer."""


def main() -> None:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="precise")
    parser.add_argument("--comparisons", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one comparison of the fastest case, no file")
    arguments = parser.parse_args()
    comparisons = 1 if arguments.quick else arguments.comparisons
    placement = placement_of(arguments.profile, 4 if arguments.quick else None)
    raw: dict[str, Any] = {"placement": placement_values(placement), "comparisons": {}}

    def experiment(bed: Bed) -> None:
        for name, task in CASES[:1] if arguments.quick else CASES:
            raw["comparisons"][f"{name} {task}"] = [_compared(bed, name, task) for _ in range(comparisons)]

    run(["onnxruntime", "pytorch"], placement, experiment, "article-pytorch", arguments.quick)
    write("explain_aa.json", raw, arguments.quick)


def _compared(bed: Bed, name: str, task: str) -> dict[str, Any]:
    row = bed.row(name)
    found = compare(bed.workspace, [row, row], bed.metric("throughput", task, "device"), SECONDS, lambda part: None)
    if found.reason or not found.parts:
        raise SystemExit(f"{name}: {found.reason or 'no parts'}")
    blamed = [part.layer + (" backward" if part.backward else "") for part in found.parts if part.blamed]
    largest = found.parts[0]
    share, low, high = (100 * each for each in (largest.explains, largest.explains_low, largest.explains_high))
    print(
        f"{name} {task}: blamed {blamed or 'none'} of {len(found.parts)} parts; largest {largest.layer} "
        f"{share:+.2f}% of the step [{low:+.2f}, {high:+.2f}]",
        flush=True,
    )
    return found.model_dump()


if __name__ == "__main__":
    main()

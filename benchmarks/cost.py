"""Cost: the time of the harness itself.

    python benchmarks/cost.py [--quick]

Runs the main job and prints its wall time by phase (as ``bench report --timing``); then times the harness's own loop
with a step that does nothing. Raw numbers: results/cost.json. fidelity.py measures the added memory of a worker.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bed import write

from bench.records.export import parse_export
from bench.records.record import Run
from bench.worker import clock
from reports.content.timing import timing_table
from reports.render.text import render
from reports.table import Document


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the reference, no file")
    arguments = parser.parse_args()
    quick = ["--backend", "reference", "--task", "infer", "--rounds", "1", "--batch-size", "8"]
    run = _run(quick if arguments.quick else ["--backend", "all"])
    print(render(Document([timing_table(run)])))
    overhead = _loop_seconds()
    print(f"\nloop of a throughput slice with a step that does nothing: {1e9 * overhead:.0f} ns per step")
    write("cost.json", {"timing": run.timing, "loop_seconds_per_step": overhead}, arguments.quick)


def _run(options: list[str]) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        store = ["--store", str(Path(folder) / "history.db")]
        bench = [sys.executable, "-P", "-m", "bench.cli"]
        subprocess.run([*bench, "run", *options, *store], check=True, capture_output=True)
        exported = subprocess.run([*bench, "export", *store], check=True, capture_output=True, text=True)
    return parse_export(exported.stdout, "bench export")


def _loop_seconds() -> float:
    """Median seconds per step over ten slices; batches come from a cycle of four, as in a worker."""
    batches = itertools.cycle([(None, None)] * 4)

    def step() -> object:
        return next(batches)[0]

    slices = [clock.throughput_slice(step, lambda: None, 0.01, 1e-7, 1) for _ in range(10)]
    return statistics.median(timed.seconds / timed.images for timed in slices)


if __name__ == "__main__":
    main()

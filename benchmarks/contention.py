"""Contention: are rows marked disturbed if, and only if, they are?

    python benchmarks/contention.py [--tries 10] [--profile deploy|precise] [--quick]

A try is one round of PyTorch and ONNX Runtime with all metrics. The first tries run with one busy process per core, the
others without. Raw numbers: results/contention_PROFILE.json (disturbance of every row).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bed import Bed, placement_of, placement_values, run, write

from bench.machine.host import available_cpus
from bench.runner.record_builder import to_record
from bench.runner.row_result import RowResult

ROWS = ("pytorch", "onnxruntime <- pytorch")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--profile", default="deploy")
    parser.add_argument("--quick", action="store_true", help="one try, no file")
    arguments = parser.parse_args()
    tries = 1 if arguments.quick else arguments.tries
    placement = placement_of(arguments.profile, 3 if arguments.quick else None)
    raw: dict[str, Any] = {"placement": placement_values(placement)}

    def experiment(bed: Bed) -> None:
        all_cpus = available_cpus()
        for state in ("contended", "quiet"):
            raw[state] = []
            for _ in range(tries):
                with busy(all_cpus if state == "contended" else []):
                    raw[state].append(_rows(bed))
            rows = [row for one in raw[state] for row in one.values()]
            marked = sum(bool(row["disturbed"]) for row in rows)
            whole = sum(all(row["disturbed"] for row in one.values()) for one in raw[state])
            print(f"{state}: {marked} of {len(rows)} rows marked; every row in {whole} of {tries} tries", flush=True)
            for row in rows:
                if row["disturbed"] is not (state == "contended"):
                    print(f"  unexpected: {row}", flush=True)

    run(
        ["pytorch", "onnxruntime"],
        placement,
        experiment,
        "article-pytorch" if arguments.quick else "article-keras",
        arguments.quick,
    )
    write(f"contention_{arguments.profile}.json", raw, arguments.quick)


def _rows(bed: Bed) -> dict[str, Any]:
    rows = [bed.row(name) for name in ROWS]
    measured = bed.measure(rows, bed.results.plan.metrics)
    disturbances = {}
    for row in rows:
        result = RowResult(row, bed.results.plan, rounds=[measured[row.id]])
        disturbances[row.name] = to_record(result, bed.results.context).disturbance.model_dump(mode="json")
    return disturbances


@contextmanager
def busy(cpus: list[int]) -> Iterator[None]:
    """Run one process in a busy loop on each of these CPUs."""
    code = "import os, sys; os.sched_setaffinity(0, [int(sys.argv[1])])\nwhile True: pass"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(cpu)]) for cpu in cpus]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()

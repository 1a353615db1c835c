"""Fidelity of `bench export --format script`: the throughput of a row's plain code over that of the row.

    python benchmarks/reproducers.py [--profile deploy|precise] [--rounds 8] [--quick]

A run is measured and its rows are exported. Then a fresh worker of the row and the script in a fresh interpreter take
turns, on the same CPUs, so that the machine's changes meet both. Shown: images/s of both by round, and the geometric
mean of the ratios of the pairs with Student's t interval. Numbers: results/reproducers_PROFILE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bed import write

import evenbench
from bench.analysis.intervals import geometric_mean
from bench.cli import export as exporting
from bench.machine import allocators
from bench.machine.placement import Placement, place
from bench.runner.plan import Request
from bench.runner.planner import make_plan
from bench.runner.run import begin
from bench.runner.single_row import measure, one_row
from bench.store.store import Store
from bench.workloads.datasets import registry
from bench.workloads.workload import DEFAULT_WORKLOAD, parse

ROWS = {
    "deploy": (
        ("pytorch", None, "system"), ("pytorch", None, "arena"), ("keras", None, "system"),
        ("onnxruntime", "pytorch", "system"), ("onnxruntime", "keras", "system"),
    ),
    "precise": (("pytorch", None, "arena"), ("keras", None, "arena"), ("onnxruntime", "pytorch", "arena")),
}  # fmt: skip
"""Backend, source, allocator, by profile. Under glibc's usual settings some processes of PyTorch fault pages in at
every step and others do not: the allocator ``arena`` keeps them."""
BATCH = 128


def main() -> None:
    """Run, export, alternate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=list(ROWS), default="deploy")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="2 rounds, no file")
    arguments = parser.parse_args()
    rounds = 2 if arguments.quick else arguments.rounds
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(Path(folder) / "history.db"))
        backends = ",".join(dict.fromkeys(backend for backend, _, _ in ROWS[arguments.profile]))
        once = {"task": "infer", "rounds": 1, "set": {"epochs": 1}}
        evenbench.run(store=store.file, backend=backends, profile=arguments.profile, **once)
        for backend, source, allocator in ROWS[arguments.profile]:
            name = backend if source is None else f"{backend} <- {source}"
            script = Path(folder) / f"{backend}-{source}.py"
            script.write_text(exporting.script(store, name))
            shown = name if allocator == "system" else f"{name}, {allocator}"
            placement = place(arguments.profile, allocator=allocator)
            results[shown] = _alternate(backend, source, placement, script, rounds)
            print(shown, json.dumps(results[shown]), flush=True)
    write(f"reproducers_{arguments.profile}.json", {"rounds": rounds, "batch": BATCH, "rows": results}, arguments.quick)


def _alternate(backend: str, source: str | None, placement: Placement, script: Path, rounds: int) -> dict[str, object]:
    """Images/s of both, by round, and their ratio."""
    dataset = registry.load("digits", None)
    workload = parse(DEFAULT_WORKLOAD).on(dataset)
    request = Request((backend,), workload, task="infer", batch_sizes=(BATCH,), placement=placement)
    plan = one_row(make_plan(request), source, "end-to-end")
    rows: list[float] = []
    scripts: list[float] = []

    def take_turns(measure_row: Callable[[], float]) -> None:
        for number in range(rounds):
            turns: list[Callable[[], None]] = [
                lambda: rows.append(BATCH / measure_row()),
                lambda: scripts.append(_run(script, placement)),
            ]
            for turn in turns if number % 2 == 0 else reversed(turns):
                turn()

    measure(plan, dataset, begin(dataset, workload)[1], take_turns)
    ratios = [ours / row for ours, row in zip(scripts, rows, strict=True)]
    ratio = geometric_mean(ratios)
    return {"row": rows, "script": scripts, "ratio": ratio.value, "low": ratio.low, "high": ratio.high}


def _run(script: Path, placement: Placement) -> float:
    """Images/s that the script prints, in an interpreter that finds no package of ours."""
    pinned = [] if placement.cpus is None else ["taskset", "-c", ",".join(map(str, placement.cpus))]
    command = [*pinned, sys.executable, "-I", str(script)]
    wanted = allocators.environment(placement.allocator)
    variables = {name: value for name, value in wanted.items() if value is not None}
    options = {"cwd": script.parent, "env": {**os.environ, **variables}}
    done = subprocess.run(command, capture_output=True, text=True, check=True, **options)
    found = re.search(r"^([\d,]+) images/s", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    return float(found.group(1).replace(",", ""))


if __name__ == "__main__":
    main()

"""Fidelity: the harness's throughput against a loop written by hand with the framework's own tools.

    python benchmarks/fidelity.py [--processes 5] [--turns 30] [--profile precise] [--quick]

The harness's worker and the hand-written process (hand_loops/) run alternately, with the same threads, pinning and
allocator. The script prints the ratio of seconds per step: the median over the turns of each process, then the
geometric mean over processes with its interval. 1.01 means that the harness shows 1% more images/s. It also prints the
difference of the peak resident memory of both, which did the same work. Raw numbers: results/fidelity.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bed import Bed, placement_of, placement_values, run, write

from bench.analysis import intervals
from bench.machine import allocators
from bench.runner.plan import Row
from bench.worker.protocol import Finish, Renew, TimeSlice, WarmedUp, WarmUp

HERE = Path(__file__).parent / "hand_loops"
CASES = (
    ("pytorch", "train", "device"),
    ("pytorch", "infer", "device"),
    ("keras", "train", "device"),
    ("keras", "infer", "device"),
    ("onnxruntime <- pytorch", "infer", "end-to-end"),
)
SLICE_SECONDS = 0.15


class HandLoop:
    """A loop written by hand, in its own process."""

    def __init__(self, script: str, arguments: list[str], row: Row) -> None:
        variables = {**os.environ, **allocators.environment(row.job.allocator)}
        counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(row.job.threads))
        pinned = {"HAND_LOOP_CPUS": ",".join(map(str, row.job.cpus or [])), "CUDA_VISIBLE_DEVICES": "-1"}
        environment = {name: value for name, value in {**variables, **counts, **pinned}.items() if value is not None}
        command = [sys.executable, str(HERE / script), *arguments, str(row.job.threads)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        assert self._read_reply() == "ready"

    def seconds_per_step(self, steps: int) -> float:
        """Run ``steps`` steps; returns the seconds per step."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return float(self._read_reply())

    def end(self) -> int:
        """End the process; returns its peak resident memory in bytes."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        peak = int(self._read_reply())
        self._process.wait()
        return peak

    def _read_reply(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--profile", default="precise")
    parser.add_argument("--quick", action="store_true", help="two processes of few turns, PyTorch only, no file")
    arguments = parser.parse_args()
    processes, turns = (2, 3) if arguments.quick else (arguments.processes, arguments.turns)
    placement = placement_of(arguments.profile)
    raw: dict[str, Any] = {"placement": placement_values(placement), "cases": {}}

    def experiment(bed: Bed) -> None:
        for name, task, boundary in CASES[:2] if arguments.quick else CASES:
            pairs = [_process(bed, name, task, boundary, turns) for _ in range(processes)]
            raw["cases"][f"{name} {task}"] = pairs
            ratio = intervals.geometric_mean([statistics.median(one["ratios"]) for one in pairs])
            memory = [(one["worker_peak"] - one["hand_peak"]) / 1e6 for one in pairs]
            bounds = f"[{ratio.low:.4f}, {ratio.high:.4f}]" if ratio.low and ratio.high else ""
            print(f"{name} {task}: harness / hand {ratio.value:.4f} {bounds}, n = {ratio.n} processes; peak memory"
                  f" {statistics.mean(memory):+.1f} MB", flush=True)  # fmt: skip

    rows = ["pytorch"] if arguments.quick else ["pytorch", "keras", "onnxruntime"]
    run(rows, placement, experiment, "article-keras", arguments.quick)
    write("fidelity.json", raw, arguments.quick)


def _process(bed: Bed, name: str, task: str, boundary: str, turns: int) -> dict[str, Any]:
    """Measure one pair of fresh processes."""
    row, metric = bed.row(name), bed.metric("throughput", task, boundary)
    if row.source is None:
        arguments = [task, str(bed.workspace.scratch / "sample_x.npy"), str(bed.workspace.scratch / "sample_y.npy")]
    else:
        arguments = [
            task,
            str(bed.workspace.scratch / "sample_x.npy"),
            str(bed.workspace.folder(row.source) / "model.onnx"),
        ]
    hand = HandLoop(f"{row.job.backend}.py", arguments, row)
    with bed.workspace.spawn(row, "fidelity") as worker:
        worker.ask(bed.workspace.prepare(row), 600)
        warm_up = worker.ask(WarmUp(metric=metric), 600)
        assert isinstance(warm_up, WarmedUp)
        steps = max(2, round(SLICE_SECONDS / warm_up.step_seconds))
        for _ in range(3):
            hand.seconds_per_step(steps)
        ratios = []
        for turn in range(turns):
            if turn % 2:
                by_hand = hand.seconds_per_step(steps)
            worker.wait_asleep(1.0)
            worker.ask(Renew(seconds=SLICE_SECONDS, seed=turn, keep=(0.3, 0.8)), 600)  # as in a run
            timed = worker.ask(TimeSlice(seconds=SLICE_SECONDS), 600)
            worker.wait_asleep(1.0)
            if not turn % 2:
                by_hand = hand.seconds_per_step(steps)
            ratios.append(by_hand / (metric.batch_size * timed.seconds / timed.images))
        finished = worker.ask(Finish(), 600)
    worker_peak = max(finished.peak_rss.values())
    return {"ratios": [round(r, 6) for r in ratios], "worker_peak": worker_peak, "hand_peak": hand.end()}


if __name__ == "__main__":
    main()

"""Scale of the history: seconds of ``bench history`` and ``bench compare`` with a store of 100,000 records.

    python benchmarks/history_scale.py [--records 100000] [--quick]

Each run has five rows of 16 kB, as with few slices. Times are those of whole commands, median of three. Numbers:
results/history_scale.json.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bed import write

from bench.records.record import Data, Figure, Parity, Record, Run
from bench.store.schema import RUNS
from bench.store.store import Store, _insert, _run_values, _write_record
from bench.worker.protocol import Job

ROWS = 5
BYTES = 16_000
COMMANDS = {
    "history": ["history"],
    "history --backend --since": ["history", "--backend", "backend-3", "--since", "2026-01-01"],
    "compare last~1 last": ["compare", "last~1", "last"],
    "history show last": ["history", "show", "last"],
    "history --change-points, one metric of a backend": [
        *("history", "--change-points", "--backend", "backend-3", "--figure", "throughput"),
    ],
}


def main() -> None:
    """Fill, time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="1,000 records, no file")
    arguments = parser.parse_args()
    count = 1000 if arguments.quick else arguments.records
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.db"
        fill(Store(str(path)), count // ROWS)
        seconds = {}
        for name, command in COMMANDS.items():
            full_command = [sys.executable, "-P", "-m", "bench.cli", *command, "--store", str(path)]
            seconds[name] = statistics.median(_seconds(full_command) for _ in range(3))
            print(f"{name}: {seconds[name]:.2f} s in {count:,} records", flush=True)
        size = path.stat().st_size
    write("history_scale.json", {"records": count, "seconds": seconds, "bytes": size}, arguments.quick)


def _seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begin


def fill(store: Store, runs: int) -> None:
    """Store runs of five comparable rows on one machine, five minutes apart, in one transaction."""
    rng = random.Random(2026)
    with store.writing() as connection:
        for number in range(runs):
            minutes = 5 * number
            day, minute = divmod(minutes, 1440)
            moment = (
                f"20{26 + day // 336}-{day // 28 % 12 + 1:02}-{day % 28 + 1:02}T{minute // 60:02}:{minute % 60:02}:00"
            )
            run = Run(name=f"run-{number:06}", command="bench run", started_at=f"{moment}+00:00", rounds=3)
            run_id = _insert(connection, RUNS.insert().values(**_run_values(run)))
            for row in range(ROWS):
                _write_record(connection, run_id, _record(row, rng.lognormvariate(0, 0.03)))


def _record(row: int, factor: float) -> Record:
    job = Job(
        backend=f"backend-{row}", mode="m", model="article-keras", dataset="digits", recipe="article-keras", threads=2
    )
    figures = [
        Figure(name=name, task=task, batch_size=size, boundary=boundary, value=scale * factor, unit=unit, n=3)
        for name, size, scale, unit in (("throughput", 128, 1000.0, "images/s"), ("latency_p50", 1, 0.001, "s"))
        for task, boundary in (("train", "device"), ("infer", "end-to-end"))
    ]
    return Record(
        status="ok",
        job=job,
        log="x" * BYTES,
        figures=figures,
        parity=Parity(comparable=True, checks=[]),
        machine={"id": "machine", "gpus": []},
        versions={"torch": "2.14.1"},
        data=Data(name="digits", sha256="0" * 64, train=1, test=1),
        started_at="2026-01-01T00:00:00+00:00",
    )


if __name__ == "__main__":
    main()

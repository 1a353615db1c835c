"""Many rows in one run, many checks in one store: the parent's memory and files stay, the store grows by as much each.

``EVENBENCH_SOAK`` is the number of rows, and a fifth of it that of checks (1,000: hours). The figures are printed.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import psutil
import pytest
from bench_command import Bench
from fakes.registry import KNOWN

ROWS = int(os.environ.get("EVENBENCH_SOAK", "1000"))
FIRST = 50
"""Rows until everything is loaded that will be."""
GROWTH = 5 * 2**20
"""Bytes that the parent may grow by afterwards."""
WORK = ("--workload", "article-pytorch/digits/article-keras", "--threads", "1", "--batch-size", "4", "--task", "infer")
MANY = """
from evenbench_known import Constant

class Adapter(Constant):
    MODES = tuple(f"mode-{number}" for number in range(%d))
"""


def held(process: psutil.Process) -> tuple[int, int]:
    """Bytes that are resident, and open files."""
    return process.memory_info().rss, process.num_fds()


def most(seen: list[tuple[int, int]]) -> tuple[int, int]:
    """The most bytes, and the most files."""
    return max(resident for resident, _ in seen), max(files for _, files in seen)


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
def test_many_rows_in_one_run(bench: Bench) -> None:
    folder = bench.folder / "adapters"
    folder.mkdir()
    (folder / "evenbench_many.py").write_text(MANY % ROWS)
    bench.register({"many": "evenbench_many:Adapter", "constant": KNOWN["constant"]})
    bench.environment["PYTHONPATH"] += os.pathsep + str(folder)
    command = bench.command("run", *WORK, "--backend", "many", "--mode", "all", "--rounds", "1", "--set", "epochs=1")
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=bench.environment, cwd=bench.folder
    )
    assert process.stderr is not None
    certified, measured = list[tuple[int, int]](), list[tuple[int, int]]()
    for line in process.stderr:
        seen = certified if ": certify" in line else measured if ": measure 1/1" in line else None
        if seen is not None:
            seen.append(held(psutil.Process(process.pid)))
    process.communicate()
    assert process.returncode == 0
    assert len(certified) == ROWS
    print(f"a store of {bench.store.stat().st_size / ROWS / 1e3:.0f} kB for each of {ROWS} rows")
    for kind, seen in {"certified": certified, "measured": measured}.items():
        first = len(seen) * FIRST // ROWS
        (early, files), (late, files_later) = most(seen[:first]), most(seen[first:])
        print(f"{kind}: {(late - early) / 1e6:+.1f} MB after the first {FIRST}, files {files} and {files_later}")
        assert files_later <= files
        assert late - early < GROWTH


@pytest.mark.long
@pytest.mark.timeout(6 * 3600)
def test_many_checks_in_one_store(bench: Bench) -> None:
    bench.register({"constant": KNOWN["constant"]})
    sizes = []
    for _ in range(max(3, ROWS // 5)):
        against = ("--against", bench.command()[0], "--metric", "throughput", "--profile", "deploy")
        done = bench("check", *WORK, *against, "--backend", "constant")
        assert done.returncode in (0, 3, 4), done.stdout + done.stderr  # 3 and 4: disturbed by a busy machine
        sizes.append(sum(path.stat().st_size for path in Path(bench.store).parent.glob("history.db*")))
    growth = [after - before for before, after in itertools.pairwise(sizes)]
    print(f"{len(sizes)} checks: {sum(growth) / len(growth) / 1e3:.0f} kB each, at most {max(growth) / 1e3:.0f} kB")
    half = len(growth) // 2
    assert sum(growth[half:]) / len(growth[half:]) < 1.2 * sum(growth[:half]) / max(1, half) + 4096, "linear"

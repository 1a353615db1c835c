"""Scale of the pages: seconds to build a report of many rows and a history of many runs.

    python benchmarks/report_scale.py [--quick]

Times the page of a report, on copies of the rows of a real run, and `bench history --format html` on stores of three
lengths, which shows whether the time grows in proportion. Raw numbers: results/report_scale.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bed import write
from history_scale import ROWS as ROWS_OF_A_RUN
from history_scale import fill

from bench.analysis.ratios import with_ratios
from bench.records.export import parse_export
from bench.records.record import Run
from bench.store.store import Store
from reports.pages import html

RECORD = Path(__file__).parent.parent / "tests" / "data" / "schema3.json"
ROWS = 40


def main() -> None:
    """Build, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter histories, no file")
    arguments = parser.parse_args()
    html.run_page(_run(2))  # templates and Plotly's script are read once
    seconds: dict[str, Any] = {f"report of {ROWS} rows": _seconds(lambda: html.run_page(_run(ROWS)))}
    for runs in (10, 20, 40) if arguments.quick else (250, 500, 1000):
        seconds[f"history of {runs:,} runs of {ROWS_OF_A_RUN} rows"] = _history(runs)
    for name, value in seconds.items():
        print(f"{name}: {value:.2f} s")
    write("report_scale.json", {"seconds": seconds}, arguments.quick)


def _history(runs: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path, page = Path(folder) / "history.db", Path(folder) / "history.html"
        fill(Store(str(path)), runs)
        command = [sys.executable, "-P", "-m", "bench.cli", "history", "--format", "html", "-o", str(page)]
        return _seconds(lambda: subprocess.run([*command, "--store", str(path)], check=True, capture_output=True))


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _run(rows: int) -> Run:
    recorded = parse_export(RECORD.read_text(), str(RECORD))
    records = recorded.records
    many = [
        records[i % len(records)].model_copy(
            update={"job": replace(records[i % len(records)].job, backend=f"backend-{i}", source=None)}
        )
        for i in range(rows)
    ]
    return recorded.model_copy(update={"rounds": 1, "records": with_ratios(many)})


if __name__ == "__main__":
    main()

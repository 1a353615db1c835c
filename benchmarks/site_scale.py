"""Scale of the site: seconds, files and bytes of ``bench site`` on a history of 1,000 runs of five rows.

    python benchmarks/site_scale.py [--runs 1000] [--quick]

Once into an empty folder, once more where nothing has changed, and once with one new run. The runs are those of
history_scale.py (16 kB a row), and copies of a real one with all its plots (tests/data/schema3.json, 16 kB a row).
Numbers: results/site_scale.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bed import write
from history_scale import fill

from bench.records.export import parse_export
from bench.store.store import Store

RECORD = Path(__file__).parent.parent / "tests" / "data" / "schema3.json"
ROWS = 5


def main() -> None:
    """Fill, time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="50 runs, no file")
    arguments = parser.parse_args()
    count = 50 if arguments.quick else arguments.runs
    results = {name: _site(kind, count) for name, kind in (("few slices", fill), ("copies of a real run", _copies))}
    write("site_scale.json", {"runs": count, "rows": ROWS, "sites": results}, arguments.quick)


def _copies(store: Store, runs: int) -> None:
    """Runs an hour apart, each with five rows of the real one."""
    whole = parse_export(RECORD.read_text(), str(RECORD))
    for number in range(runs):
        started = f"2026-{1 + number // 600:02}-{1 + number % 600 // 24:02}T{number % 24:02}:00:00+00:00"
        rows = [record.model_copy(update={"started_at": started, "ratios": []}) for record in whole.records[:ROWS]]
        store.add(whole.model_copy(update={"name": f"copy-{number:06}", "started_at": started, "records": rows}))


def _site(kind: Any, count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path, site = Path(folder) / "history.db", Path(folder) / "site"
        kind(Store(str(path)), count)
        command = [sys.executable, "-P", "-m", "bench.cli", "site", "-o", str(site), "--store", str(path)]
        seconds = {"all": _seconds(command), "nothing new": _seconds(command)}
        store = Store(str(path))
        store.add(store.load("last").model_copy(update={"name": "new", "started_at": "2027-01-01T00:00:00+00:00"}))
        seconds["one new run"] = _seconds(command)
        files = [file for file in site.rglob("*") if file.is_file()]
        result = {"seconds": seconds, "files": len(files), "bytes": sum(file.stat().st_size for file in files)}
        print(result, flush=True)
        return result


def _seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()

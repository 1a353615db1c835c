"""The command line as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from fakes.registry import ADAPTERS

from bench.machine.speed_variables import SIMULATED_TIME
from bench.machine.turn import NO_LOCK

QUICK = ("--rounds", "1", "--model", "article-pytorch", "--batch-size", "16", "--threads", "1")
"""An option that a test gives again overrules it."""


PATIENCE = 4
"""A command that hangs is ended after so many times what a busy machine needs: others are several times slower."""


class Bench:
    """``bench`` in a process of its own, with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "history.db"
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        self.environment = {**outside, "BENCH_STORE": str(self.store), "CUDA_VISIBLE_DEVICES": "", NO_LOCK: "1"}
        self.folder = folder

    def command(self, *arguments: str) -> list[str]:
        """The argument vector."""
        return [sys.executable, "-P", "-m", "bench.cli", *arguments]

    def __call__(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=PATIENCE * timeout,
            env=self.environment,
            cwd=self.folder,
            check=False,
        )

    def run(self, *arguments: str, code: int = 0, **options: Any) -> list[dict[str, Any]]:
        """``bench run`` on quick settings (the smaller model, small batches, one round); the records that it stored."""
        done = self("run", *QUICK, *arguments, **options)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return self.records()

    def records(self) -> list[dict[str, Any]]:
        """Of the last run, by ``bench export``."""
        done = self("export", "--format", "json")
        assert done.returncode == 0, done.stderr
        records: list[dict[str, Any]] = json.loads(done.stdout)["records"]
        return records

    def left(self, seconds: float = 2.0) -> list[str]:
        """Command lines of the processes of this ``bench`` that still run after so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            alive = []
            for process in psutil.process_iter():
                try:
                    mine = process.environ().get("BENCH_STORE") == str(self.store)
                    if mine and process.status() != psutil.STATUS_ZOMBIE:
                        alive.append(" ".join(process.cmdline()))
                except psutil.Error:
                    continue  # it has ended, or belongs to the kernel
            if not alive or time.monotonic() > deadline:
                return alive
            time.sleep(0.05)

    def register(self, adapters: dict[str, str]) -> None:
        """Adapters for this test only: a dist-info folder on PYTHONPATH, nothing installed."""
        if any(target.startswith("evenbench_known:") for target in adapters.values()):
            self.environment[SIMULATED_TIME] = "1"
        info = self.folder / "path" / "evenbench_test_adapters-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evenbench-test-adapters\nVersion: 1.0\n")
        lines = [f"{name} = {target}" for name, target in adapters.items()]
        (info / "entry_points.txt").write_text("[evenbench.backends]\n" + "\n".join(lines) + "\n")
        self.environment["PYTHONPATH"] = os.pathsep.join([str(info.parent), str(ADAPTERS)])

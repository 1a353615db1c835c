"""Collects the facts of ``bench gpu-check``: certifies and exports on CUDA, probes every row, hides the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bench import gpu_check, nvml
from bench.child import WorkerError
from bench.datasets import DATASETS
from bench.errors import UsageError
from bench.gpu_check import Finding
from bench.job import Data, Record
from bench.machine import fingerprint
from bench.plan import Request, Row, make
from bench.runner import Runner
from bench.summary import Context, RowResult
from bench.workloads import MODELS, RECIPES, Workload


def check(backends: Sequence[str], pythons: dict[str, str]) -> list[Finding]:
    """All checks of every backend that runs on CUDA.

    Raises:
        UsageError: there is no GPU here.
    """
    found, why = nvml.gpus()
    if not found:
        raise UsageError(f"no CUDA device on this machine ({why}); gpu-check needs one")
    recipe = replace(RECIPES["article-keras"], epochs=0)
    workload = Workload(MODELS["article-keras"], "digits", recipe)
    plan = make(Request(tuple(backends), workload, devices="cuda", rounds=0, pythons=pythons))
    dataset = DATASETS["digits"](None)
    data = Data(name=dataset.name, sha256=dataset.sha256, train=len(dataset.train_y), test=len(dataset.test_y))
    context = Context(fingerprint(), data, None, datetime.now(UTC).isoformat(timespec="seconds"))
    checker = _Checker(plan, dataset, context, _Silent())
    checker.run()
    findings = [Finding("machine", "driver", *gpu_check.driver(nvml.driver()))]
    for row in plan.rows:
        if row.asked and (row.problem is None or row.problem[0] != "unsupported"):
            findings += checker.findings(row)
    return findings


class _Silent:
    def begins(self, row: Row, phase: str, done: int, total: int) -> None:
        """Nothing is shown before all checks are done."""

    def changed(self, record: Record) -> None:
        """Nothing is stored."""


class _Checker(Runner):
    """Certifies and exports as a run does, then probes every row, and tries it with the GPU hidden."""

    def _jobs(self) -> None:
        self.probes: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.refusals: dict[tuple[Any, ...], str] = {}
        super()._jobs()
        for row in self.plan.rows:
            self._guarded(row, "probe", self._probe)
            if self.results[row.job.row].status == "ok":
                self.refusals[row.job.row] = self._hidden(row)

    def _probe(self, row: Row, result: RowResult) -> None:
        assert row.gpu_uuid is not None
        before = nvml.used_memory(row.gpu_uuid)
        with self._worker(row, "probe") as child:
            request = {**self._common(row), "gpu_uuid": row.gpu_uuid}
            facts = child.ask("probe", self.plan.request.timeout, **request)
            used, method = nvml.process_memory(row.gpu_uuid, child.pid, before)
        memory = {"nvml": used, "method": method, "framework": facts["framework_memory"]}
        self.probes[row.job.row] = {**facts, "memory": memory}

    def _hidden(self, row: Row) -> str:
        """Status of a worker that is told to use CUDA while no GPU is visible; must be ``unavailable``."""
        try:
            with self._worker(replace(row, gpu_uuid=None), "hidden") as child:
                child.ask("prepare", self.plan.request.timeout, **self._common(row))
        except WorkerError as error:
            return error.status
        return "ok"

    def findings(self, row: Row) -> list[Finding]:
        """The checks of one row; a row that never came to its probe has one finding, why."""
        key, result = row.job.row, self.results[row.job.row]
        if key not in self.probes:
            return [Finding(row.name, "runs", False, f"{result.status}: {result.error}")]
        checks = (result.certified or {}).get("checks", [])
        return gpu_check.judge(row.name, self.probes[key], checks, self.refusals.get(key, "not tried"))

"""Collects the facts of ``bench gpu-check``: certifies and exports on CUDA, probes every row, hides the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bench.errors import UsageError
from bench.machine import gpu_checks, nvml
from bench.machine.gpu_checks import Finding
from bench.machine.host import fingerprint
from bench.records.record import Data
from bench.runner.plan import Request, Row
from bench.runner.planner import make
from bench.runner.record_builder import Context, RowResult
from bench.runner.rounds import Runner, Silent
from bench.runner.worker_process import WorkerError
from bench.workloads.datasets import digits
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES, Workload


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
    dataset = digits.load()
    data = Data(name=dataset.name, sha256=dataset.sha256, train=len(dataset.train_y), test=len(dataset.test_y))
    context = Context(fingerprint(), data, None, datetime.now(UTC).isoformat(timespec="seconds"))
    checker = _Checker(plan, dataset, context, Silent())
    checker.run()
    findings = [Finding("machine", "driver", *gpu_checks.driver(nvml.driver()))]
    for row in plan.rows:
        if row.asked and (row.problem is None or row.problem[0] != "unsupported"):
            findings += checker.findings(row)
    return findings


class _Checker(Runner):
    """Certifies and exports as a run does, then probes every row, and tries it with the GPU hidden."""

    def _jobs(self) -> None:
        self.probes: dict[str, dict[str, Any]] = {}
        self.refusals: dict[str, str] = {}
        super()._jobs()
        for row in self.plan.rows:
            self._guarded(row, "probe", self._probe)
            if self.results[row.name].status == "ok":
                self.refusals[row.name] = self._hidden(row)

    def _probe(self, row: Row, result: RowResult) -> None:
        assert row.gpu_uuid is not None
        before, pids = nvml.used_memory(row.gpu_uuid), nvml.pids(row.gpu_uuid)
        with self._spawn(row, "probe") as child:
            request = {**self._common(row), "gpu_uuid": row.gpu_uuid}
            facts = child.ask("probe", self.plan.request.timeout, **request)
            growth = (nvml.used_memory(row.gpu_uuid) or 0) - (before or 0)
            came = nvml.pids(row.gpu_uuid) - pids
            used, method = nvml.process_memory(row.gpu_uuid, child.pid, came, growth)
        memory = {"nvml": used, "method": method, "framework": facts["framework_memory"]}
        self.probes[row.name] = {**facts, "memory": memory}

    def _hidden(self, row: Row) -> str:
        """Status of a worker that is told to use CUDA while no GPU is visible; must be ``unavailable``."""
        try:
            with self._spawn(replace(row, gpu_uuid=None), "hidden") as child:
                child.ask("prepare", self.plan.request.timeout, **self._common(row))
        except WorkerError as error:
            return error.status
        return "ok"

    def findings(self, row: Row) -> list[Finding]:
        """The checks of one row; a row that never came to its probe has one finding, why."""
        key, result = row.name, self.results[row.name]
        if key not in self.probes:
            return [Finding(row.name, "runs", False, f"{result.status}: {result.error}")]
        checks = (result.certified or {}).get("checks", [])
        return gpu_checks.judge(row.name, self.probes[key], checks, self.refusals.get(key, "not tried"))

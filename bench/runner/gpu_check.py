"""Collect the facts of ``bench gpu-check``: certify and export on CUDA, probe every row, and hide the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from bench.errors import UsageError
from bench.machine import gpu_checks, nvml
from bench.machine.gpu_checks import Finding
from bench.machine.host import fingerprint
from bench.records.record import Data
from bench.runner.plan import Request, Row
from bench.runner.planner import make_plan
from bench.runner.record_builder import Context
from bench.runner.results import Results, Silent
from bench.runner.row_jobs import RowJobs
from bench.runner.worker_process import WorkerError
from bench.runner.workspace import DatasetInputs, Workspace
from bench.worker.protocol import ProbeGpu
from bench.workloads.datasets import digits
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES, Workload


def check(backends: Sequence[str], pythons: dict[str, str]) -> list[Finding]:
    """All checks of every backend that runs on CUDA.

    Raises:
        UsageError: there is no GPU here.
    """
    gpus, why = nvml.gpus()
    if not gpus:
        raise UsageError(f"no CUDA device on this machine ({why}); gpu-check needs one")
    recipe = replace(RECIPES["article-keras"], epochs=0)
    workload = Workload(MODELS["article-keras"], "digits", recipe)
    plan = make_plan(Request(tuple(backends), workload, devices="cuda", rounds=0, pythons=pythons))
    dataset = digits.load()
    data = Data(name=dataset.name, sha256=dataset.sha256, train=len(dataset.train_y), test=len(dataset.test_y))
    context = Context(fingerprint(), data, None, datetime.now(UTC).isoformat(timespec="seconds"))
    workspace = Workspace(plan, DatasetInputs(dataset))
    results = Results(plan, context, Silent(), total=0)
    checker = _Checker(workspace, RowJobs(workspace, results, dataset))
    with workspace.opened():
        checker.jobs.run_all()
        checker.probe_all()
    findings = [Finding("machine", "driver", *gpu_checks.driver(nvml.driver()))]
    for row in plan.rows:
        if row.requested and (row.problem is None or row.problem[0] != "unsupported"):
            findings += checker.findings(row)
    return findings


@dataclass
class _Checker:
    """Probes every certified and exported row, and then starts it with the GPU hidden."""

    workspace: Workspace
    jobs: RowJobs
    facts: dict[str, gpu_checks.Facts] = field(default_factory=dict)
    """By row id."""
    status_without_gpu: dict[str, str] = field(default_factory=dict)
    """By row id: the status of a worker that sees no GPU."""

    def probe_all(self) -> None:
        """Probe all rows, one after the other."""
        results = self.jobs.results
        for row in results.plan.rows:
            self.jobs.attempt(row, "probe", partial(self._probe, row))
            if results[row].status == "ok":
                self.status_without_gpu[row.id] = self._try_without_gpu(row)

    def _probe(self, row: Row) -> None:
        assert row.gpu_uuid is not None
        before, pids = nvml.used_memory(row.gpu_uuid), nvml.pids(row.gpu_uuid)
        with self.workspace.spawn(row, "probe") as worker:
            request = ProbeGpu(work=self.workspace.work(row), gpu_uuid=row.gpu_uuid)
            probed = worker.ask(request, self.workspace.plan.request.timeout)
            growth = (nvml.used_memory(row.gpu_uuid) or 0) - (before or 0)
            new_pids = nvml.pids(row.gpu_uuid) - pids
            used, method = nvml.process_memory(row.gpu_uuid, worker.pid, new_pids, growth)
        peak = max(probed.framework_memory.values(), default=0)
        self.facts[row.id] = gpu_checks.Facts(
            libraries=probed.libraries,
            settings=probed.report.settings,
            probe=probed.probe,
            memory=gpu_checks.Memory(nvml=used, method=method, framework_peak=peak),
            energy=probed.energy,
        )

    def _try_without_gpu(self, row: Row) -> str:
        """Status of a worker that must use CUDA while no GPU is visible; it should be ``unavailable``."""
        try:
            with self.workspace.spawn(replace(row, gpu_uuid=None), "hidden") as worker:
                worker.ask(self.workspace.prepare(row), self.workspace.plan.request.timeout)
        except WorkerError as error:
            return error.status
        return "ok"

    def findings(self, row: Row) -> list[Finding]:
        """The findings of one row; for a row without a probe a single one, with the reason."""
        result = self.jobs.results[row]
        if row.id not in self.facts:
            return [Finding(row.name, "runs", False, f"{result.status}: {result.error}")]
        return gpu_checks.judge(
            row.name, self.facts[row.id], result.checks, self.status_without_gpu.get(row.id, "not tried")
        )

"""``bench run --onnx FILE``: a runtime's rows on a file of the user's, held against ONNX's own reference evaluator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.records.record import Data
from bench.runner.plan import Plan, Request
from bench.runner.planner import make_runtimes
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.onnx_file import RANDOM, OnnxModel
from bench.workloads.recipe import Recipe
from bench.workloads.workload import Workload

NO_RECIPE = Recipe("none", "sgd", learning_rate=1e-3, batch_size=1, epochs=0)
INPUTS = "inputs.npz"
FILE_BATCH = 4
"""Random inputs that a file is certified on, where it fixes no batch size: its reference evaluator is slow."""


def workload(model: OnnxModel) -> Workload:
    """The file in place of a model; nothing is trained."""
    return Workload(model, RANDOM, NO_RECIPE)


def data(model: OnnxModel) -> tuple[Dataset, Data]:
    """No images; the hash is the file's, so that results of another file are never pooled with it."""
    none, labels = np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int64)
    told = "; ".join(f"{i.name} {'x'.join(map(str, i.shape))} {i.dtype}" for i in model.inputs)
    note = f"random inputs of the declared shapes ({told}): accuracy means nothing"
    dataset = Dataset(RANDOM, none, labels, none, labels, (), model.sha256, note)
    return dataset, Data(name=RANDOM, sha256=model.sha256, train=0, test=0, note=note)


def plan(request: Request, model: OnnxModel) -> Plan:
    """Rows of the runtimes that were asked for; throughput and latency, at the file's batch size where it fixes one.

    Raises:
        UsageError: no runtime can do it.
    """
    request = replace(request, workload=workload(model), task="infer")
    if model.batch is not None:
        request = replace(request, batch_sizes=(model.batch,), first_batch=model.batch)
    return make_runtimes(request)


@dataclass(frozen=True)
class FileInputs:
    """Random inputs of a user's file."""

    model: OnnxModel

    @property
    def certified_batch(self) -> int:
        """The file's batch size where it fixes one."""
        return self.model.batch or FILE_BATCH

    def write(self, folder: Path, plan: Plan) -> None:
        """As one ``.npz`` file."""
        request = plan.request
        samples: dict[str, Any] = self.model.samples(request.seed, 4 * max(request.batch_sizes))
        np.savez(folder / INPUTS, **samples)

    def files(self, folder: Path) -> dict[str, Any]:
        """The user's file and the inputs."""
        return {"onnx": self.model.path, "inputs": folder / INPUTS}

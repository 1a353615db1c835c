"""``bench run --onnx FILE``: the rows of runtimes on a user's file, certified against ONNX's reference evaluator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.records.record import Data
from bench.runner.plan import Plan, Request
from bench.runner.planner import make_runtime_plan
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.onnx_file import RANDOM, OnnxModel
from bench.workloads.recipe import Recipe
from bench.workloads.workload import Workload

NO_RECIPE = Recipe("none", "sgd", learning_rate=1e-3, batch_size=1, epochs=0)
INPUTS = "inputs.npz"
FILE_BATCH = 4
"""Random inputs that a file is certified on if it fixes no batch size; few, as the reference evaluator is slow."""


def workload(model: OnnxModel) -> Workload:
    """A workload with the file as its model; nothing is trained."""
    return Workload(model, RANDOM, NO_RECIPE)


def data(model: OnnxModel) -> tuple[Dataset, Data]:
    """An empty data set with the file's hash, so that results of different files are never pooled."""
    none, labels = np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int64)
    shapes = "; ".join(f"{i.name} {'x'.join(map(str, i.shape))} {i.dtype}" for i in model.inputs)
    note = f"random inputs of the declared shapes ({shapes}): accuracy means nothing"
    dataset = Dataset(RANDOM, none, labels, none, labels, (), model.sha256, note)
    return dataset, Data(name=RANDOM, sha256=model.sha256, train=0, test=0, note=note)


def plan(request: Request, model: OnnxModel) -> Plan:
    """A plan of the requested runtimes: throughput and latency, at the file's batch size if it fixes one.

    Raises:
        UsageError: no runtime can do it.
    """
    request = replace(request, workload=workload(model), task="infer")
    if model.batch is not None:
        request = replace(request, batch_sizes=(model.batch,), first_batch=model.batch)
    return make_runtime_plan(request)


@dataclass(frozen=True)
class FileInputs:
    """Random inputs for a user's file."""

    model: OnnxModel

    @property
    def certified_batch(self) -> int:
        """The file's batch size if it fixes one."""
        return self.model.batch or FILE_BATCH

    def write(self, folder: Path, plan: Plan) -> None:
        """Write one ``.npz`` file."""
        request = plan.request
        samples: dict[str, Any] = self.model.samples(request.seed, 4 * max(request.batch_sizes))
        np.savez(folder / INPUTS, **samples)

    def files(self, folder: Path) -> dict[str, Any]:
        """The user's file and its inputs."""
        return {"onnx": self.model.path, "inputs": folder / INPUTS}

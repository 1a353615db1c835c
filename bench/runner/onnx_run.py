"""``bench run --onnx FILE``: the rows of runtimes on a user's file, certified by two judges."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine.host import available_memory
from bench.records.record import Data
from bench.runner.plan import Plan, Request
from bench.runner.planner import make_runtime_plan
from bench.workloads import onnx_file, onnx_inputs
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.onnx_file import RANDOM, OnnxModel
from bench.workloads.recipe import Recipe
from bench.workloads.workload import Workload

NO_RECIPE = Recipe("none", "sgd", learning_rate=1e-3, batch_size=1, epochs=0)
INPUTS = "inputs.npz"


def workload(model: OnnxModel) -> Workload:
    """A workload with the file as its model; nothing is trained."""
    return Workload(model, RANDOM, NO_RECIPE)


def data(model: OnnxModel) -> tuple[Dataset, Data]:
    """An empty data set with the file's hash, so that results of different files are never pooled."""
    none, labels = np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int64)
    kind = "random inputs of the declared shapes" if model.given is None else f"inputs of {model.given.name}"
    note = f"{kind} ({model.inputs_text}), {model.precision}: accuracy means nothing; an image is one step along side N"
    if model.note:
        note += f"; {model.note}"
    dataset = Dataset(RANDOM, none, labels, none, labels, (), model.sha256, note)
    return dataset, Data(name=RANDOM, sha256=model.sha256, train=0, test=0, note=note)


def plan(request: Request, model: OnnxModel) -> Plan:
    """A plan of the requested runtimes: throughput and latency, at the file's batch size if it fixes one.

    Raises:
        UsageError: no runtime can do it.
    """
    request = replace(request, workload=workload(model), task="infer", inputs=model.inputs_text)
    if model.batch is not None:
        sizes = tuple(sorted({*request.batch_sizes, model.batch}))
        request = replace(request, batch_sizes=sizes, first_batch=model.batch)
    onnx_inputs.check_memory(model.inputs, max(request.batch_sizes), available_memory())
    return make_runtime_plan(request, model.precision)


@dataclass(frozen=True)
class FileInputs:
    """Random inputs for a user's file."""

    model: OnnxModel

    def write(self, folder: Path, plan: Plan) -> None:
        """Write one ``.npz`` file."""
        request = plan.request
        samples = self.model.samples(request.seed, 4 * max(request.batch_sizes))
        arrays: dict[str, Any] = {f"input {name}": array for name, array in samples.items()}
        np.savez(folder / INPUTS, **arrays)
        if self._linked:
            for part in onnx_file.parts(self.model.path):
                shutil.copyfile(part, self._copy(folder).with_name(part.name))

    @property
    def _linked(self) -> bool:
        """Whether the file is a link of a model cache: runtimes refuse external data behind links."""
        return self.model.path.is_symlink()

    def _copy(self, folder: Path) -> Path:
        place = folder / "user-file"
        place.mkdir(exist_ok=True)
        return place / self.model.path.name

    def files(self, folder: Path) -> dict[str, Any]:
        """The user's file and its inputs."""
        axes = {each.name: each.batch_axis for each in self.model.inputs if each.batch_axis is not None}
        path = self._copy(folder) if self._linked else self.model.path
        return {
            "onnx": path,
            "inputs": folder / INPUTS,
            "batch_axes": axes,
            "fixed_batch": self.model.batch,
            "bytes": self.model.bytes,
        }

"""``bench run --onnx FILE``: the rows of runtimes on the user's files, certified by two judges."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine.host import available_memory
from bench.records.record import Data
from bench.runner.plan import Plan, Request, Row
from bench.runner.planner import make_runtime_plan
from bench.workloads import onnx_file, onnx_inputs
from bench.workloads.datasets.dataset import Dataset
from bench.workloads.onnx_file import RANDOM, OnnxModel
from bench.workloads.onnx_inputs import LARGEST_SAMPLE
from bench.workloads.recipe import Recipe
from bench.workloads.workload import Workload

NO_RECIPE = Recipe("none", "sgd", learning_rate=1e-3, batch_size=1, epochs=0)


def no_dataset() -> Dataset:
    """An empty data set: files have their own inputs."""
    none, labels = np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int64)
    return Dataset(RANDOM, none, labels, none, labels, (), "", "")


def data(model: OnnxModel) -> Data:
    """The facts about a file's inputs, with the file's hash, so that results of different files are never pooled."""
    kind = "random inputs of the declared shapes" if model.given is None else f"inputs of {model.given.name}"
    note = f"{model.name}: {kind} ({model.inputs_text}), {model.precision}: accuracy means nothing"
    note += "; a sample is one step along side N" if model.batched else "; a sample is one call"
    if model.note:
        note += f"; {model.note}"
    return Data(name=RANDOM, sha256=model.sha256, train=0, test=0, note=note)


def plan(request: Request, models: Sequence[OnnxModel]) -> Plan:
    """A plan of the requested runtimes: throughput and latency of each file, also at the batch size that it fixes.

    Raises:
        UsageError: no runtime can do it, or a batch needs more memory than there is.
    """
    fixed = {model.batch for model in models if model.batch is not None}
    request = replace(
        request,
        workload=Workload(models[0], RANDOM, NO_RECIPE),
        task="infer",
        batch_sizes=tuple(sorted({*request.batch_sizes, *fixed})),
    )
    for model in models:
        onnx_inputs.check_memory(model.inputs, model.batch or max(request.batch_sizes), available_memory())
    return make_runtime_plan(request, models)


@dataclass(frozen=True)
class FileInputs:
    """The inputs of the user's files: random, or given."""

    models: Sequence[OnnxModel]

    def write(self, folder: Path, plan: Plan) -> None:
        """Write one ``.npz`` file per file."""
        request = plan.request
        for model in self.models:
            place = self._place(folder, model)
            place.mkdir()
            samples = model.samples(request.seed, 4 * max(request.batch_sizes))
            arrays: dict[str, Any] = {f"input {name}": array for name, array in samples.items()}
            np.savez(place / "inputs.npz", **arrays)
            if _linked(model):
                for part in onnx_file.parts(model.path):
                    shutil.copyfile(part, place / part.name)

    def bytes(self, plan: Plan) -> int:
        """Bytes of all inputs, and of copies of linked files."""
        count = 4 * max(plan.request.batch_sizes)
        inputs = sum(
            min(LARGEST_SAMPLE, math.prod(each.full_shape(count)) * np.dtype(each.dtype).itemsize)
            for model in self.models
            for each in model.inputs
        )
        return inputs + sum(model.bytes for model in self.models if _linked(model))

    def _place(self, folder: Path, model: OnnxModel) -> Path:
        return folder / f"user-file-{self.models.index(model)}"

    def pictures(self, plan: Plan) -> None:
        """A file has inputs of its own."""

    def sample(self, plan: Plan) -> None:
        """There are no images."""

    def files(self, folder: Path, row: Row) -> dict[str, Any]:
        """The row's file and its inputs."""
        model = row.file
        if model is None:
            return {}
        place = self._place(folder, model)
        axes = {each.name: each.batch_axis for each in model.inputs if each.batch_axis is not None}
        return {
            "file": place / model.path.name if _linked(model) else model.path,
            "inputs": place / "inputs.npz",
            "batch_axes": axes,
            "mixed": tuple(e.name for e in model.inputs if not e.given and e.dtype.startswith("float")),
            "fixed_batch": model.batch,
            "bytes": model.bytes,
        }


def _linked(model: OnnxModel) -> bool:
    """Whether the file is a link of a model cache: runtimes refuse external data behind links."""
    return model.path.is_symlink()

"""What a check measures. A saved baseline keeps it, so that a later check measures the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from bench import quantities
from bench.errors import UsageError
from bench.gate.gated_metric import IN_PAIRS
from bench.runner.plan import ALL, DEFAULT
from bench.workloads import workload as workloads
from bench.workloads.recipe import parse_changes
from bench.workloads.workload import DEFAULT_DATASET, DEFAULT_MODEL, DEFAULT_RECIPE, Workload

OPTIONS = {
    "backends": "--backend",
    "model": "--model",
    "dataset": "--dataset",
    "recipe": "--recipe",
    "changes": "--set",
    "modes": "--mode",
    "precisions": "--precision",
    "task": "--task",
    "devices": "--device",
    "batch_size": "--batch-size",
    "metrics": "--metric",
    "boundary": "--boundary",
}
"""The option of ``bench check`` that sets each field."""


@dataclass(frozen=True, kw_only=True)
class CheckJob:
    """The rows, workload and metrics of a check. Models and recipes are names or paths of a user's files."""

    backends: tuple[str, ...] = (ALL,)
    model: str = DEFAULT_MODEL
    dataset: str = DEFAULT_DATASET
    recipe: str = DEFAULT_RECIPE
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Changed fields of the recipe."""
    modes: tuple[str, ...] = (DEFAULT,)
    precisions: tuple[str, ...] = (DEFAULT,)
    task: str = "all"
    devices: str = "auto"
    batch_size: int = 128
    """Batch size of throughput."""
    metrics: tuple[str, ...] = IN_PAIRS
    boundary: str = "end-to-end"
    """Boundary of throughput and latency."""

    @property
    def workload(self) -> Workload:
        """The workload of these names.

        Raises:
            UsageError: an unknown name, or a file that is not a model or recipe.
        """
        return workloads.make_workload(self.model, self.dataset, self.recipe, dict(self.changes))

    def with_options(self, given: Mapping[str, Any], saved_as: str | None = None) -> CheckJob:
        """The job with the user's fields. ``saved_as``: the name of the baseline of this job; then no field may differ.

        Raises:
            UsageError: a field differs from the baseline's.
        """
        for name, value in given.items() if saved_as is not None else ():
            saved = getattr(self, name)
            if saved != value:
                option = OPTIONS[name]
                raise UsageError(
                    f"baseline {saved_as} was saved with {option} {_format(saved)}; leave out {option} {_format(value)}"
                )
        return replace(self, **given)

    def describe(self) -> str:
        """The fields that differ from their defaults, as options."""
        default = CheckJob()
        changed = [each.name for each in fields(self) if getattr(self, each.name) != getattr(default, each.name)]
        return " ".join(f"{OPTIONS[name]} {_format(getattr(self, name))}" for name in changed)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> CheckJob:
        """The inverse of ``asdict``; also reads the command-line options that earlier versions kept."""
        if "figure" in plain:
            plain = _from_options(plain)
        fields_: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in plain.items()}
        return cls(**fields_)


def _from_options(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an earlier baseline, which kept options as typed and perhaps the workload's three parts as one."""
    options = dict(saved)
    if "workload" in options:
        names = workloads.parts(options.pop("workload"))
        options |= zip(("model", "dataset", "recipe"), names, strict=True)
    lists = {"backend": "backends", "mode": "modes", "precision": "precisions", "figure": "metrics"}
    job: dict[str, Any] = {new: quantities.split_commas(options[old]) for old, new in lists.items() if old in options}
    job |= {name: options[name] for name in ("model", "dataset", "recipe", "task", "batch_size", "boundary")
              if name in options}  # fmt: skip
    return job | {"devices": options.get("device", "auto"), "changes": parse_changes(options.get("set", []))}


def _format(value: Any) -> str:
    if isinstance(value, Mapping):
        return " --set ".join(f"{name}={inner}" for name, inner in value.items())
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

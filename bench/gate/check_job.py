"""What a check measures: the part of it that a saved baseline keeps, so that a later check measures the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
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
    """Rows, workload and metrics of a check. Models and recipes are names, or paths of a user's files."""

    backends: tuple[str, ...] = (ALL,)
    model: str = DEFAULT_MODEL
    dataset: str = DEFAULT_DATASET
    recipe: str = DEFAULT_RECIPE
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of fields of the recipe."""
    modes: tuple[str, ...] = (DEFAULT,)
    precisions: tuple[str, ...] = (DEFAULT,)
    task: str = "all"
    devices: str = "auto"
    batch_size: int = 128
    """Of throughput."""
    metrics: tuple[str, ...] = IN_PAIRS
    boundary: str = "end-to-end"
    """Of speeds."""

    @property
    def workload(self) -> Workload:
        """What is run.

        Raises:
            UsageError: an unknown name, or a file that is no model or recipe.
        """
        return workloads.make_workload(self.model, self.dataset, self.recipe, dict(self.changes))

    def with_options(self, given: Mapping[str, Any], saved_as: str | None = None) -> CheckJob:
        """The job with the fields that the user gave. ``saved_as``: it is that baseline's, and no field may differ.

        Raises:
            UsageError: one differs.
        """
        for name, value in given.items() if saved_as is not None else ():
            kept = getattr(self, name)
            if kept != value:
                option = OPTIONS[name]
                raise UsageError(
                    f"baseline {saved_as} was saved with {option} {_shown(kept)}; leave out {option} {_shown(value)}"
                )
        return replace(self, **given)

    def describe(self) -> str:
        """The fields that are not at their default, as options."""
        usual = CheckJob()
        changed = [each.name for each in fields(self) if getattr(self, each.name) != getattr(usual, each.name)]
        return " ".join(f"{OPTIONS[name]} {_shown(getattr(self, name))}" for name in changed)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> CheckJob:
        """What ``to_dict`` wrote, or the options of the command line that earlier versions kept."""
        if "figure" in plain:
            plain = _from_options(plain)
        fields_: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in plain.items()}
        return cls(**fields_)


def _from_options(told: Mapping[str, Any]) -> dict[str, Any]:
    """Before CheckJob a baseline kept options as they were typed, and before that a workload's three parts as one."""
    options = dict(told)
    if "workload" in options:
        names = workloads.parts(options.pop("workload"))
        options |= zip(("model", "dataset", "recipe"), names, strict=True)
    lists = {"backend": "backends", "mode": "modes", "precision": "precisions", "figure": "metrics"}
    found: dict[str, Any] = {new: quantities.words(options[old]) for old, new in lists.items() if old in options}
    found |= {name: options[name] for name in ("model", "dataset", "recipe", "task", "batch_size", "boundary")
              if name in options}  # fmt: skip
    return found | {"devices": options.get("device", "auto"), "changes": parse_changes(options.get("set", []))}


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return " --set ".join(f"{name}={inner}" for name, inner in value.items())
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

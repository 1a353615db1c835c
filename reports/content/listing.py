"""The output of ``bench list``, ``bench doctor`` and ``bench gpu-check``."""

from __future__ import annotations

from collections.abc import Sequence

from bench.machine.doctor import MachineCheck
from bench.machine.gpu_checks import Finding
from bench.machine.installed import Entry
from bench.workloads.datasets.registry import DESCRIPTIONS
from bench.workloads.models import MODELS
from bench.workloads.recipe import Augmentation
from bench.workloads.workload import RECIPES
from reports.table import Document, Table


def catalogue(backends: Sequence[Entry], gpus: str) -> Document:
    """Four tables: backends, models, recipes, data sets."""
    return Document([_backends(backends, gpus), _models(), _recipes(), _datasets()])


def _backends(entries: Sequence[Entry], gpus: str) -> Table:
    rows = [
        [
            entry.name,
            f"no: {entry.problem}" if entry.problem else "yes",
            ", ".join(entry.devices) or "none here",
            ", ".join(entry.precisions),
            ", ".join(entry.modes),
            ", ".join(f"{package} {version}" for package, version in entry.versions),
        ]
        for entry in entries
    ]
    headers = ["backend", "available", "devices", "precision", "modes", "versions"]
    return Table(f"Backends (GPUs here: {gpus})", headers, rows, optional_columns=(5, 4, 3))


def _models() -> Table:
    rows = [
        [spec.name, "x".join(map(str, spec.input_shape)), f"{spec.parameters:,}", f"{spec.flops:,}"]
        for spec in MODELS.values()
    ]
    return Table("Models", ["model", "input", "parameters", "FLOP/image"], rows)


def _recipes() -> Table:
    rows = [
        [
            r.name,
            r.optimizer,
            f"{r.learning_rate:g}",
            r.schedule.kind,
            f"{r.momentum:g}{' Nesterov' * r.nesterov}",
            f"{r.weight_decay:g}",
            str(r.batch_size),
            str(r.epochs),
            f"{100 * r.validation:g}%",
            _augmentation(r.augmentation),
        ]
        for r in RECIPES.values()
    ]
    headers = ["recipe", "optimizer", "learning rate", "schedule", "momentum", "weight decay", "batch size", "epochs"]
    return Table("Recipes", [*headers, "held out", "augmentation"], rows, optional_columns=(9, 8, 5, 4, 3))


def _augmentation(options: Augmentation) -> str:
    steps = [f"crop {options.crop_padding}"] * bool(options.crop_padding) + ["flip"] * options.flip
    return ", ".join(steps + [f"cutout {options.cutout}"] * bool(options.cutout)) or "none"


def _datasets() -> Table:
    return Table("Data sets", ["data set", "content"], [[name, text] for name, text in DESCRIPTIONS.items()])


def doctor(checks: Sequence[MachineCheck]) -> Document:
    """The findings of ``bench doctor``; the last column is empty if nothing is wrong."""
    verdicts = {True: "ok", False: "WILL SPOIL", None: "-"}
    rows = [[c.name, verdicts[c.passed], c.observed, c.advice if c.passed is False else ""] for c in checks]
    return Document([Table("What may spoil a measurement here", ["what", "verdict", "seen", "what to do"], rows)])


def gpu_findings(findings: Sequence[Finding]) -> Document:
    """The checks of ``bench gpu-check``."""
    verdicts = {True: "passed", False: "FAILED", None: "not measured"}
    rows = [[finding.row, finding.check, verdicts[finding.passed], finding.detail] for finding in findings]
    return Document([Table("GPU checks", ["row", "check", "result", "detail"], rows)])

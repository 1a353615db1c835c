"""The options of a command become its arguments on a node, which are read as the same options."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import typer

from bench.cli import check, fleet_options, run
from bench.cli.fleet_options import FleetOptions
from bench.errors import UsageError
from bench.fleet.errand import PLACE

VALUES: dict[str, Any] = {
    "changes": ["epochs=1", "batch_size=8"], "python": ["keras=/x"], "extra_index_url": ["/a", "/b"],
    "margin": ["throughput=1%"], "input_shape": ["x=1"], "input_range": ["x=1"], "batch_axis": ["x=1"],
    "onnx": [Path("a.onnx"), Path("b.onnx")], "threads": 3, "rounds": 7, "cpu_quota": 1.5, "data_dir": Path("d"),
    "cache": Path("c"), "margins": Path("m"), "input": Path("i.npz"),
}  # fmt: skip
"""Of options that take no text."""


def parsed(module: Any, typed: list[str]) -> dict[str, Any]:
    """The options that a command reads from arguments."""
    app = typer.Typer()
    module.register(app)
    command: Any = typer.main.get_command(app)
    command = command.commands[module.__name__.rpartition(".")[2]] if hasattr(command, "commands") else command
    params: dict[str, Any] = command.make_context("bench", list(typed)).params
    return params


def other(value: Any, name: str) -> Any:
    """Another value of an option of this kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return VALUES.get(name, "-a,b")


@pytest.mark.parametrize("module", [run, check])
def test_every_option_travels(module: Any) -> None:
    groups = []
    expected = {}
    kinds = {field.name: field for field in fields(module.Chosen)}
    import typing

    hints = typing.get_type_hints(module.Chosen)
    for name in kinds:
        group = hints[name]()
        changed = {field.name: other(field.default, field.name) for field in fields(group)}
        groups.append(replace(group, **changed))
        expected |= changed
    read = parsed(module, fleet_options.arguments(*groups))
    assert {name: read[name] for name in expected} == expected


def test_defaults_are_not_typed() -> None:
    assert fleet_options.arguments(FleetOptions(), run.CareOptions(), run.ScalingOptions()) == []


def test_files_travel(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("epochs = 1\n")
    typed, files = fleet_options.with_files([f"--recipe={tmp_path / 'my.toml'}", "--model=article-keras", "--set=a=b"])
    assert typed == [f"--recipe={PLACE % 0}", "--model=article-keras", "--set=a=b"]
    assert [(file.name, file.content) for file in files] == [("my.toml", b"epochs = 1\n")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (FleetOptions(nodes="all"), "--nodes: of jobs on other machines"),
        (FleetOptions(retries=3, node_python="x"), "--node-python, --retries"),
        (FleetOptions(on="slurms"), "ray, ray://"),
        (FleetOptions(on="ray", slurm=["a=b"]), "--slurm goes with"),
        (FleetOptions(on="ray", nodes="few"), "--nodes few"),
        (FleetOptions(on="ray", node_environment="new"), "own or build"),
    ],
)
def test_what_does_not_go_together(options: FleetOptions, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        options.check()

"""Options of jobs that run elsewhere, and how the options of a command become its arguments there."""

from __future__ import annotations

import typing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from bench.cli.grouped import flag_of
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.fleet.errand import Environment, SentFile
    from bench.fleet.target import Selection

LARGEST_FILE = 1_000_000_000
"""Bytes of a file that travels with a job."""
BUILT, OWN = "build", "own"


@dataclass(frozen=True)
class FleetOptions:
    """Whether the job runs on other machines."""

    PANEL: ClassVar = "On other machines"

    on: Annotated[
        str | None, typer.Option(metavar="TARGET", help="ray, ray://HOST:10001 or slurm (default: this machine).")
    ] = None
    nodes: Annotated[
        str | None,
        typer.Option(
            metavar="WHICH", help="With --on: all, kinds (one of each), a number, label=VALUE (default: any one)."
        ),
    ] = None
    node_python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Interpreter on the nodes (default: that of Ray or of SLURM's job)."),
    ] = None
    node_environment: Annotated[
        str | None,
        typer.Option(metavar="WHICH", help="own (default), or build: nodes build this environment's locked versions."),
    ] = None
    slurm: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="With --on slurm: submitit's parameters, such as partition=gpu."),
    ] = None
    retries: Annotated[
        int, typer.Option(min=0, help="With --on: how often a job is sent again if its node is lost.")
    ] = 1

    @property
    def selection(self) -> Selection:
        """What ``--nodes`` says.

        Raises:
            UsageError: another form.
        """
        from bench.fleet.target import Selection

        return Selection.parse(self.nodes)

    def check(self) -> None:
        """Raise UsageError for options that need ``--on``, or that cannot be read."""
        from bench.fleet import targets

        given = [
            f"--{field.name.replace('_', '-')}"
            for field in fields(self)
            if field.name != "on" and getattr(self, field.name) != field.default
        ]
        if self.on is None and given:
            raise UsageError(f"{', '.join(given)}: of jobs on other machines; add --on ray or --on slurm")
        if self.on is not None:
            targets.check_name(self.on)
            if self.slurm and self.on != targets.SLURM:
                raise UsageError(f"--slurm goes with --on slurm, not with --on {self.on}")
            if self.node_environment not in (None, BUILT, OWN):
                raise UsageError(f"--node-environment {self.node_environment}: own or build")
            _ = self.selection

    def environment(self, backends: list[str]) -> Environment:
        """With what nodes run. ``backends``: of the job, for an environment that they build."""
        from dataclasses import asdict

        from bench.fleet.errand import Environment
        from bench.gate import environments, package_index

        if self.node_environment != BUILT:
            return Environment(python=self.node_python)
        lock = environments.current_lock(backends)
        index = package_index.chosen()
        return Environment(python=self.node_python, lock=asdict(lock), backends=backends, index=asdict(index))


def arguments(*groups: Any) -> list[str]:
    """The options of these groups that differ from their defaults, as they are typed."""
    typed = []
    for group in groups:
        hints = typing.get_type_hints(type(group), include_extras=True)
        for field in fields(group):
            value = getattr(group, field.name)
            if value == field.default or value is None:
                continue
            name = flag_of(field.name, hints[field.name])
            if isinstance(value, bool):
                typed.append(name)
            else:
                typed += [f"{name}={each}" for each in (value if isinstance(value, list) else [value])]
    return typed


TRAVELLING = ("--model", "--recipe", "--onnx", "--input", "--margins")
"""Options whose value may be a file, which travels with the job."""


def with_files(typed: list[str]) -> tuple[list[str], list[SentFile]]:
    """The arguments with a place for every file of the user's, and these files.

    Raises:
        UsageError: a file cannot be read, or is too large to travel.
    """
    from bench.fleet.errand import PLACE, SentFile

    replaced, files = [], list[SentFile]()
    for argument in typed:
        option, _, value = argument.partition("=")
        path = Path(value)
        if option not in TRAVELLING or not path.is_file():
            replaced.append(argument)
            continue
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"{argument}: over {LARGEST_FILE / 1e9:.0f} GB; put it where the nodes see it")
        if option == "--onnx":
            _check_one_file(path)
        replaced.append(f"{option}={PLACE % len(files)}")
        try:
            files.append(SentFile(name=path.name, content=path.read_bytes()))
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
    return replaced, files


def _check_one_file(path: Path) -> None:
    """Raise UsageError for an ONNX file with its weights in other files, which would not travel with it."""
    from bench.workloads import onnx_file

    beside = onnx_file.parts(path)[1:]
    if beside:
        names = ", ".join(file.name for file in beside)
        raise UsageError(f"--onnx {path}: its weights are in {names}; save it as one file to send it")

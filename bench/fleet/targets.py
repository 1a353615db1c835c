"""The targets by name, and the settings that a project has for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.fleet.target import Target
from bench.workloads import toml_files

RAY, SLURM = "ray", "slurm"
RAY_URL = "ray://"


def check_name(name: str) -> None:
    """Raise UsageError for a name that is no target."""
    if name not in (RAY, SLURM) and not (name.startswith(RAY_URL) and len(name) > len(RAY_URL)):
        raise UsageError(f"--on {name}: ray, ray://HOST:10001 or slurm")


def open_target(name: str, slurm: Mapping[str, Any], fleet: str) -> Target:
    """The target of this name. ``slurm``: submitit's parameters, and ``folder``; ``fleet``: names its files.

    Raises:
        UsageError: what it needs is not installed.
        BenchError: it cannot be reached.
    """
    check_name(name)
    if name == SLURM:
        from bench.fleet.slurm_target import SlurmTarget

        parameters = dict(slurm)
        folder = Path(str(parameters.pop("folder", "") or _shared_folder())).absolute()
        return SlurmTarget(parameters, folder / fleet)
    from bench.fleet.ray_target import RayTarget

    return RayTarget(None if name == RAY else name)


def _shared_folder() -> Path:
    """The user's home is what clusters share."""
    import platformdirs

    return Path(platformdirs.user_data_dir("evenbench")) / "slurm"


def slurm_parameters(flags: Sequence[str]) -> dict[str, Any]:
    """The table ``[tool.evenbench.slurm]`` of the current folder's project, overridden by ``KEY=VALUE``.

    Raises:
        UsageError: another form.
    """
    parameters = dict(toml_files.project_table("slurm"))
    for flag in flags:
        key, separator, text = flag.partition("=")
        if not (separator and key.strip() and text.strip()):
            raise UsageError(f"--slurm {flag}: not KEY=VALUE, such as partition=gpu")
        text = text.strip()
        parameters[key.strip()] = int(text) if text.isdecimal() else text
    return parameters

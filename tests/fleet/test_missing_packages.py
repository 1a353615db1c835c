"""Targets whose packages are not installed say how to get them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.fleet import targets


@pytest.mark.parametrize(("name", "module"), [("ray", "ray"), ("ray://host:1", "ray"), ("slurm", "submitit")])
def test_what_is_missing(name: str, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"pip install 'evenbench\[{name.partition(':')[0]}\]'"):
        targets.open_target(name, {"folder": str(tmp_path)}, "fleet-a")


def test_slurm_without_its_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no sbatch"):
        targets.open_target("slurm", {"folder": str(tmp_path)}, "fleet-a")

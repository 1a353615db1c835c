"""Against a git revision, the present side must run the adapter of that repository."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from worker_replies import CERTIFICATE, row

from bench.gate.validity import Validity
from bench.runner.plan import Side


@pytest.mark.parametrize(
    ("file", "right"),
    [
        ("clone/backends/fast.py", True),
        ("installed/backends/fast.py", False),
        ("clone/.venv/lib/site-packages/backends/fast.py", False),
    ],
)
@pytest.mark.parametrize("of_git", [True, False])
def test_the_present_side_runs_the_adapter_of_the_repository(
    tmp_path: Path, file: str, right: bool, of_git: bool
) -> None:
    present = replace(row("fast"), side=Side("present", "this environment"))
    certified = replace(CERTIFICATE, adapter_files=(str(tmp_path / file),))
    results: Any = {present: SimpleNamespace(certified=certified)}
    work_tree = str(tmp_path / "clone") if of_git else None
    problem = Validity(results, Side("base", "git:HEAD", path=("old",)), work_tree)._other_adapter(present)
    assert (problem == "") == (right or not of_git)
    assert problem == "" or "installed adapter" in problem

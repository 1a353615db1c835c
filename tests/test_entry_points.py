"""The command and the pytest plug-in in a folder whose own modules are called as ours are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evenbench import own_packages

NAMED_AS_OURS = ("bench.py", "backends.py", "reports/__init__.py", "backends/__init__.py", "bench/__init__.py")


def hide(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("raise RuntimeError('not ours')\n")


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BENCH_STORE": str(folder / "history.db"), **variables}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=1200
    )


def test_the_command_and_its_workers_find_our_packages(process: None, tmp_path: Path) -> None:
    hide(tmp_path, "bench.py", "reports/__init__.py", "backends/__init__.py")
    # fmt: off
    done = run(tmp_path, "-m", "evenbench", "run", "--backend", "reference", "--rounds", "0", "--threads", "1",
               "--model", "article-pytorch", "--task", "infer", PYTHONPATH=".")
    # fmt: on
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reference" in done.stdout


def test_the_installed_command_is_of_our_own_package(process: None, tmp_path: Path) -> None:
    hide(tmp_path, *NAMED_AS_OURS[:3])
    script = Path(sys.executable).with_name("bench")
    done = run(tmp_path, str(script), "--version", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("evenbench ")


def test_pytest_in_such_a_folder_is_not_broken(process: None, tmp_path: Path) -> None:
    """Only a test that uses the fixture fails, in one line."""
    hide(tmp_path, "bench.py")
    (tmp_path / "test_theirs.py").write_text(
        "import sys\n\n\ndef test_plain():\n    assert 'bench' not in sys.modules\n\n\n"
        "def test_ours(evenbench):\n    evenbench('reference')\n"
    )
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert f"{tmp_path / 'bench.py'} hides a package of evenbench: rename it" in done.stdout
    assert "Traceback" not in done.stdout


def test_what_hides_ours_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert own_packages.hidden_by() is None
    hide(tmp_path, "reports/__init__.py")
    monkeypatch.delitem(sys.modules, "reports", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert own_packages.hidden_by() == str(tmp_path / "reports" / "__init__.py")
    own = own_packages.OwnPackages().find_spec("reports")
    assert own is not None
    assert own.origin == str(own_packages.ROOT / "reports" / "__init__.py")
    assert own_packages.OwnPackages().find_spec("numpy") is None

"""Turn the value of ``--against`` into a side: an interpreter, requirements, a git revision, or a saved baseline."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError, UsageError
from bench.gate import environments
from bench.gate.check_job import CheckJob
from bench.gate.environments import Lock
from bench.gate.gate import BASE
from bench.gate.package_index import PIPS_OWN, PackageIndex
from bench.runner.plan import Side
from bench.store.schema import BASELINES
from bench.store.store import Store

GIT = "git:"


@dataclass(frozen=True)
class Baseline:
    """A baseline of ``bench baseline save``: the environment's lock, the job, the data's hash."""

    name: str
    lock: Lock
    job: CheckJob
    data: str
    commit: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"lock": asdict(self.lock), "job": asdict(self.job), "data": self.data, "commit": self.commit}

    @classmethod
    def from_dict(cls, name: str, plain: dict[str, Any]) -> Baseline:
        """The inverse of ``to_dict``."""
        return cls(
            name, Lock.from_dict(plain["lock"]), CheckJob.from_dict(plain["job"]), plain["data"], plain["commit"]
        )


def default_cache() -> Path:
    """The user's cache directory, for environments and work trees."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("evenbench"))


def load_baseline(store: Store, name: str) -> Baseline | None:
    """A saved baseline; None if there is none of this name."""
    import json

    content = store.get(BASELINES, name)
    try:
        return None if content is None else Baseline.from_dict(name, json.loads(content))
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"the baseline '{name}' in {store.shown_url} cannot be read; save it again") from error


def resolve(against: str, names: Iterable[str], store: Store, cache: Path, index: PackageIndex = PIPS_OWN) -> Side:
    """The side of a gate's base; ``names`` are the backends that it must run, ``index`` is for what is built.

    Raises:
        UsageError: ``against`` is none of these.
        CannotInstall: pip refuses the requirements.
    """
    if against.startswith(GIT):
        folders = _worktree(against.removeprefix(GIT), cache)
        return Side(BASE, against, path=folders, work_tree=_git("rev-parse", "--show-toplevel"))
    if _is_file(against):
        if not os.access(against, os.X_OK):
            raise UsageError(f"--against {against}: not an executable interpreter")
        return Side(BASE, against, python=os.path.abspath(against))
    baseline = load_baseline(store, against)
    if baseline is not None:
        built = environments.build_locked(baseline.lock, against, cache, index)
        return Side(BASE, f"baseline {against}", python=str(built))
    if os.sep in against and "@" not in against:
        raise UsageError(f"--against {against}: no such file; give the path of an interpreter")
    if not any(sign in against for sign in "=<>~!@"):
        known = ", ".join(store.names(BASELINES)) or "none yet: bench baseline save NAME"
        raise UsageError(
            f"--against {against}: not an interpreter, a requirement such as torch==2.13.0, a revision such as"
            f" git:main, or a saved baseline ({known})"
        )
    requirements = environments.parse_requirements(against)
    python = environments.build_changed(environments.current_lock(names), requirements, cache, index)
    return Side(BASE, against, python=str(python))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:
        return False  # too long for a path


def _worktree(revision: str, cache: Path) -> tuple[str, ...]:
    """Folders to import from, in a detached work tree of the current folder's repository at this revision."""
    from filelock import FileLock

    top = _git("rev-parse", "--show-toplevel")
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", what=f"no revision '{revision}'")
    repository = hashlib.sha256(top.encode()).hexdigest()[:8]
    folder = cache / "worktrees" / f"{repository}-{commit[:12]}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            complete = Path(f"{folder}.complete")
            if not (complete.exists() and (folder / ".git").exists()):
                shutil.rmtree(folder, ignore_errors=True)
                _git("worktree", "prune")
                _git("worktree", "add", "--detach", str(folder), commit)
                complete.touch()
            _add_submodules(Path(top), folder, commit)
    except OSError as error:
        raise BenchError(f"cannot make a work tree in {folder}: {error.strerror or error}; --cache DIR") from error
    source = folder / "src"
    return (str(source), str(folder)) if source.is_dir() else (str(folder),)


def _add_submodules(clone: Path, tree: Path, commit: str) -> None:
    """Fill the submodules of a work tree of ``commit`` from those of the user's clone. What is not there either is
    left out: the present side runs without it.

    Raises:
        UsageError: a submodule's commit is not in the user's clone.
    """
    if not (tree / ".gitmodules").is_file():
        return
    listed = _git("-C", str(tree), "config", "--file", ".gitmodules", "--null", "--get-regexp", r"\.path$")
    for path in (entry.partition("\n")[2] for entry in listed.split("\0") if entry):
        theirs, ours = clone / path, tree / path
        entry = _git("-C", str(clone), "ls-tree", commit, "--", path).split()
        if len(entry) < 3 or entry[1] != "commit":
            continue  # named in .gitmodules, and not there
        if not (theirs / ".git").exists():
            print(f"note: submodule {path} is not initialised in {clone}: left out of the base too", file=sys.stderr)
            continue
        missing = f"submodule {path} at {entry[2][:12]} is not in {theirs}: git submodule update --init --recursive"
        _git("-C", str(theirs), "cat-file", "-e", f"{entry[2]}^{{commit}}", what=missing)
        if not (ours / ".git").exists():
            _git("clone", "--quiet", "--no-checkout", str(theirs), str(ours))
        _git("-C", str(ours), "checkout", "--quiet", "--detach", entry[2], what=missing)
        _add_submodules(theirs, ours, entry[2])


def uncommitted() -> list[str]:
    """Paths with uncommitted changes in the current folder's repository, those that git ignores apart."""
    lines = _git("status", "--porcelain").splitlines()
    return [line.strip().split(" ", 1)[1].strip() for line in lines if line.strip()]


def _git(*arguments: str, what: str = "") -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=300)
    except FileNotFoundError as error:
        raise UsageError("--against git:REVISION needs git, which is not installed") from error
    except subprocess.SubprocessError as error:
        lines = str(getattr(error, "stderr", "") or "").strip().splitlines()
        raise UsageError(
            f"--against git: {what or (lines[-1] if lines else error)}; run it inside the repository"
        ) from error
    return done.stdout.strip()

"""The base of ``--against git:REV``: a work tree with the submodules of the user's clone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.gate import baselines
from bench.store.store import Store


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=e@e", "-c", "protocol.file.allow=always")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(folder: Path, **files: str) -> Path:
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    write(folder, **files)
    return folder


def write(folder: Path, **files: str) -> None:
    for name, content in files.items():
        (folder / f"{name}.py").write_text(content)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "more")


@pytest.fixture
def clone(process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose submodule has a submodule; git:HEAD~1 is on their older commits."""
    inner, library = repository(tmp_path / "inner", deep="1"), repository(tmp_path / "library", shallow="1")
    git(library, "submodule", "--quiet", "add", str(inner), "inner folder")
    write(library, more="1")
    origin = repository(tmp_path / "origin", top="1")
    git(origin, "submodule", "--quiet", "add", str(library), "libs/library")
    write(origin, top="2")
    git(tmp_path, "clone", "--quiet", "--recursive", str(origin), "clone")
    folder = tmp_path / "clone"
    write(folder / "libs" / "library", shallow="2")
    write(folder, top="3")
    monkeypatch.chdir(folder)
    return folder


def base(tmp_path: Path, revision: str) -> Path:
    side = baselines.resolve(f"git:{revision}", [], Store(str(tmp_path / "history.db")), tmp_path / "cache")
    return Path(side.path[0])


def test_submodules_are_those_of_the_revision(clone: Path, tmp_path: Path) -> None:
    for revision, content in (("HEAD", "2"), ("HEAD~1", "1"), ("HEAD", "2")):
        tree = base(tmp_path, revision)
        assert (tree / "libs" / "library" / "shallow.py").read_text() == content
        assert (tree / "libs" / "library" / "inner folder" / "deep.py").read_text() == "1"
    assert git(clone, "status", "--porcelain") == "", "the user's clone is as it was"


def test_a_submodule_that_is_not_initialised_is_left_out_and_said(
    clone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(clone, "submodule", "--quiet", "deinit", "--all", "--force")
    tree = base(tmp_path, "HEAD")
    assert list((tree / "libs" / "library").iterdir()) == []
    assert f"submodule libs/library is not initialised in {clone}: left out of the base too" in capsys.readouterr().err
    git(clone, "submodule", "--quiet", "update", "--init", "--recursive")
    assert (base(tmp_path, "HEAD") / "libs" / "library" / "shallow.py").read_text() == "2", "also in a tree made before"


def test_a_commit_of_a_submodule_that_is_not_there_is_named(clone: Path, tmp_path: Path) -> None:
    git(clone, "update-index", "--cacheinfo", f"160000,{'1' * 40},libs/library")
    git(clone, "commit", "-q", "-m", "elsewhere")
    with pytest.raises(UsageError, match=r"submodule libs/library at 111111111111 is not in .*: git submodule update"):
        base(tmp_path, "HEAD")


def test_uncommitted_changes_are_listed(clone: Path) -> None:
    assert baselines.uncommitted() == []
    (clone / "top.py").write_text("4")
    (clone / "new file.txt").write_text("")
    assert baselines.uncommitted() == ["top.py", '"new file.txt"']

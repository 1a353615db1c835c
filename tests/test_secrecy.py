"""Planted secrets: none is in what a command prints, stores or exports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench_command import QUICK, Bench

from bench.errors import BenchError
from bench.runner.worker_process import WorkerError
from bench.secrecy import hide

PLANTED = {
    "AWS_SECRET_ACCESS_KEY": "planted/aws+1f3c",
    "GITHUB_TOKEN": "planted-github-77aa",
    "HF_TOKEN": "planted-hub-1b2c",
    "PGPASSWORD": 'planted pg "42"',
    "HTTPS_PROXY": "http://me:planted-proxy@proxy.example:3128",
    "DATABASE_URL": "postgresql://u:planted%2Fdb@db.example/d",
    "PIP_INDEX_URL": "https://planted-pip@index.example/simple",
}
WORDS = (
    "aws+1f3c",
    "aws%2B1f3c",
    "github-77aa",
    "hub-1b2c",
    "planted pg",
    "planted-proxy",
    "planted%2Fdb",
    "planted/db",
    "planted-pip",
    "planted-arg",
)
"""Parts of them that must not be seen anywhere."""


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)


def seen(text: str) -> list[str]:
    return [word for word in WORDS if word in text]


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("no route to planted/aws+1f3c", "no route to ***"),
        ("GET /?key=planted%2Faws%2B1f3c", "GET /?key=***"),
        ("{'PGPASSWORD': 'planted pg \"42\"'}", "{'PGPASSWORD': '***'}"),
        ("cannot reach http://me:planted-proxy@proxy.example:3128", "cannot reach http://me:***@proxy.example:3128"),
        ("password planted/db is wrong", "password *** is wrong"),
        ("git clone https://ghp_abc@github.com/x", "git clone https://***@github.com/x"),
        (
            "bench run --store postgresql://me:s@host/db --seed 1",
            "bench run --store postgresql://me:***@host/db --seed 1",
        ),
        ("file:///home/me/x@2.onnx and a@b.c", "file:///home/me/x@2.onnx and a@b.c"),
        ("conv2d at 0x7f", "conv2d at 0x7f"),
    ],
)
def test_secrets_are_hidden(text: str, hidden: str) -> None:
    assert hide(text) == hidden


@pytest.mark.usefixtures("planted")
def test_every_error_hides_them() -> None:
    for text in PLANTED.values():
        assert not seen(str(BenchError(f"cannot: {text}")))
        error = WorkerError("failed", f"it said {text}", f"log {text}")
        assert not seen(error.reason + error.log + str(error))


def test_short_and_ordinary_values_are_not_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "conv")
    monkeypatch.setenv("KEYBOARD_LAYOUT", "german")
    monkeypatch.setenv("PWD", "/home/me")
    assert hide("conv2d in /home/me, german") == "conv2d in /home/me, german"


AFTERWARDS = [
    ("export", "--format", "json"),
    ("report",),
    ("report", "--format", "html", "--output", "page.html"),
    ("history",),
    ("history", "show", "last"),
    ("doctor",),
    ("run", "--store", "oracle://u:planted-arg@h/d"),
    ("run", "--model", "planted-github-77aa"),
]


def test_none_is_printed_stored_or_exported(bench: Bench) -> None:
    """An adapter prints and raises all that its process knows; the work tree's remote has a token."""
    bench.register({"tells-everything": "evenbench_rude:TellsEverything"})
    bench.environment |= PLANTED
    remote = "https://planted-github-77aa@github.example/x.git"
    for command in (["init", "-q"], ["remote", "add", "origin", remote]):
        subprocess.run(["git", *command], cwd=bench.folder, check=True)
    printed = []
    runs = [("--backend", "tells-everything,reference", "--task", "infer")]
    runs += [("--backend", "reference", "--python", "reference=https://planted-arg@host/python", "--task", "infer")]
    for options in runs:
        printed.append(bench("run", *QUICK, *options))
    for command in AFTERWARDS:
        printed.append(bench(*command))
    for done in printed:
        assert not seen(done.stdout + done.stderr), done.args
    assert "RuntimeError" in printed[0].stdout, "it has told"
    assert "HF_TOKEN" in printed[0].stdout + bench.store.read_bytes().decode("utf-8", "replace"), "all but the values"
    files = [path for path in bench.folder.rglob("*") if path.is_file() and ".git" not in path.parts]
    assert {path.name for path in files} >= {"history.db", "page.html"}
    for path in files:
        assert not seen(path.read_bytes().decode("utf-8", "replace")), path


@pytest.mark.usefixtures("process")
def test_a_traceback_hides_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, sys; from bench.cli import main; from bench.store import store\n"
        "def broken(*_): raise RuntimeError(str(dict(os.environ)))\n"
        "store.Store.__init__ = broken; sys.argv = ['bench', 'history', '--store', 'postgresql://u:planted-arg@h/d']\n"
        "main.main()"
    )
    for name, value in (PLANTED | {"BENCH_TRACEBACK": "1"}).items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" in done.stderr
    assert not seen(done.stdout + done.stderr)

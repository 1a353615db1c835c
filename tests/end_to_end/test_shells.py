"""The folders, variables and file systems of users' shells: the run goes through, or one line says what to do."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from bench_command import Bench
from PIL import Image

from bench.machine import speed_variables

REFERENCE = ("--backend", "reference", "--task", "infer", "--batch-size", "4", "--profile", "deploy")

NO_UTF8 = os.fsdecode(b"h\xf6f")
"""A name of an old archive or another system: bytes that are no UTF-8."""


def write_images(folder: Path) -> None:
    """Two classes of ten images."""
    rng = np.random.default_rng(0)
    for name in ("a", f"b {folder.name}"):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.mark.parametrize(("name", "shown"), [("Mäß und Ziel", "Mäß und Ziel"), (NO_UTF8, r"h\xf6f")])
def test_any_name_of_a_folder_or_file(bench: Bench, name: str, shown: str) -> None:
    """The working folder, scratch, the store, the data, a page, and what is stored of them."""
    folder = bench.folder / name
    write_images(folder / name)
    bench.folder = folder
    bench.environment["TMPDIR"] = str(folder)
    store = ("--store", f"{name}.db")
    data = ("--dataset", f"folder:{folder / name}")
    done = bench("run", "--model", "article-pytorch", "--rounds", "1", *REFERENCE, *data, *store)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"in sqlite:///{bench.folder.parent}/{shown}/{shown}.db" in done.stdout
    page = bench("report", *store, "--format", "html", "-o", f"{name}.html")
    assert page.returncode == 0, page.stderr
    assert f"folder:{shown}" in (folder / f"{name}.html").read_text(encoding="utf-8")
    exported = json.loads(bench("export", "--format", "json", *store).stdout)
    assert exported["records"][0]["data"]["name"] == f"folder:{shown}"
    assert shown in exported["command"]


@pytest.mark.parametrize("home", [None, "/proc/none"])
def test_without_a_home_a_named_store_is_enough(bench: Bench, home: str | None) -> None:
    for variable in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        bench.environment.pop(variable, None)
    if home is not None:
        bench.environment["HOME"] = home
    bench.run(*REFERENCE)
    if home is not None:
        del bench.environment["BENCH_STORE"]
        refused = bench("history")
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "--store URL names another" in refused.stderr


def test_a_tmpdir_that_is_no_folder_is_said(bench: Bench) -> None:
    bench.environment["TMPDIR"] = "/proc/none"
    done = bench("run", "--model", "article-pytorch", "--rounds", "1", *REFERENCE)
    assert done.returncode == 0, done.stderr
    assert "note: TMPDIR=/proc/none is no folder that can be written; scratch is in /tmp" in done.stderr


@pytest.mark.parametrize(("arguments", "code"), [(("report", "--store", "history.db"), 2), (("list",), 0)])
def test_a_working_folder_that_was_deleted(bench: Bench, arguments: tuple[str, ...], code: int) -> None:
    gone = bench.folder / "gone"
    gone.mkdir()
    program = "import os, shutil, sys; shutil.rmtree(os.getcwd()); from bench.cli.main import main; main()"
    bench.folder = gone
    bench.command = lambda *given: [sys.executable, "-P", "-c", program, *given]  # type: ignore[method-assign]
    done = bench(*arguments)
    assert done.returncode == code, done.stderr
    if code:
        assert done.stderr == "bench: the current folder has been deleted; go to another one, or give absolute paths\n"


def test_the_doctor_names_every_variable_that_decides_speed(bench: Bench) -> None:
    of_the_interpreter = {"PYTHONMALLOC": "malloc", "LD_PRELOAD": "", "PYTHON_GIL": "", "PYTHON_JIT": ""}
    names = sorted((speed_variables.KNOWN | speed_variables.REMOVED) - set(of_the_interpreter))
    bench.environment |= {**dict.fromkeys(names, "1"), "GLIBC_TUNABLES": "glibc.malloc.check=0"}
    bench.environment |= {name: value for name, value in of_the_interpreter.items() if value}
    done = bench("doctor", "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert [name for name in [*names, "PYTHONMALLOC"] if name not in done.stdout] == []


def test_settings_of_keras_in_the_home_change_nothing(bench: Bench) -> None:
    """Keras reads ~/.keras/keras.json and limits of epochs; ours are stated."""
    home = bench.folder / "home"
    (home / ".keras").mkdir(parents=True)
    settings = {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1, "backend": "torch"}
    (home / ".keras" / "keras.json").write_text(json.dumps({**settings, "max_epochs": 1, "max_steps_per_epoch": 1}))
    limits = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1", "KERAS_BACKEND": "jax"}
    bench.environment |= {**limits, "HOME": str(home), "KERAS_HOME": str(home / ".keras")}
    (record,) = bench.run("--backend", "keras", "--task", "train", "--set", "epochs=2")
    assert record["parity"]["comparable"]
    assert record["settings"]["fast_path"].endswith("dtype policy float32")
    (training,) = record["outcome"]["trainings"]
    assert len(training["curve"]) == 2

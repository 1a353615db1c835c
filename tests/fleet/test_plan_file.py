"""Plans of fleets."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli.fleet import _checked_arguments
from bench.errors import UsageError
from bench.fleet import plan_file


def read(tmp_path: Path, text: str) -> plan_file.PlanFile:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    return plan_file.read(path)


def test_a_matrix_makes_jobs(tmp_path: Path) -> None:
    plan = read(
        tmp_path,
        """
        on = "slurm"
        retries = 2
        slurm = { partition = "gpu" }
        [[jobs]]
        nodes = 2
        backend = ["pytorch", "keras"]
        set = ["epochs=1", "validation=0.1"]
        no-lock = true
        matrix = { device = ["cpu", "cuda"], batch_size = [1, 128] }
        [[jobs]]
        command = "check"
        against = "torch==2.13.0"
        python = "/opt/python"
        """,
    )
    assert (plan.on, plan.retries, plan.slurm) == ("slurm", 2, ["partition=gpu"])
    assert [job.arguments[-2:] for job in plan.jobs[:4]] == [
        ["--device=cpu", "--batch-size=1"], ["--device=cpu", "--batch-size=128"],
        ["--device=cuda", "--batch-size=1"], ["--device=cuda", "--batch-size=128"],
    ]  # fmt: skip
    assert (plan.jobs[4].command, plan.jobs[4].python, plan.jobs[0].nodes) == ("check", "/opt/python", "2")
    assert _checked_arguments(plan.jobs[0]) == [
        "--backend=pytorch,keras", "--set=epochs=1", "--set=validation=0.1", "--no-lock", "--device=cpu",
        "--batch-size=1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no \\[\\[jobs\\]\\]"),
        ("jobs = 3", "no \\[\\[jobs\\]\\]"),
        ("job = []", "a plan has no 'job'"),
        ("retries = -1\n[[jobs]]", "retries"),
        ("on = 3\n[[jobs]]", "on = 3"),
        ("slurm = 3\n[[jobs]]", "slurm"),
        ("[[jobs]]\ncommand = 'serve'", "one of run, check"),
        ("[[jobs]]\nnodes = 'some'", "--nodes some"),
        ("[[jobs]]\nmatrix = { device = 'cpu' }", "matrix"),
        ("[[jobs]]\ndevice = 'cpu'\nmatrix = { device = ['cpu'] }", "stands in the job and in its matrix"),
        ("[[jobs]]\nbackend = { a = 1 }", "no value of an option"),
        ("[[jobs]]\nnodes = []", "no text"),
        ("[[jobs]]\nmatrix = { seed = [" + "1," * 10_001 + "] }", "at most 10,000"),
    ],
)
def test_a_wrong_plan_is_told(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("backends = 'pytorch'", "no option 'backends'"),
        ("store = 'x.db'", "no option 'store'"),
        ("name = 'x'", "no option 'name'"),
        ("rounds = 'many'", "rounds"),
        ("model = 'none-such'", "none-such"),
    ],
)
def test_an_option_that_its_command_refuses(tmp_path: Path, line: str, words: str) -> None:
    plan = read(tmp_path, f"[[jobs]]\n{line}\n")
    with pytest.raises(UsageError, match=words):
        _checked_arguments(plan.jobs[0])

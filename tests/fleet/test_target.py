"""Which nodes a job is for, and which targets there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.fleet import targets
from bench.fleet.target import Node, Selection

NODES = [
    Node("1", "a", "big", {"site": "north", "gpu": "h100"}),
    Node("2", "b", "big", {"site": "south"}),
    Node("3", "c", "small", {"site": "north"}),
]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, [None]),
        ("all", ["a", "b", "c"]),
        ("kinds", ["a", "c"]),
        ("2", ["a", "b"]),
        ("label=north", ["a", "c"]),
        ("label=site=south", ["b"]),
        ("label=gpu=h100", ["a"]),
    ],
)
def test_a_job_for_each_chosen_node(text: str | None, names: list[str | None]) -> None:
    assert [node and node.name for node in Selection.parse(text).of(NODES)] == names


@pytest.mark.parametrize("text", ["0", "-1", "some", "label=", "label", "1.5", "", "site=north"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--nodes"):
        Selection.parse(text)


@pytest.mark.parametrize(
    ("text", "words"), [("4", "there are 3"), ("label=west", "site=north"), ("label=gpu=a", "gpu=a")]
)
def test_nodes_that_are_not_there(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Selection.parse(text).of(NODES)


@pytest.mark.parametrize("name", ["Ray", "ray://", "kubernetes", ""])
def test_an_unknown_target(name: str) -> None:
    with pytest.raises(UsageError, match="ray://HOST:10001 or slurm"):
        targets.check_name(name)


def test_slurm_parameters_of_the_project_and_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text("[tool.evenbench.slurm]\npartition = 'cpu'\ntime = 10\n")
    assert targets.slurm_parameters(["partition=gpu", "cpus_per_task=4"]) == {
        "partition": "gpu", "time": 10, "cpus_per_task": 4,
    }  # fmt: skip
    Path("pyproject.toml").write_text("[tool.evenbench]\nslurm = 3\n")
    with pytest.raises(UsageError, match="no table"):
        targets.slurm_parameters([])

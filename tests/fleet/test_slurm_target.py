"""SLURM as a target, its commands faked at the border: scripts that print what a file says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import BenchError, UsageError
from bench.fleet import slurm_target
from bench.fleet.errand import INTERRUPTED, Errand, Message
from bench.fleet.slurm_target import SlurmTarget
from bench.fleet.target import Lost, Needs

ERRAND = Errand(name="fleet.0.0", command="run", arguments=["--rounds=2"], result="run-a", folder="/", store=None)
UNREACHABLE = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
Answers = Callable[..., None]


@pytest.fixture
def answers(process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Sets what one of SLURM's commands prints, and its exit code."""
    programs = tmp_path / "bin"
    programs.mkdir()

    def answer(command: str, printed: str = "", code: int = 0) -> None:
        stream = " >&2" if code else ""
        text = f"#!/bin/sh\necho \"$0 $@\" >> {tmp_path}/asked\ncat{stream} <<'END'\n{printed}\nEND\nexit {code}\n"
        (programs / command).write_text(text)
        (programs / command).chmod(0o755)

    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(slurm_target, "FILE_SYSTEM_SECONDS", 0.0)
    monkeypatch.setattr(slurm_target, "STATE_SECONDS", 0.0)
    monkeypatch.setattr(slurm_target, "LOOK_SECONDS", 0.01)
    answer("sbatch", "Submitted batch job 7")
    answer("squeue", "7|RUNNING")
    answer("scancel")
    return answer


@pytest.fixture
def target(answers: Answers, tmp_path: Path) -> SlurmTarget:
    return SlurmTarget({}, tmp_path / "shared")


def tell(tmp_path: Path, text: str) -> None:
    with (tmp_path / "shared" / f"{ERRAND.name}.messages").open("a") as file:
        file.write(text)


def line(kind: str, code: int | None = None) -> str:
    return Message.model_validate({"errand": ERRAND.name, "kind": kind, "code": code}).model_dump_json() + "\n"


def submitted(target: SlurmTarget, needs: Needs) -> str:
    """What sbatch was given."""
    assert target.submit(ERRAND, needs) == "7"
    return (target.folder / "jobs" / "7_submission.sh").read_text()


def test_a_job_has_the_node_for_itself_and_slurm_does_not_begin_it_again(target: SlurmTarget) -> None:
    text = submitted(target, Needs("node2", exclusive=True, cpus=1))
    for flag in ("--exclusive", "--nodelist=node2", "--time=240", "--job-name=evenbench", "--no-requeue"):
        assert f"#SBATCH {flag}\n" in text, flag


def test_a_training_of_a_sweep_shares_its_node(target: SlurmTarget) -> None:
    text = submitted(target, Needs(None, exclusive=False, cpus=3))
    assert "#SBATCH --cpus-per-task=3\n" in text
    assert "--exclusive" not in text
    assert "--nodelist" not in text


def test_the_users_own_parameters(answers: Answers, tmp_path: Path) -> None:
    own = {"time": 5, "partition": "gpu", "additional_parameters": {"nice": 10}}
    text = submitted(SlurmTarget(own, tmp_path / "shared"), Needs(None, exclusive=True, cpus=1))
    for flag in ("--time=5", "--partition=gpu", "--nice=10", "--no-requeue"):
        assert f"#SBATCH {flag}\n" in text, flag
    for wrong in ({"colour": "red"}, {"additional_parameters": "red"}):
        with pytest.raises(UsageError, match="--slurm: "):
            SlurmTarget(wrong, tmp_path / "shared")


def test_a_job_that_slurm_refuses(target: SlurmTarget, answers: Answers) -> None:
    answers("sbatch", "sbatch: error: invalid partition specified: none", code=1)
    with pytest.raises(BenchError, match=r"SLURM refuses the job: .*invalid partition"):
        target.submit(ERRAND, Needs(None, exclusive=True, cpus=1))


def test_messages_come_whole_and_in_order(target: SlurmTarget, tmp_path: Path) -> None:
    target.submit(ERRAND, Needs(None, exclusive=True, cpus=1))
    tell(tmp_path, line("began") + line("said")[:10])
    (began,) = target.wait(1)
    assert isinstance(began, Message)
    assert began.kind == "began"
    tell(tmp_path, line("said")[10:] + line("ended", 0))
    said, ended = target.wait(1)
    assert [each.kind for each in (said, ended) if isinstance(each, Message)] == ["said", "ended"]
    assert target.wait(0.05) == []


def test_what_is_no_message_ends_the_errand(target: SlurmTarget, tmp_path: Path) -> None:
    target.submit(ERRAND, Needs(None, exclusive=True, cpus=1))
    tell(tmp_path, "pickle\n")
    (lost,) = target.wait(1)
    assert isinstance(lost, Lost)
    assert lost.final


@pytest.mark.parametrize(
    ("printed", "code", "why"),
    [
        ("7|NODE_FAIL", 0, "SLURM's job 7: NODE_FAIL"),
        ("7|TIMEOUT", 0, "SLURM's job 7: TIMEOUT"),
        ("", 0, "no longer known"),
        ("slurm_load_jobs error: Invalid job id specified", 1, "no longer known"),
        ("7|RUNNING", 0, None),
        ("7|PENDING", 0, None),
        (UNREACHABLE, 1, None),
    ],
)
def test_a_job_is_lost_if_slurm_says_so_and_not_if_slurm_is_silent(
    target: SlurmTarget, answers: Answers, printed: str, code: int, why: str | None
) -> None:
    target.submit(ERRAND, Needs(None, exclusive=True, cpus=1))
    answers("squeue", printed, code)
    arrived = target.wait(0.5)
    if why is None:
        assert arrived == []
        return
    (lost,) = arrived
    assert isinstance(lost, Lost)
    assert why in lost.why
    assert not lost.final


def test_who_cancels_a_job_does_not_want_it_again(target: SlurmTarget, answers: Answers, tmp_path: Path) -> None:
    target.submit(ERRAND, Needs(None, exclusive=True, cpus=1))
    tell(tmp_path, line("ended", INTERRUPTED))
    assert target.wait(0.3) == [], "preemption and scancel look the same until SLURM tells"
    answers("squeue", "7|CANCELLED")
    assert target.wait(1) == [Lost(ERRAND.name, slurm_target.CANCELLED, final=True)]


def test_a_preempted_job_tells_its_interruption(target: SlurmTarget, answers: Answers, tmp_path: Path) -> None:
    target.submit(ERRAND, Needs(None, exclusive=True, cpus=1))
    tell(tmp_path, line("ended", INTERRUPTED))
    answers("squeue", "7|PREEMPTED")
    (ended,) = target.wait(1)
    assert isinstance(ended, Message)
    assert ended.code == INTERRUPTED


def test_a_later_driver_hears_all_again(target: SlurmTarget, tmp_path: Path) -> None:
    target.submit(ERRAND, Needs(None, exclusive=True, cpus=1))
    tell(tmp_path, line("began") + line("ended", 0))
    later = SlurmTarget({}, tmp_path / "shared")
    assert not later.attach("fleet.1.0", "8"), "it left no messages"
    assert later.attach(ERRAND.name, "7")
    assert len(later.wait(1)) == 2


def test_ctrl_c_interrupts_what_runs_and_takes_back_what_waits(
    target: SlurmTarget, answers: Answers, tmp_path: Path
) -> None:
    target.submit(ERRAND, Needs(None, exclusive=True, cpus=1))
    answers("squeue", "7")
    target.cancel()
    asked = [each.rpartition("/")[2] for each in (tmp_path / "asked").read_text().splitlines()]
    assert "scancel --signal=INT 7" in asked
    assert asked[-1] == "scancel 7"


def test_nodes_that_take_jobs_by_kind(target: SlurmTarget, answers: Answers) -> None:
    lines = [
        "a1|8|64000|fast,ssd|(null)|idle|main", "a2|8|64000|fast,ssd|(null)|mixed|main",
        "g1|8|64000|(null)|gpu:h100:1|allocated|gpu", "d1|8|64000|fast|(null)|down|main",
        "d2|8|64000|fast|(null)|drained|main", "d3|8|64000|fast|(null)|idle*|main",
        "a1|8|64000|fast,ssd|(null)|idle|other",
    ]  # fmt: skip
    answers("sinfo", "\n".join(lines))
    nodes = target.nodes()
    assert [node.name for node in nodes] == ["a1", "a2", "g1"]
    assert nodes[0].kind == nodes[1].kind != nodes[2].kind
    assert nodes[0].labels == {"fast": "fast", "ssd": "ssd", "partition": "main"}
    answers("sinfo", lines[3])
    with pytest.raises(BenchError, match="no node of SLURM takes jobs now"):
        target.nodes()
    answers("sinfo", "slurm_load_partitions: Unable to contact slurm controller", code=1)
    with pytest.raises(BenchError, match="Unable to contact slurm controller; does SLURM's controller run"):
        target.nodes()

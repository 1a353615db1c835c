"""``bench check`` end to end: pairs of a backend of known cost, against a revision and against itself."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from bench_command import Bench
from fakes.registry import RUDE, WRONG

from bench.gate import baselines
from bench.gate.check_job import CheckJob
from bench.machine.speed_variables import SIMULATED_TIME
from bench.records.gate_result import Check, MetricVerdict, Sides
from bench.store.schema import BASELINES, CHECKS, SIDES
from bench.store.store import Store

JOB = (
    *("--workload", "article-pytorch/digits/article-keras", "--task", "infer", "--batch-size", "4"),
    *("--profile", "deploy"),
)
THROUGHPUT = ("--metric", "throughput")
MINE = """\
input_shape = [32, 32, 3]
[[layers]]
kind = "conv2d"
filters = 4
kernel = 3
[[layers]]
kind = "relu"
[[layers]]
kind = "flatten"
[[layers]]
kind = "dense"
units = 10
"""


def check_of(bench: Bench) -> Check:
    """The last stored check."""
    store = Store(str(bench.store))
    content = store.get(CHECKS, store.names(CHECKS)[0])
    assert content is not None
    return Check.model_validate_json(content)


def orders_of(figure: MetricVerdict) -> dict[int, bool]:
    """Whether base began, by the pair's number; a disturbed pair was measured again under the same number."""
    return {pair.number: pair.base_first for pair in figure.pairs}


def sides_of(bench: Bench, check: Check) -> Sides:
    sides = Store(str(bench.store)).read(SIDES, check.name, Sides)
    assert sides is not None
    return sides


@pytest.fixture
def paced(bench: Bench, tmp_path: Path) -> Bench:
    """The backend ``paced``, with a pace per side that a file in the user's repository sets."""
    repository = tmp_path / "repository"
    repository.mkdir()
    bench.register({"paced": "my_pace:Adapter"})
    bench.environment[SIMULATED_TIME] = "1"
    bench.environment["PYTHONPATH"] = os.pathsep.join([bench.environment["PYTHONPATH"], str(repository)])
    bench.environment["EVENBENCH_KNOWN_COUNTER"] = str(tmp_path / "counter")
    bench.environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    bench.folder = repository
    git(repository, "init", "-q", "-b", "main")
    commit(repository, pace=1.0)
    return bench


def commit(repository: Path, pace: float) -> None:
    write_pace(repository, pace)
    git(repository, "add", ".")
    git(repository, "-c", "user.name=n", "-c", "user.email=e@e", "commit", "-q", "-m", f"pace {pace}")


def write_pace(repository: Path, pace: float, build: str = "CPU") -> None:
    code = f"import os\nos.environ['EVENBENCH_PACE'] = '{pace}'\nfrom evenbench_known import Paced as Adapter\n"
    code += f"Adapter.versions = lambda self: {{'paced': '1', 'paced build': '{build}'}}\n"
    (repository / "my_pace.py").write_text(code)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.alone
@pytest.mark.parametrize(("pace", "verdict", "code"), [(1.02, "improvement", 0), (1.0, "no change", 0)])
def test_the_working_tree_against_a_revision(paced: Bench, pace: float, verdict: str, code: int) -> None:
    write_pace(paced.folder, pace, build="CUDA 13.0")
    done = paced("check", "--against", "git:main", "--backend", "paced", *JOB, *THROUGHPUT)
    assert done.returncode == code, done.stdout + done.stderr
    said = done.stderr.partition("pair 1\n")[0]
    assert "the sides have different builds of paced: base CPU, present CUDA 13.0; a change may be of the build" in said
    assert re.search(r"paced build +CPU +CUDA 13\.0\n", done.stdout)
    check = check_of(paced)
    (figure,) = check.figures
    assert (figure.verdict, figure.label, figure.name) == (verdict, "paced", "throughput")
    assert figure.change == pytest.approx(pace - 1, abs=0.001)
    assert figure.low < pace - 1 < figure.high
    assert sides_of(paced, check).present[0].job.model == "article-pytorch", "of --workload"
    orders = orders_of(figure)
    assert len(orders) in check.looks
    assert sum(orders.values()) == len(orders) / 2, "each side begins half of the pairs"
    assert done.stdout.startswith(f"{verdict}: 1 {verdict} (this environment against git:main)")
    assert "could find: the smallest true harm" in done.stdout
    shown = paced("history", "show", check.name)
    assert shown.stdout.split("\n\n")[0] == done.stdout.split("\n\n")[0]
    assert check.name in paced("history", "checks").stdout
    page = paced("history", "show", check.name, "--format", "html").stdout
    assert page.startswith("<!DOCTYPE html>")
    assert 'data-figure="forest-throughput"' in page
    assert paced("history", "delete", check.name).stdout == f"deleted {check.name}\n"
    assert "No check yet" in paced("history", "checks").stdout


@pytest.mark.alone
def test_all_metrics_of_an_environment_against_itself(paced: Bench) -> None:
    done = paced("check", "--against", sys.executable, "--backend", "paced", *JOB, "--format", "github")
    assert done.returncode in (0, 3), done.stdout + done.stderr  # memory of such small processes may be inconclusive
    check = check_of(paced)
    assert {figure.name for figure in check.figures} == {"throughput", "latency_p50", "peak_rss"}
    assert {f.name: f.verdict for f in check.figures if f.name != "peak_rss"} == {
        "throughput": "no change",
        "latency_p50": "no change",
    }
    assert "| row" in done.stdout
    memory = next(figure for figure in check.figures if figure.name == "peak_rss")
    assert all(pair.base > 1e7 for pair in memory.pairs)
    record = sides_of(paced, check).present[0]
    throughput = record.figure("throughput", "infer", "end-to-end")
    assert len(throughput.samples) >= len(check.figures[0].pairs)
    accuracy = record.figure("accuracy")
    assert accuracy.value is None
    assert "not trained" in accuracy.reason


def test_accuracy_over_paired_seeds(bench: Bench) -> None:
    bench.register({"third-party": "evenbench_wrong:Right"})
    options = ("--metric", "accuracy", "--backend", "pytorch", "--task", "train", "--workload")
    workload = "article-pytorch/digits/article-pytorch"
    done = bench("check", "--against", sys.executable, *options, workload, "--seeds", "2")
    check = check_of(bench)
    (figure,) = check.figures
    assert [pair.harm for pair in figure.pairs] == [0, 0], "the same environment trains to the same weights"
    assert (figure.verdict, done.returncode) == ("no change", 0), done.stdout
    assert figure.margin == pytest.approx(2 / 359), "two of 359 images are more than half a point"
    assert "+0.00 points" in done.stdout


@pytest.mark.alone
def test_a_model_of_the_users_in_another_mode_and_precision(bench: Bench) -> None:
    (bench.folder / "mine.toml").write_text(MINE)
    how = ("--precision", "bf16", "--mode", "channels-last", "--model", "mine.toml", "--recipe", "one-cycle")
    job = ("--backend", "pytorch", *how, "--set", "epochs=1", *JOB[2:6], *THROUGHPUT)
    done = bench("check", "--against", sys.executable, *job, *JOB[6:], "--budget", "1s")
    assert done.returncode == 3, done.stdout + done.stderr
    sides = sides_of(bench, check_of(bench))
    for (record,) in (sides.base, sides.present):
        assert (record.job.precision, record.job.mode) == ("bf16", "channels-last")
        assert record.job.model.startswith("mine@")
        assert record.job.recipe == "one-cycle[epochs=1]"
        assert record.comparable, record.parity
    assert bench("baseline", "save", "before", *job).returncode == 0
    other = bench("check", "--against", "before", "--precision", "fp32")
    assert "baseline before was saved with --precision bf16; leave out --precision fp32" in other.stderr
    both = bench("check", "--against", "before", "--workload", "a/b/c", "--model", "mine.toml")
    assert (both.returncode, both.stderr.count("\n")) == (2, 1)
    assert "--workload names model, data set and recipe together" in both.stderr


def test_a_baseline_of_an_earlier_version_keeps_its_workload(bench: Bench) -> None:
    assert bench("baseline", "save", "before", "--backend", "reference", *JOB[2:6], *THROUGHPUT).returncode == 0
    store = Store(str(bench.store))
    kept = json.loads(store.get(BASELINES, "before") or "")
    options = {"backend": "reference,pytorch", "workload": "article-pytorch/digits/one-cycle", "set": ["epochs=1"]}
    options |= {"mode": "default", "precision": "fp32", "task": "infer", "device": "auto", "batch_size": 4}
    kept["job"] = {**options, "figure": "throughput", "boundary": "device"}
    store.put(BASELINES, "before", json.dumps(kept))
    baseline = baselines.load_baseline(store, "before")
    assert baseline is not None
    assert baseline.job == CheckJob(
        backends=("reference", "pytorch"), model="article-pytorch", recipe="one-cycle", changes={"epochs": 1},
        precisions=("fp32",), task="infer", batch_size=4, metrics=("throughput",), boundary="device",
    )  # fmt: skip
    assert CheckJob.from_dict(json.loads(json.dumps(asdict(baseline.job)))) == baseline.job


def test_the_old_name_of_an_option_works_and_says_so_once(bench: Bench) -> None:
    done = bench("baseline", "save", "before", "--backend", "reference", "--figure", "throughput")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "bench: --figure is now --metric (the old name goes on working)\n"
    baseline = baselines.load_baseline(Store(str(bench.store)), "before")
    assert baseline is not None
    assert baseline.job.metrics == ("throughput",)
    both = bench("baseline", "save", "before", "--figure", "throughput", "--metric", "memory")
    assert (both.returncode, both.stderr) == (2, "bench: --figure is the old name of --metric; give one of them\n")


def test_one_seed_is_inconclusive(bench: Bench) -> None:
    options = ("--metric", "accuracy", "--backend", "pytorch", "--task", "train", "--workload")
    workload = "article-pytorch/digits/article-pytorch"
    done = bench("check", "--against", sys.executable, *options, workload)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "--seeds 2 or more" in done.stdout


@pytest.mark.parametrize("backend", ["segfaults", "doubled-learning-rate"])
def test_a_side_that_does_not_run_or_is_not_comparable_is_invalid(bench: Bench, backend: str) -> None:
    bench.register(RUDE | WRONG)
    done = bench("check", "--against", sys.executable, "--backend", backend, *JOB[:2], "--task", "train")
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stdout.startswith("invalid: ")
    assert {"segfaults": "SIGSEGV", "doubled-learning-rate": "is not comparable"}[backend] in done.stdout


@pytest.mark.alone
def test_on_its_default_profile_the_machine_stays_the_same_and_pairs_are_consistent(paced: Bench) -> None:
    """Profile precise: the parent pins itself to other cores meanwhile, which does not change the machine."""
    write_pace(paced.folder, 0.95)
    done = paced("check", "--against", "git:main", "--backend", "paced", *JOB[:6], *THROUGHPUT)
    assert done.returncode == 1, done.stdout + done.stderr
    (figure,) = check_of(paced).figures
    assert figure.verdict == "regression"
    for pair in figure.pairs:
        assert pair.harm == pytest.approx(math.log(pair.base / pair.present), abs=1e-6)
        assert pair.counts is not bool(pair.disturbed)


def test_a_revision_without_the_adapter_is_not_a_base(bench: Bench) -> None:
    """Otherwise both sides run the same code, and the check always passes."""
    git(bench.folder, "init", "-q", "-b", "main")
    (bench.folder / "file").write_text("")
    git(bench.folder, "add", "file")
    git(bench.folder, "-c", "user.name=n", "-c", "user.email=e@e", "commit", "-q", "-m", "m")
    bench.environment["XDG_CACHE_HOME"] = str(bench.folder / "cache")
    done = bench("check", "--against", "git:main", "--backend", "reference", *JOB, *THROUGHPUT)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "runs an adapter that git:main does not have: both sides are the same" in done.stdout


def test_an_error_is_not_taken_for_a_regression(bench: Bench) -> None:
    bench.environment["XDG_CACHE_HOME"] = str(bench.folder / "cache")
    done = bench("check", "--against", "psutil==0.0.0", "--backend", "reference")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "cannot install psutil==0.0.0" in done.stderr
    file = bench.folder / "file"
    file.write_text("")
    nowhere = bench("check", "--against", "psutil==6.1.1", "--backend", "reference", "--cache", str(file / "cache"))
    assert nowhere.returncode == 2
    assert "--cache DIR" in nowhere.stderr


def test_unnamed_rows_that_cannot_run_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.gate.gate import BASE, PRESENT, two_sided
    from bench.gate.gated_metric import Criteria
    from bench.runner import planner
    from bench.runner.plan import Request, Side
    from bench.runner.planner import make_plan
    from bench.workloads.workload import DEFAULT_WORKLOAD, parse

    monkeypatch.setattr(
        planner.backends, "installed", lambda adapter: ({}, ["torch"] if adapter.EXTRA == "pytorch" else [])
    )
    sides = Side(BASE, "b", python="/other/python"), Side(PRESENT, "p")
    everything = make_plan(Request(("all",), parse(DEFAULT_WORKLOAD), devices="cpu"))
    rows = {row.name for row in two_sided(everything, *sides, Criteria()).rows}
    assert "keras (present)" in rows
    assert not any(name.startswith("pytorch") for name in rows)
    named = make_plan(Request(("pytorch",), parse(DEFAULT_WORKLOAD), devices="cpu"))
    assert "pytorch (present)" in {row.name for row in two_sided(named, *sides, Criteria()).rows}


def test_a_damaged_check_is_one_line(bench: Bench) -> None:
    Store(str(bench.store)).put(CHECKS, "check-1", "{]")
    for command in ("show", "checks"):
        arguments = ("check-1",) if command == "show" else ()
        done = bench("history", command, *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "cannot read 'check-1' in the store" in done.stderr


@pytest.mark.alone
def test_a_budget_that_ends_early_is_inconclusive_and_the_exit_code_is_the_users_choice(paced: Bench) -> None:
    for choice, code in ((), 3), (("--inconclusive", "fail", "--summary"), 1):
        job = ("--backend", "paced", *JOB, *THROUGHPUT, "--budget", "0.1s", *choice)
        done = paced("check", "--against", "git:main", *job)
        assert done.returncode == code, done.stdout + done.stderr
        assert "the budget ended before the first look (--budget)" in done.stdout
        assert re.search(r"; --budget \d+s would do", done.stdout)
    assert "bench: nothing was measured, the budget ended" in done.stderr, "said before measuring: history knows"
    assert "pair 1" not in done.stderr
    assert len(Store(str(paced.store)).names(CHECKS)) == 1
    assert done.stdout.startswith("## 🟡 inconclusive: 1 inconclusive"), "a comment begins with the verdict"


@pytest.mark.alone
def test_a_killed_check_keeps_its_measured_pairs(paced: Bench) -> None:
    write_pace(paced.folder, 0.996)  # near the margin, so the check goes on
    command = paced.command("check", "--against", "git:main", "--backend", "paced", *JOB, *THROUGHPUT)
    process = subprocess.Popen(
        command, env=paced.environment, cwd=paced.folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "pair 3" not in process.stderr.readline():
        pass
    process.kill()
    process.communicate(timeout=300)
    (figure,) = check_of(paced).figures
    assert orders_of(figure).keys() == {0, 1}


@pytest.mark.alone
def test_ctrl_c_judges_what_was_measured(paced: Bench) -> None:
    write_pace(paced.folder, 0.996)
    command = paced.command("check", "--against", "git:main", "--backend", "paced", *JOB, *THROUGHPUT)
    process = subprocess.Popen(
        command, env=paced.environment, cwd=paced.folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "pair 6" not in process.stderr.readline():
        pass
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    (figure,) = check_of(paced).figures
    assert orders_of(figure).keys() == set(range(5))
    assert figure.change is not None, "the look after four pairs"
    assert "inconclusive" in out


def test_a_saved_baseline_keeps_the_job_the_data_and_the_lock(bench: Bench) -> None:
    saved = bench("baseline", "save", "before", "--backend", "reference", *JOB[:6], *THROUGHPUT)
    assert saved.returncode == 0, saved.stderr
    assert "before" in bench("baseline", "list").stdout
    other = bench("check", "--against", "before", "--backend", "pytorch")
    assert other.returncode == 2
    assert "baseline before was saved with --backend reference; leave out --backend pytorch" in other.stderr
    assert bench("baseline", "delete", "before").returncode == 0
    gone = bench("check", "--against", "before")
    assert (gone.returncode, gone.stderr.count("\n")) == (2, 1)
    assert "a saved baseline (none yet: bench baseline save NAME)" in gone.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "--against", "torhc"), "not an interpreter, a requirement such as torch==2.13.0"),
        (("check", "--against", "torch"), "not an interpreter, a requirement"),
        (("check", "--against", "torch=="), "not a requirement such as torch==2.13.0"),
        (("check", "--against", "django==2.0", "--backend", "reference"), "django is not needed by these rows"),
        (("check", "--against", "/no/such/python"), "no such file; give the path of an interpreter"),
        (("check", "--against", "git:main"), "run it inside the repository"),
        (("check", "--against", "x==1", "--metric", "speed"), "unknown metric 'speed'; one of throughput, latency"),
        (("check", "--against", "x==1", "--boundary", "outer"), "unknown boundary 'outer'"),
        (("check", "--against", "x==1", "--margin", "throughput"), "not METRIC=PERCENT"),
        (("check", "--against", "x==1", "--margin", "speed=1%"), "no margin 'speed'"),
        (("check", "--against", "x==1", "--margins", "none.toml"), "cannot read none.toml"),
        (("check", "--against", "x==1", "--budget", "long"), "not a time such as"),
        (("check", "--against", "x==1", "--seeds", "3"), "add --metric accuracy"),
        (("check", "--against", "x==1", "--inconclusive", "maybe"), "pass or fail"),
        (("baseline", "save", "a=b"), "begin with a letter"),
        (("baseline", "delete", "nothing"), "no baseline 'nothing'"),
        (("bisect", "--package", "six", "--good", "2", "--bad", "1"), "is not older than"),
        (("bisect", "--package", "six", "--good", "x", "--bad", "1"), "take versions such as"),
        (("bisect", "--package", "six", "--good", "0.0.1", "--bad", "1.16.0"), "no such release"),
    ],
)
def test_usage_errors(bench: Bench, arguments: tuple[str, ...], message: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("bench: ")
    assert done.stderr.count("\n") == 1

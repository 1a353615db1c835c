"""The command line: usage errors in one line with what to do next, quick listing, formats."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from bench_command import QUICK, Bench

from bench.records.record import SCHEMA

FRAMEWORKS = ("torch", "tensorflow", "keras", "onnxruntime", "onnx", "openvino", "jax")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--backend", "pytroch"), "unknown backend 'pytroch'; did you mean 'pytorch'? (bench list shows all)"),
        (("run", "--model", "article-kears"), "unknown model 'article-kears'; did you mean 'article-keras'?"),
        (("run", "--dataset", "digit"), "unknown data set 'digit'; did you mean 'digits'?"),
        (("run", "--recipe", "fast"), "unknown recipe 'fast';"),
        (("run", "--workload", "article-keras/digits"), "not MODEL/DATASET/RECIPE"),
        (("run", "--workload", "a/b/c", "--model", "a"), "leave out the other three"),
        (("run", "--task", "serve"), "unknown task 'serve'; one of train, infer, all"),
        (("run", "--device", "tpu"), "unknown device 'tpu'"),
        (("run", "--device", "cuda:"), "unknown device 'cuda:'"),
        (("run", "--dataset", "cifar10"), "--data-dir DIR"),
        (("run", "--dataset", "cifar10", "--data-dir", "/nowhere"), "no cifar-10-batches-bin"),
        (("run", "--python", "keras"), "not BACKEND=PATH"),
        (("run", "--python", "keras=/no/python"), "no such file"),
        (("run", "--python", "kears=/bin/sh"), "did you mean 'keras'?"),
        (("run", "--format", "gitub"), "unknown format 'gitub'; did you mean 'github'?"),
        (("run", "--store", "nosuch://x"), "nosuch"),
        (("run", "--profile", "precis"), "unknown profile 'precis'; one of deploy, precise"),
        (("run", "--cpus", "4096"), "CPU 4096 is not available"),
        (("run", "--cpus", "0", "--threads", "2"), "--threads 2 on 1 CPUs"),
        (("run", "--allocator", "jemaloc"), "no such file; one of system, arena, or the path"),
        (("run", "--precision-target", "2"), "not a percentage such as 2%"),
        (("run", "--precision-target", "2%", "--budget", "soon"), "not a time such as 90s, 5m or 1h"),
        (("run", "--budget", "5m", "--rounds", "3"), "--budget adds rounds until a time; give one"),
        (("report", "nothing"), "no run 'nothing'"),
        (("report",), "bench run --backend all makes one"),
        (("export", "--format", "xml"), "unknown format 'xml'"),
        (("export", "--format", "parquet"), "--format parquet writes files: --output DIR says where"),
        (("export", "--all"), "--all is every run, as parquet, huggingface, tensorboard or mlflow"),
        (("export", "--format", "parquet", "--all", "-o", "out"), "no run in"),
        (("export", "--inconclusive", "pass"), "--inconclusive goes with --format junit"),
        (("export", "--format", "junit", "check-9"), "no check 'check-9'"),
        (("export", "--format", "script"), "no run in"),
        (("site",), "--output DIR says where the site goes"),
        (("run", "--tensorboard", "/proc/board"), "--tensorboard /proc/board: "),
        (("run", "--on", "slurm", "--tensorboard", "board"), "bench export --format tensorboard afterwards"),
        (("check", "--against", "x", "--on", "slurm", "--junit", "v.xml"), "bench export --format junit afterwards"),
        (("import", "nothing.json"), "cannot read nothing.json: No such file"),
        (("compare", "a", "b"), "no run 'a'"),
        (("compare", "last~1", "--across", "moons"), "--across moons: not a part of the comparability key"),
        (("history", "--since", "soon"), "--since soon: not a time"),
        (("history", "--workload", "a/b"), "not MODEL/DATASET/RECIPE"),
        (("history", "show", "nothing"), "no run 'nothing'"),
        (("history", "tag", "last"), "begin with a letter, not with 'last'"),
        (("history", "delete", "nothing"), "no run 'nothing'"),
    ],
)
def test_usage_errors(bench: Bench, arguments: tuple[str, ...], message: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stderr.startswith("bench: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [("run", "--rounds", "-1"), ("run", "--threads", "none"), ("run", "--nonsense")])
def test_wrong_types_are_usage_errors(bench: Bench, arguments: tuple[str, ...]) -> None:
    assert bench(*arguments).returncode == 2


def test_cuda_without_a_gpu_is_refused_in_one_line(bench: Bench) -> None:
    done = bench("run", "--device", "cuda")
    assert done.returncode == 2
    assert done.stderr.startswith("bench: no CUDA device on this machine (")
    assert done.stderr.rstrip().endswith("use --device cpu")
    check = bench("gpu-check")
    assert check.returncode == 2
    assert "gpu-check needs one" in check.stderr


def test_list_names_everything(bench: Bench) -> None:
    done = bench("list")
    assert done.returncode == 0
    for name in (
        "reference",
        "pytorch",
        "keras",
        "keras-jax",
        "keras-torch",
        "jax",
        "onnxruntime",
        "openvino",
        "article-keras",
        "article-pytorch",
        "digits",
        "cifar10",
    ):
        assert name in done.stdout
    assert "torch 2." in done.stdout


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("command", [["--help"], ["list"]])
def test_the_parent_imports_no_framework(command: list[str]) -> None:
    code = (
        f"import sys\nsys.argv = ['bench', *{command!r}]\nfrom bench.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {FRAMEWORKS!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.rstrip().endswith("LOADED []"), done.stdout[-200:]


def test_missing_extra_is_listed_with_the_command_that_adds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import backends
    from bench.machine import installed
    from bench.runner import plan, planner

    monkeypatch.setattr(backends, "_version", lambda name: None if name == "torch" else "1.0")
    entry = next(entry for entry in installed.backends() if entry.name == "pytorch")
    assert entry.problem == "not installed: torch; pip install 'evenbench[pytorch]'"
    made = planner.make_plan(plan.Request(("all",), _workload(), devices="cpu"))
    problems = {row.name: row.problem for row in made.rows if row.requested}
    assert problems["pytorch"] == ("unavailable", entry.problem)
    assert problems["keras"] is None
    assert not next(row for row in made.rows if row.name == "pytorch").required, "under all it does not fail the run"
    asked = planner.make_plan(plan.Request(("pytorch",), _workload(), devices="cpu"))
    assert next(row for row in asked.rows if row.name == "pytorch").required


def _workload() -> object:
    from bench.workloads.workload import DEFAULT_WORKLOAD, parse

    return parse(DEFAULT_WORKLOAD)


def test_report_and_export(bench: Bench) -> None:
    bench.run("--backend", "reference", "--task", "infer")
    exported = json.loads(bench("export").stdout)
    assert exported["schema"] == SCHEMA
    for format_name in ("github", "grid", "latex", "tsv", "markdown"):
        done = bench("report", "--format", format_name)
        assert done.returncode == 0, done.stderr
        assert "reference" in done.stdout
    assert bench("report").stdout.startswith(f"# {exported['run']}\n")
    assert bench("report", exported["run"]).stdout == bench("report").stdout


def test_a_stored_run_through_every_command_of_history(bench: Bench) -> None:
    for number in range(2):
        done = bench("run", *QUICK, "--backend", "reference", "--task", "infer", "--batch-size", "4")
        assert done.returncode == 0, done.stderr
        told = re.search(r"^\[1/2\] reference: certify \(about \d+ s left\)$", done.stderr, re.MULTILINE)
        assert bool(told) is (number == 1), "what is left is told by the run before"
    listed = bench("history", "--backend", "reference", "--since", "1h")
    assert listed.stdout.count("article-pytorch/digits/article-keras") == 2
    assert "No run matches" in bench("history", "--backend", "pytorch").stdout
    assert bench("history", "tag", "good", "last~1").stdout.startswith("tag good: run ")
    assert bench("history", "ack", "--note", "known since May").returncode == 0
    shown = bench("history", "--format", "github").stdout
    assert "| good" in shown
    assert "known since May" in shown
    assert bench("history", "show", "good").stdout.startswith("Outcome")
    compared = bench("compare", "good")
    assert "nothing that was recorded" in compared.stdout, "nothing changed between them"
    assert "3 more runs with the same versions are needed" in compared.stdout
    points = bench("history", "--change-points", "--figure", "throughput")
    assert points.stdout.startswith("No level shift."), points.stderr
    assert "0 of 2 series have the 8 points" in points.stdout

    exported = bench("export", "good").stdout
    (bench.folder / "run.json").write_text(exported)
    assert "is already in" in bench("import", "run.json").stdout
    name = json.loads(exported)["run"]
    assert bench("history", "delete", "good").stdout == f"deleted {name}\n"
    assert bench("import", "run.json").stdout.startswith(f"run {name} imported into")
    assert bench("export", name).stdout == exported
    assert bench("history", "prune", "--keep", "1").stdout.splitlines() == [f"deleted {name}", "1 runs"]

    for format_name in ("pytest-benchmark", "bencher", "customBiggerIsBetter", "customSmallerIsBetter"):
        done = bench("export", "--format", format_name)
        assert done.returncode == 0, done.stderr
        assert "reference" in json.dumps(json.loads(done.stdout))


def test_version(bench: Bench) -> None:
    assert bench("--version").stdout.startswith("evenbench 0.")

"""evenbench from Python: options as keywords, results that show themselves, what is stored as data frames."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas
import polars
import pytest
from bench_command import Bench
from builders import recorded
from html_pages import check
from stored import comparable
from stored import run as bare_run

import evenbench
from bench.cli import check as check_command
from bench.cli import run as run_command
from bench.records.export import export
from bench.store.store import Store
from evenbench import api
from evenbench.results import CheckResult, RunResult

QUICK = {
    "backend": "reference",
    "task": "infer",
    "rounds": 1,
    "model": "article-pytorch",
    "batch_size": [4, 8],
    "threads": 1,
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A real run, and two small ones."""
    opened = Store(str(tmp_path / "history.db"))
    real = recorded()
    opened.add(real.model_copy(update={"records": [r.model_copy(update={"ratios": []}) for r in real.records]}))
    for name, backend in (("20260101T000000-aaaa", "pytorch"), ("20260102T000000-bbbb", "keras")):
        started = f"{name[:4]}-{name[4:6]}-{name[6:8]}T00:00:00+00:00"
        made = bare_run(name).model_copy(update={"started_at": started, "records": [comparable(backend=backend)]})
        opened.add(made)
    return opened


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"backend": ["pytorch", "keras"]}, ["--backend=pytorch,keras"]),
        ({"batch_size": (8, 32), "rounds": 0}, ["--batch-size=8,32", "--rounds=0"]),
        ({"set": {"epochs": 2, "batch_size": 16}}, ["--set=epochs=2", "--set=batch_size=16"]),
        ({"set": ["epochs=2"]}, ["--set=epochs=2"]),
        ({"python": {"keras": Path("/k/bin/python")}}, ["--python=keras=/k/bin/python"]),
        ({"no_lock": True, "freeze": False, "memory": None}, ["--no-lock"]),
        ({"resume": True}, ["--resume="]),
        ({"target_accuracy": 0.7, "data_dir": Path("data")}, ["--target-accuracy=0.7", "--data-dir=data"]),
    ],
)
def test_keywords_are_the_options_of_the_command(options: dict[str, object], arguments: list[str]) -> None:
    assert api._arguments("run", run_command.run, options) == arguments


def test_every_option_of_both_commands_can_be_given_or_says_what_to_do() -> None:
    for command, function in (("run", run_command.run), ("check", check_command.check)):
        for name in api.grouped.flags(function):
            if name in api.NOT_HERE:
                with pytest.raises(evenbench.UsageError, match=f"^{name}: "):
                    api._arguments(command, function, {name: "x"})
            else:
                assert len(api._arguments(command, function, {name: "x"})) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bakend": "pytorch"}, r"run\(\) has no option 'bakend'; did you mean 'backend'\?"),
        ({"rounds": "many"}, "Invalid value for '--rounds'"),
        ({"rounds": -1}, "Invalid value for '--rounds'"),
        ({"backend": "pytroch"}, "unknown backend 'pytroch'; did you mean 'pytorch'?"),
        ({"task": "fly"}, "unknown task 'fly'"),
        ({"on": "ray"}, "on: jobs on other machines are the command line's: bench run --on"),
        ({"resume": True, "rounds": 2}, "leave out --rounds"),
        ({"resume": True}, "nothing|no run"),
    ],
)
def test_errors_are_those_of_the_command(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(evenbench.UsageError, match=message):
        evenbench.run(store=tmp_path / "history.db", **options)


def test_stored_runs_are_data_frames(store: Store) -> None:
    history = evenbench.load(store.file)
    assert [one.name for one in history] == [recorded().name, "20260102T000000-bbbb", "20260101T000000-aaaa"]
    assert len(history) == 3
    assert isinstance(history[0], RunResult)
    frame = history.figures.to_pandas()
    assert set(frame["run"]) == {one.name for one in history}
    assert polars.from_arrow(history.figures).height == len(frame)  # type: ignore[union-attr]
    assert isinstance(pandas.api.interchange.from_dataframe(history.samples), pandas.DataFrame)
    assert [record.job.backend for record in history[1].records] == ["keras"]
    assert history[0].run.records == recorded().records, "with the ratios, as export has them"


def test_filters_are_those_of_the_history(store: Store) -> None:
    def names(**filters: object) -> list[str]:
        return [one.name for one in evenbench.load(str(store.file), **filters)]  # type: ignore[arg-type]

    assert names(workload="m/d/r", limit=1) == ["20260102T000000-bbbb"]
    assert names(backend="keras", since="2026-01-02") == [recorded().name, "20260102T000000-bbbb"]
    assert names(run="last~2") == ["20260101T000000-aaaa"]
    with pytest.raises(evenbench.UsageError, match="no run 'nothing'"):
        names(run="nothing")
    with pytest.raises(evenbench.UsageError, match="leave out the filters"):
        names(run="last", backend="keras")
    with pytest.raises(evenbench.UsageError, match="--since soon"):
        names(since="soon")


def test_a_file_of_export_is_a_history_of_one_run(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(export(recorded()))
    history = evenbench.load(file)
    assert [one.run for one in history] == [recorded()]
    assert recorded().name in str(history)
    with pytest.raises(evenbench.UsageError, match="is one run; leave out what chooses some"):
        evenbench.load(file, backend="keras")


def test_results_show_themselves(store: Store) -> None:
    history = evenbench.load(store.file)
    verdicts = CheckResult(check(), 1)
    for shown, expected in ((history, "20260101T000000-aaaa"), (history[0], "throughput"), (verdicts, "REGRESSION")):
        assert "<table>" in shown._repr_html_()
        assert expected in shown._repr_html_()
        assert expected in str(shown)
    assert repr(history[0]) == f"RunResult('{recorded().name}', {len(recorded().records)} rows)"
    assert (repr(verdicts), verdicts.verdict) == ("CheckResult('check-1', 'regression')", "regression")
    assert history[0].page().startswith("<!DOCTYPE html>")
    assert verdicts.page().startswith("<!DOCTYPE html>")


def test_a_run_is_measured_stored_and_loaded(process: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "history.db"
    result = evenbench.run(store=store, **QUICK)
    assert result.exit_code == 0, result.records[0].error
    assert [record.job.backend for record in result.records] == ["reference"]
    assert result.run.command.startswith("bench run --backend=reference --task=infer")
    assert evenbench.load(store)[0].figures.equals(result.figures)
    rates = result.figures.to_pandas().query("metric == 'throughput' and boundary == 'end-to-end'")
    assert sorted(rates["batch_size"]) == [4, 8]
    assert (rates["value"] > 0).all()
    printed = capsys.readouterr()
    assert printed.out == "", "a result is returned, not printed"
    assert "[1/" in printed.err, "progress"


def test_importing_it_imports_nothing_of_ours(process: None) -> None:
    code = (
        "import sys, evenbench; assert 'run' in dir(evenbench);"
        "print([name for name in sys.modules if name.split('.')[0] in ('bench', 'backends', 'reports', 'numpy')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_package_of_the_users_that_hides_ours_is_named(process: None, tmp_path: Path) -> None:
    (tmp_path / "bench.py").write_text("raise SystemExit('the wrong bench')\n")
    done = subprocess.run(
        [sys.executable, "-c", "import evenbench; evenbench.load()"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "bench.py hides a package of evenbench" in done.stderr.splitlines()[-1]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        evenbench.rnu  # noqa: B018


def test_tensorboard_gets_the_training_while_it_goes_on(process: None, bench: Bench, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = ("--backend", "jax", "--task", "infer", "--set", "epochs=3", "--rounds", "0", "--tensorboard", "board")
    (record,) = bench.run(*options)
    (seed,) = (bench.folder / "board").rglob("seed-0")
    read = EventAccumulator(str(seed))
    read.Reload()
    curve = record["outcome"]["trainings"][0]["curve"]
    split = curve[0]["split"]
    assert [event.step for event in read.Scalars(f"{split}/accuracy")] == [1, 2, 3]
    assert [event.value for event in read.Scalars(f"{split}/loss")] == [pytest.approx(one["loss"]) for one in curve]
    walls = [event.wall_time for event in read.Scalars("train/loss")]
    whole = EventAccumulator(str(seed.parent))
    whole.Reload()
    assert walls[0] < walls[1] < walls[2], "each was written when it was evaluated"
    assert whole.Images("confusion")

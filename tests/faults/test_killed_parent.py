"""``kill -9`` of ``bench`` at random moments: the store opens and holds what had been reported, no process is left, and
``--resume`` does what is missing, nothing twice. A few moments here; ``-m long`` tries fifty of each command.
"""

from __future__ import annotations

import random
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest
from bench_command import Bench
from fakes.registry import KNOWN

from bench.analysis.sweep import Sweep
from bench.records.gate_result import Check, Pair
from bench.records.record import Phase, Record
from bench.store import queries
from bench.store.schema import CHECKS, SWEEPS
from bench.store.store import Store

ROUNDS = 3
WORK = ("--workload", "article-pytorch/digits/article-keras", "--set", "epochs=1", "--threads", "1")
RUN = ("run", *WORK, "--backend", "constant,pytorch", "--task", "infer", "--rounds", str(ROUNDS))
CHECK = ("check", *WORK, "--backend", "constant", "--task", "infer", "--batch-size", "4", "--profile", "deploy")
SWEEP = ("sweep", *WORK, "--set", "validation=0.1", "--backend", "pytorch", "--seeds", "2")
SWEEP += ("--over", "learning_rate=0.01,0.02")
LINES = {"run": 21, "check": 14, "sweep": 8}
"""Lines that a whole one reports."""


@dataclass
class Kept:
    """What a store holds of a command that was killed."""

    records: dict[str, Record] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    trials: dict[int, dict[str, Any]] = field(default_factory=dict)


@pytest.fixture
def known(bench: Bench) -> Bench:
    bench.register({name: KNOWN[name] for name in ("constant", "twice")})
    return bench


def kill_after(bench: Bench, lines: int, seconds: float, *arguments: str) -> list[str]:
    """Start a command, and kill it so many seconds after it has reported so many lines; what it had reported."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        bench.command(*arguments), stdout=pipe, stderr=pipe, text=True, env=bench.environment, cwd=bench.folder
    )
    assert process.stderr is not None
    reported = [line for _, line in zip(range(lines), process.stderr, strict=False)]
    time.sleep(seconds)
    process.kill()
    reported += process.communicate()[1].splitlines()
    assert bench.left() == []
    return reported


def kept(bench: Bench, command: str) -> Kept:
    """What the store holds; it opens."""
    store = Store(str(bench.store))
    if command == "check":
        checks = [check for name in store.names(CHECKS) if (check := store.read(CHECKS, name, Check)) is not None]
        return Kept(pairs=[pair for check in checks for figure in check.figures for pair in figure.pairs])
    if command == "sweep":
        (sweep,) = [store.read(SWEEPS, name, Sweep) for name in store.names(SWEEPS)] or [None]
        done = {} if sweep is None else {i: t.model_dump() for i, t in enumerate(sweep.trials) if t.run}
        return Kept(trials=done)
    return Kept({record.id: record for record in store.load().records} if runs_of(store) else {})


def runs_of(store: Store) -> list[str]:
    return [listed.name for listed in queries.runs(store, queries.Filter(), limit=10)]


def phases(record: Record, kind: str) -> list[Phase]:
    return [phase for phase in record.phases if phase.kind == kind]


def kill_and_go_on(bench: Bench, command: str, lines: int, seconds: float) -> str:
    """Kill a command, go on with it, and look at what it came to; in which state it was."""
    reported = kill_after(bench, lines, seconds, *arguments_of(command, bench))
    before = kept(bench, command)
    if command == "run":
        measured = max((int(line.split("measure ")[1][0]) for line in reported if ": measure " in line), default=1) - 1
        held = [len(phases(record, "measure")) for record in before.records.values()]
        assert all(rounds >= measured for rounds in held), (reported, held)
        assert len(held) == 2 or not measured
    done = bench(command, "--resume")
    if "can go on; bench history" in done.stderr:
        assert done.returncode == 2
        assert len(reported) in (0, LINES[command]), "it had not begun, or had ended"
        return "whole" if reported else "not begun"
    disturbed = command == "check" and done.returncode in (3, 4) and "disturbed" in done.stdout  # by a busy machine
    assert done.returncode == 0 or disturbed, done.stdout + done.stderr
    assert bench.left() == []
    look_at(bench, command, before, kept(bench, command))
    assert "stopped early" not in bench("history").stdout
    return "went on"


def look_at(bench: Bench, command: str, before: Kept, after: Kept) -> None:
    """Everything is there once, and what had been there is the same."""
    if command == "run":
        assert len(after.records) == 2
        for row, record in after.records.items():
            assert record.comparable, record.error
            assert [phase.round for phase in phases(record, "measure")] == list(range(ROUNDS))
            trained = int(record.job.backend == "pytorch")
            assert (len(phases(record, "certify")), len(phases(record, "fit"))) == (1, trained)
            if row in before.records:
                known = before.records[row].phases
                assert [phase for phase in record.phases if phase in known] == known, "measured twice"
    elif command == "check":
        numbers = [(pair.number, pair.base_first) for pair in after.pairs if pair.counts]
        assert len(numbers) == len(set(numbers)), "a pair was measured twice"
        assert all(pair in after.pairs for pair in before.pairs)
    else:
        assert len(after.trials) == 2
        assert not any(trial["failed"] for trial in after.trials.values())
        assert before.trials.items() <= after.trials.items()
        assert len(runs_of(Store(str(bench.store)))) == 2, "no trial was begun twice"


def arguments_of(command: str, bench: Bench) -> tuple[str, ...]:
    against = ("--against", bench.command()[0], "--metric", "throughput")
    return {"run": RUN, "check": (*CHECK, *against), "sweep": SWEEP}[command]


@pytest.mark.parametrize(("command", "share"), [("run", 0.5), ("check", 0.6), ("sweep", 0.6)])
def test_a_killed_command_goes_on(known: Bench, command: str, share: float) -> None:
    lines = round(share * LINES[command])
    assert kill_and_go_on(known, command, lines, random.Random(f"{command} {share}").uniform(0.0, 0.3)) == "went on"


def begun(bench: Bench, *arguments: str) -> subprocess.Popen[str]:
    """A command in the background."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        bench.command(*arguments), stdout=pipe, stderr=pipe, text=True, env=bench.environment, cwd=bench.folder
    )


def test_ctrl_c_names_the_command_that_goes_on(known: Bench) -> None:
    process = begun(known, *RUN, "--backend", "constant")
    assert process.stderr is not None
    assert any("measure 2/" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    (name,) = runs_of(Store(str(known.store)))
    assert f"it is not whole: bench run --resume {name} does what is missing" in told
    assert f"{name} stopped early: bench run --resume {name} does what is missing" in known("history").stdout
    for arguments, said in (
        (("--resume", name, "--rounds", "9"), "leave out --rounds"),
        (("--anyway",), "--anyway goes with --resume"),
        (("--resume", "elsewhere"), "no run 'elsewhere' in "),
    ):
        refused = known("run", *arguments)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert said in refused.stderr
    done = known("run", "--resume", name)
    assert done.returncode == 0, done.stderr
    assert "certify" not in done.stderr
    assert re.search(r"it stopped, and went on 2\S+; rounds measured until then: 1", done.stdout), done.stdout
    assert known("run", "--resume").returncode == 2, "nothing is left to do"


def test_a_row_that_died_is_tried_again_beside_the_others(known: Bench) -> None:
    """Both rows get the rounds that they need, as pairs."""
    process = begun(known, *RUN, "--backend", "constant,twice", "--rounds", "2")
    assert process.stderr is not None
    assert any("infer throughput end-to-end: measure 2/" in line for line in process.stderr)
    next(child for child in psutil.Process(process.pid).children() if "bench.worker" in child.cmdline()).kill()
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "does what is missing" in told
    before = kept(known, "run").records
    assert sorted(record.status for record in before.values()) == ["crashed", "ok"]
    assert known("run", "--resume").returncode == 0
    after = kept(known, "run").records
    rounds = {before[row].status: [phase.round for phase in phases(after[row], "measure")] for row in before}
    assert rounds == {"crashed": [0, 2], "ok": [0, 1, 2]}


@pytest.mark.long
@pytest.mark.parametrize("command", ["run", "check", "sweep"])
@pytest.mark.parametrize("seed", range(50))
@pytest.mark.timeout(600)
def test_fifty_moments(known: Bench, command: str, seed: int) -> None:
    drawn = random.Random(f"{command} {seed}")
    kill_and_go_on(known, command, drawn.randint(0, LINES[command]), drawn.uniform(0.0, 2.0))

"""What the worker does around a backend: the boundary of each figure, memory accounts, the pipe that is ours."""

from __future__ import annotations

import io
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.base import Unsupported
from bench.worker import session as session_module
from bench.worker.protocol import (
    Boundary,
    Finish,
    Job,
    Prepare,
    Renew,
    Task,
    TimedMetric,
    TimeSlice,
    WarmUp,
    Work,
    write_request,
)
from bench.worker.session import Session, serve
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES

MODEL = MODELS["article-pytorch"]
READ_LAST = {"to_numpy"}
"""After the clock of a slice has stopped: the last output is read, so that work that goes on is seen."""


class Recorder:
    """A backend that does nothing but write down what it is asked."""

    READS = ()
    TASKS = frozenset({"train", "infer"})

    def __init__(self, *_: Any) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            self.calls.append(name)
            return arguments if name == "to_device" else {}

        return call

    def out_of_memory(self, error: BaseException) -> bool:
        return False


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(session_module.backends, "load", lambda name: lambda *_: made)
    return made


def work(folder: Path) -> Work:
    job = Job(backend="recorder", mode="m", model=MODEL.name, dataset="d", recipe="article-pytorch", threads=1)
    return Work(job=job, model=MODEL.to_dict(), recipe=asdict(RECIPES["article-pytorch"]), data=folder)


@pytest.fixture
def session(recorder: Recorder, tmp_path: Path) -> Session:
    """One that is prepared."""
    np.save(tmp_path / "sample_x.npy", np.ones((8, *MODEL.input_shape), np.float32))
    np.save(tmp_path / "sample_y.npy", np.zeros(8, np.int64))
    made = Session(started=time.monotonic(), spawned_at=time.monotonic())
    made.prepare(Prepare(work=work(tmp_path)))
    return made


def calls_of(session: Session, recorder: Recorder, task: Task, boundary: Boundary) -> set[str]:
    """What one slice asks of the backend, warm-up left out."""
    session.warm_up(WarmUp(metric=TimedMetric("throughput", task, 2, boundary)))
    recorder.calls.clear()
    session.slice(TimeSlice(seconds=0.001))
    return set(recorder.calls)


def test_copies_are_counted_end_to_end_and_only_there(session: Session, recorder: Recorder) -> None:
    assert calls_of(session, recorder, "infer", "end-to-end") == {"infer", "synchronize"}
    assert calls_of(session, recorder, "infer", "device") == {"forward", "synchronize"} | READ_LAST
    end_to_end = {"to_device", "train_step", "synchronize"} | READ_LAST
    assert calls_of(session, recorder, "train", "end-to-end") == end_to_end
    assert calls_of(session, recorder, "train", "device") == {"train_step", "synchronize"} | READ_LAST
    finished = session.finish(Finish())
    assert set(finished.peak_rss) == {"infer", "train"}
    assert finished.peak_rss["train"] >= 0.99 * finished.rss
    assert sum(finished.report.phases.values()) <= finished.report.life


class Piped(Recorder):
    """With an input pipeline of two batches ahead, whose calls are written down too."""

    def input_pipeline(self, files: Any, batch_size: int, workers: int) -> Any:
        self.calls.append(f"open {batch_size}")
        calls = self.calls

        class Pipeline:
            ahead, describes = 2, "fake loader"

            def ask(self, entries: Any) -> None:
                calls.append(f"ask {len(entries)}")

            def next(self) -> Any:
                calls.append("next")
                return np.zeros((batch_size, *MODEL.input_shape), np.float32), np.zeros(batch_size, np.int64)

            def to_host(self, x: Any, y: Any) -> Any:
                return x, y

            def close(self) -> None:
                calls.append(f"close {batch_size}")

        return Pipeline()


def test_a_pipeline_is_opened_once_for_a_batch_size_and_settles_before_the_clock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend, phases = Piped(), []
    monkeypatch.setattr(session_module.backends, "load", lambda name: lambda *_: backend)
    np.save(tmp_path / "sample_x.npy", np.ones((8, *MODEL.input_shape), np.float32))
    np.save(tmp_path / "sample_y.npy", np.zeros(8, np.int64))
    np.save(tmp_path / "labels.npy", np.zeros(4, np.int64))
    piped = work(tmp_path)
    piped = replace(piped, job=replace(piped.job, input_workers=1), images=tmp_path)
    made = Session(started=time.monotonic(), spawned_at=time.monotonic())
    made.prepare(Prepare(work=piped))
    original = made._phase
    monkeypatch.setattr(made, "_phase", lambda name: (phases.append((name, len(backend.calls))), original(name))[1])
    for name in ("input_throughput", "fed_throughput"):
        made.warm_up(WarmUp(metric=TimedMetric(name, "input", 2, "end-to-end")))
    assert [call for call in backend.calls if call.startswith(("open", "close"))] == ["open 2"]
    assert backend.calls.count("build") == 2, "to infer, then to train"
    made.renew(Renew(seconds=0.0001, seed=1, keep=(0.0,)))
    backend.calls.clear()
    phases.clear()
    timed = made.slice(TimeSlice(seconds=0.0001))
    ((_, timed_from),) = [phase for phase in phases if phase[0] == "timed"]
    assert backend.calls[:timed_from].count("next") == 2, "what was asked for ahead is taken before the clock"
    assert "train_step" not in backend.calls[:timed_from]
    assert timed.stalled is not None
    made.warm_up(WarmUp(metric=TimedMetric("input_throughput", "input", 3, "end-to-end")))
    assert [call for call in backend.calls if call.startswith(("open", "close"))] == ["close 2", "open 3"]
    finished = made.finish(Finish())
    assert set(finished.peak_rss) == {"input"}
    text = "fake loader; 4 PNG files of 32x32x3, not augmented, as the recipe says"
    assert finished.report.settings["input_pipeline"] == text
    assert backend.calls[-1] == "close 3"


def test_every_call_of_a_latency_slice_is_fenced(session: Session, recorder: Recorder) -> None:
    session.warm_up(WarmUp(metric=TimedMetric("latency", "infer", 1, "device")))
    recorder.calls.clear()
    timed = session.slice(TimeSlice(seconds=0.001))
    if recorder.calls[0] == "forward":
        del recorder.calls[0]  # the step outside the clock that a slice begins with
    assert timed.latencies is not None
    calls = [call for call in recorder.calls if call not in READ_LAST]
    assert calls == ["synchronize", *["forward", "synchronize"] * len(timed.latencies)]


def test_under_a_quota_a_latency_slice_sees_several_of_its_periods(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module.clock, "MAX_LATENCIES", 5)
    monkeypatch.setattr(session_module.clock, "MAX_UNDER_QUOTA", 30)
    session.warm_up(WarmUp(metric=TimedMetric("latency", "infer", 1, "device")))
    counts = []
    for quota in (None, 1.5):
        session._work = replace(session._work, job=replace(session._work.job, cpu_quota=quota))
        counts.append(len(session.slice(TimeSlice(seconds=10.0)).latencies or ()))
    assert counts == [5, 30]


def test_an_error_is_one_reply_and_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> None:
        raise Unsupported("no convolutions\nat all")

    monkeypatch.setattr(session_module.backends, "load", refuse)
    request = write_request(Prepare(work=work(tmp_path)), spawned_at=0.0).decode()
    replies = io.BytesIO()
    serve(io.StringIO(2 * request), replies, started=0.0)
    (line,) = replies.getvalue().splitlines()
    assert json.loads(line) == {"error": {"status": "unsupported", "reason": "no convolutions"}}
    assert "Traceback" in capsys.readouterr().err, "the whole story is in the worker's log"


def test_a_line_that_is_no_request_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("{}", "hello", '{"command": "fit", "spawned_at": 0, "content": {"out": 5}}'):
        replies = io.BytesIO()
        serve(io.StringIO(line + "\n"), replies, started=0.0)
        assert json.loads(replies.getvalue())["error"]["status"] == "failed"


def test_the_adapter_files_an_adapter_are_not_the_standard_librarys() -> None:
    from backends.reference import Adapter

    files = session_module._adapter_files("reference", Adapter("cpu", "fp64", "numpy", 1, 0))
    assert [Path(file).name for file in files] == ["base.py", "reference.py"]

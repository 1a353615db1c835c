"""What the worker does around a backend: the boundary of each figure, memory accounts, the pipe that is ours."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.base import Unsupported
from bench.worker import session as worker
from bench.worker.session import Session, serve
from bench.workloads.models import MODELS
from bench.workloads.workload import RECIPES

MODEL = MODELS["article-pytorch"]


class Recorder:
    """A backend that does nothing but write down what it is asked."""

    NEEDS_SOURCE = False
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
    monkeypatch.setattr(worker.backends, "load", lambda name: lambda *_: made)
    return made


@pytest.fixture
def request_(tmp_path: Path) -> dict[str, Any]:
    np.save(tmp_path / "sample_x.npy", np.ones((8, *MODEL.input_shape), np.float32))
    np.save(tmp_path / "sample_y.npy", np.zeros(8, np.int64))
    common = {"backend": "recorder", "device": "cpu", "precision": "fp32", "mode": "m", "threads": 1, "seed": 0}
    plain = {"model": MODEL.to_dict(), "recipe": RECIPES["article-pytorch"].to_dict(), "frozen": [], "first_batch": 1}
    return {**common, **plain, "data": str(tmp_path), "spawned_at": time.monotonic()}


def calls_of(session: Session, recorder: Recorder, **figure: Any) -> set[str]:
    """What one slice asks of the backend, warm-up left out."""
    plain = {"name": "throughput", "batch_size": 2, **figure}
    session.warm_up({"figure": plain})
    recorder.calls.clear()
    session.slice({"figure": plain, "seconds": 0.001})
    return set(recorder.calls)


def test_copies_are_counted_end_to_end_and_only_there(recorder: Recorder, request_: dict[str, Any]) -> None:
    session = Session()
    session.prepare(request_)
    assert calls_of(session, recorder, task="infer", boundary="end-to-end") == {"infer", "synchronize"}
    assert calls_of(session, recorder, task="infer", boundary="device") == {"forward", "synchronize"}
    end_to_end = {"to_device", "train_step", "synchronize"}
    assert calls_of(session, recorder, task="train", boundary="end-to-end") == end_to_end
    assert calls_of(session, recorder, task="train", boundary="device") == {"train_step", "synchronize"}
    memory = session.finish({})
    assert set(memory["peak_rss"]) == {"infer", "train"}
    assert memory["peak_rss"]["train"] >= 0.99 * memory["rss"]
    assert sum(memory["phases"].values()) <= memory["life"]


def test_every_call_of_a_latency_slice_is_fenced(recorder: Recorder, request_: dict[str, Any]) -> None:
    session = Session()
    session.prepare(request_)
    figure = {"name": "latency", "batch_size": 1, "task": "infer", "boundary": "device"}
    session.warm_up({"figure": figure})
    recorder.calls.clear()
    timed = session.slice({"figure": figure, "seconds": 0.001})
    if recorder.calls[0] == "forward":
        del recorder.calls[0]  # the step outside the clock that a slice begins with
    assert recorder.calls == ["synchronize", *["forward", "synchronize"] * len(timed["latencies"])]


def test_an_error_is_one_reply_and_the_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(name: str) -> None:
        raise Unsupported("no convolutions\nat all")

    monkeypatch.setattr(worker.backends, "load", refuse)
    plain = {"model": MODEL.to_dict(), "recipe": RECIPES["article-pytorch"].to_dict(), "frozen": []}
    request = {"command": "prepare", "backend": "x", **plain, "device": "cpu", "spawned_at": 0.0}
    replies = io.StringIO()
    serve(io.StringIO(2 * (json.dumps(request) + "\n")), replies)
    (line,) = replies.getvalue().splitlines()
    assert json.loads(line) == {"error": {"status": "unsupported", "reason": "no convolutions"}}
    assert "Traceback" in capsys.readouterr().err, "the whole story is in the worker's log"

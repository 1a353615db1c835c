"""The one place where requests and replies are read and written: what goes in comes out, all else is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.machine.gpu_checks import Energy
from bench.values import Missing
from bench.worker import protocol
from bench.worker.coding import ProtocolError, decode, encode
from bench.worker.protocol import (
    Certified,
    Certify,
    Close,
    Closed,
    Computed,
    Drawn,
    Evaluation,
    Expect,
    Exported,
    Finish,
    Finished,
    Fit,
    GpuFacts,
    Job,
    KeptOutputs,
    MeasureRoof,
    NotExported,
    Prepare,
    Prepared,
    Probe,
    Probed,
    ProbeGpu,
    Profile,
    Profiled,
    ReadKept,
    ReadServed,
    Recompute,
    Recomputed,
    Renew,
    Renewed,
    Request,
    RoofRates,
    ShowedValues,
    ShowValues,
    Started,
    StartServer,
    TimedMetric,
    TimedOperator,
    TimedSlice,
    TimeSlice,
    Trained,
    WarmedUp,
    WarmUp,
    Work,
    WorkerReport,
)
from bench.worker.session import Session

JOB = Job(backend="b", source="s", mode="m", model="x", dataset="d", recipe="r", threads=2, cpus=(0, 3))
WORK = Work(job=JOB, model={"layers": []}, recipe={"epochs": 1}, data=Path("/scratch"), file=Path("/scratch/m.onnx"))
METRIC = TimedMetric("throughput", "infer", 8, "device")
REPORT = WorkerReport(
    versions={"b": "1"}, settings={"threads": 2, "tf32": None}, phases={"fit": 1.5}, peak_rss=7, life=2.0
)
POINT = Evaluation(epoch=1.0, seconds=2.0, train_loss=None, split="test")
TRAINED = Trained(
    fit_seconds=2.0,
    evaluations=(POINT,),
    losses=(2.3,),
    exports={"onnx": Exported(seconds=1.0, bytes=9)},
    report=REPORT,
)
ENERGY = Energy(joules=None, watts=2.0, seconds=20.0, clock_mhz=None, throttled=("power cap",))
EXCHANGES: list[tuple[Request[Any], list[Any]]] = [
    (
        Certify(work=WORK, out=Path("/out"), batches=(1, 4)),
        [Certified(adapter_files=("a.py",), bytes=5, report=REPORT)],
    ),
    (
        Fit(
            work=replace(WORK, model=None),
            out=Path("/out"),
            exports=("onnx", "litert"),
            often=True,
            watched=(0, 2),
            asked=(1,),
        ),
        [
            TRAINED,
            replace(TRAINED, exports={"onnx": NotExported(status="failed", reason="no")}),
            replace(TRAINED, exports={}),
        ],
    ),
    (Prepare(work=WORK, weights=Path("/w.npz")), [Prepared(first_call=0.1, cold_start=1.0)]),
    (WarmUp(metric=METRIC), [WarmedUp(steps=5, steady=True, step_seconds=0.1), Missing("no room")]),
    (
        TimeSlice(seconds=0.1),
        [TimedSlice(seconds=0.1, images=8, latencies=(0.1, 0.2), counters={"switches": 1}, elapsed=0.2, ready=0.0)],
    ),
    (
        ShowValues(work=WORK, out=Path("/out"), shown=Path("/out/all.onnx"), batch=2),
        [ShowedValues(report=REPORT)],
    ),
    (Expect(work=WORK, out=Path("/out/expected.npz")), [Computed(seconds=2.5)]),
    (
        Recompute(work=WORK, drawn=(Drawn(seed=1, size=2, count=4, batch=3, elements=9),), seconds=5.0),
        [Recomputed(values=((4.0, 0.0, 0.5),), report=REPORT)],
    ),
    (Renew(seconds=0.1, seed=7, keep=(0.25, 0.5)), [Renewed(batches=4)]),
    (
        ReadKept(rows=(0, 5), elements=3),
        [
            KeptOutputs(),
            KeptOutputs(steps=(3,), batches=(1,), count=4, values=(((0.5, 1.5), (2.0, 3.0)),), seconds=(1e-5,)),
        ],
    ),
    (Close(seed=7, rate=0.1, size=8, steps=3, out=Path("/out.npz")), [Closed(losses=(2.5, 2.25, 2.0))]),
    (StartServer(instances=2, max_batch=4, max_delay=0.002), [Started(seconds=(0.1, 0.2, 0.3, 0.4))]),
    (
        Probe(
            scenario="server",
            rate=10.5,
            seconds=2.0,
            queries=64,
            samples=8,
            bound=0.015,
            percent=99.0,
            seed=5,
            images=32,
            log=Path("/log"),
        ),
        [
            Probed(
                latencies=(0.1, 0.2),
                slips=(0.0, 1e-5),
                samples=2,
                batches=1,
                seconds=2.5,
                summary="all's well",
                counters={"stops": 1},
            )
        ],
    ),
    (ReadServed(images=(3, 1), count=1), [KeptOutputs(steps=(3,), batches=(0,), count=1, values=(((0.5, 1.5),),))]),
    (
        Profile(seconds=0.5, seed=3),
        [
            Profiled(
                operators=(
                    TimedOperator(name="aten::mm", kind="", layer="dense_1", backward=True, seconds=1e-3, note="slow"),
                ),
                plain=0.01,
                profiled=0.011,
            )
        ],
    ),
    (MeasureRoof(work=WORK), [RoofRates(kernels={"product": 1e11}, report=REPORT)]),
    (Finish(), [Finished(peak_rss={"infer": 5}, rss=4, framework_memory={}, report=REPORT)]),
    (
        ProbeGpu(work=WORK, gpu_uuid="GPU-0"),
        [GpuFacts(libraries=("x",), probe={"a": 1.0}, energy=ENERGY, framework_memory={}, report=REPORT)],
    ),
]


@pytest.mark.parametrize(("request_", "replies"), EXCHANGES, ids=[type(r).__name__ for r, _ in EXCHANGES])
def test_what_goes_in_comes_out(request_: Request[Any], replies: list[Any]) -> None:
    line = protocol.write_request(request_, spawned_at=1.5)
    assert line.count(b"\n") == 1
    assert protocol.read_request(line.decode()) == (protocol.command_of(request_), request_, 1.5)
    for reply in replies:
        plain = json.loads(protocol.write_reply(reply))["ok"]
        assert decode(type(request_).reply_type(), plain) == reply


def test_every_request_is_tried_here_and_served() -> None:
    assert {type(request) for request, _ in EXCHANGES} == set(protocol.REQUESTS.values())
    assert all(callable(getattr(Session, command)) for command in protocol.REQUESTS)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ({"first_call": "fast"}, 'first_call is "fast", not a number'),
        ({"first_call": True}, "first_call is true, not a number"),
        ({"first_call": None}, "first_call is null, not a number"),
        ({"more": 1}, "Prepared has no field 'more'"),
    ],
)
def test_another_shape_is_refused_with_its_field(spoil: dict[str, Any], problem: str) -> None:
    plain = encode(Prepared(first_call=0.1, cold_start=1.0))
    with pytest.raises(ProtocolError, match=problem):
        decode(Prepared, {**plain, **spoil})


def test_a_missing_field_and_a_nested_one_are_named() -> None:
    plain = encode(TRAINED)
    del plain["report"]["life"]
    with pytest.raises(ProtocolError, match=r"report\.life is missing"):
        decode(Trained, plain)
    plain = encode(TRAINED)
    plain["evaluations"][0]["epoch"] = []
    with pytest.raises(ProtocolError, match=r"evaluations\[0\]\.epoch is \[\], not a number"):
        decode(Trained, plain)
    with pytest.raises(ProtocolError, match=r"task is .*, not train or infer"):
        decode(TimedMetric, {**encode(METRIC), "task": "both"})
    with pytest.raises(ProtocolError, match="threads must be 1 or more"):
        decode(Job, {**encode(JOB), "threads": 0})


def test_the_id_of_a_row_is_its_own() -> None:
    assert JOB.row.id == "b<-s/cpu/fp32/m"
    assert replace(JOB, source=None, seed=3).row.id == "b/cpu/fp32/m"


EVALUATION = Evaluation(epoch=1.5, seconds=2.0, train_loss=None, split="test")


def test_signs_of_life_are_told_from_replies() -> None:
    assert protocol.read_alive(protocol.ALIVE) == protocol.Alive()
    assert protocol.read_alive(protocol.write_alive(EVALUATION)) == protocol.Alive(EVALUATION)
    for line in (b"", b'{"ok": {}}\n', b'{"error": {}}\n', b"garbage"):
        assert protocol.read_alive(line) is None


@pytest.mark.parametrize(
    "more",
    [b"", b'"evaluation": 3}', b'"evaluation": {"epoch": "x"}}', b'"other": 1}', b'"evaluation": ' + b"[" * 9999],
)
def test_a_sign_of_life_with_something_else_is_refused(more: bytes) -> None:
    with pytest.raises(ProtocolError):
        protocol.read_alive(protocol.ALIVE_WITH_MORE + more)

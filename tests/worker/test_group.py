"""What several processes that train together answer becomes one reply."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from backends.base import Spread
from bench.runner.judges.certificate import worst_of
from bench.runner.judges.result import Result
from bench.worker import clock, group
from bench.worker.certificate_outputs import CertificateOutputs, with_whole_losses
from bench.worker.protocol import Closed, Finished, KeptOutputs, TimedSlice, WorkerReport

REPORT = WorkerReport(versions={}, settings={}, phases={"timed": 1.0}, peak_rss=100, life=9.0)


def timed(seconds: float, faults: int, ready: float | None) -> TimedSlice:
    return TimedSlice(
        seconds=seconds, images=64, latencies=None, counters={"faults": faults}, elapsed=seconds, ready=ready
    )


def test_a_slice_lasts_as_long_as_its_slowest_process() -> None:
    merged = group.merged([timed(1.0, 3, 0.1), timed(1.5, 4, None)])
    assert (merged.seconds, merged.images, merged.counters, merged.ready) == (1.5, 64, {"faults": 7}, 0.1)


def test_losses_are_means_and_memory_is_a_sum() -> None:
    assert group.merged([Closed(losses=(1.0, 2.0)), Closed(losses=(3.0, 2.0))]).losses == (2.0, 2.0)
    kept = [KeptOutputs(steps=(4,), batches=(1,), count=2, values=(((value,),),)) for value in (1.0, 4.0)]
    assert group.merged(kept).values == (((2.5,),),)
    ends = [Finished(peak_rss={"train": n}, rss=n, framework_memory={"a": n}, report=REPORT) for n in (10, 20)]
    merged = group.merged(ends)
    assert (merged.peak_rss, merged.rss, merged.framework_memory) == ({"train": 30}, 30, {"a": 30})
    assert merged.report.peak_rss == 200


def test_the_parts_of_a_batch_are_equal_and_all_of_it() -> None:
    parts = [Spread(4, rank).part(16) for rank in range(4)]
    assert [list(range(16))[part] for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]


def outputs(loss: float, weight: float) -> CertificateOutputs:
    values = np.array([loss])
    return CertificateOutputs({}, np.zeros(1), {"w": np.array([weight])}, {}, values, {}, 2 * values)


def test_each_process_is_judged_with_losses_of_whole_batches() -> None:
    first, second = with_whole_losses([outputs(1.0, 5.0), outputs(3.0, 6.0)])
    assert (first.sgd_losses[0], second.sgd_losses[0], second.adam_losses[0]) == (2.0, 2.0, 4.0)
    assert (first.gradients["w"][0], second.gradients["w"][0]) == (5.0, 6.0)
    with pytest.raises(ValueError, match="shape"):
        with_whole_losses([outputs(1.0, 5.0), CertificateOutputs({}, np.zeros(1), {}, {}, np.ones(3), {}, np.ones(1))])


def test_the_worst_process_decides_a_check() -> None:
    good, bad = Result("gradients", 1e-7, 1e-6, "first"), Result("gradients", 1e-3, 1e-6, "second")
    (worst,) = worst_of([[good], [bad]])
    assert not worst.passed
    assert worst.note == "second; worst of 2 processes"
    assert worst_of([[good]]) == [good]
    nan = Result("gradients", float("nan"), 1e-6)
    assert not worst_of([[good], [nan]])[0].passed


def test_processes_agree_on_the_first_ones_number() -> None:
    replies = io.BytesIO()
    peers = group.Peers(io.StringIO('{"agree": 2.5}\n'), replies)
    assert peers.agree(7.0) == 2.5
    assert json.loads(replies.getvalue()) == {"agree": 7.0}
    assert group.Peers().agree(7.0) == 7.0


def test_warm_up_ends_by_the_agreed_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this process measures, it makes as many steps as the first."""
    now = [0.0]
    monkeypatch.setattr(clock, "now", lambda: now[0])

    def step(cost: float) -> None:
        now[0] += cost

    def warmed(cost: float) -> int:
        now[0], said = 0.0, iter([value for number in range(1, 1000) for value in (0.01, 0.01 * number)])
        return clock.warm_up(lambda: step(cost), lambda: None, agree=lambda _: next(said)).steps

    assert warmed(0.001) == warmed(5.0)


class FakeTorch:
    """What the adapter asks of PyTorch to meet other processes, noted."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.cuda = self
        self.distributed = self

    def set_device(self, device: object) -> None:
        self.asked.append(device)

    def init_process_group(self, kind: str) -> None:
        self.asked.append(kind)


@pytest.mark.parametrize(("device", "asked"), [("cpu", ["gloo"]), ("cuda", ["cuda:1", "nccl"])])
def test_processes_meet_by_what_their_device_needs(device: str, asked: list[str]) -> None:
    """The border to CUDA: the rank's own device is chosen before NCCL begins."""
    from types import SimpleNamespace

    from backends.pytorch import Adapter

    class Place(SimpleNamespace):
        def __str__(self) -> str:
            return f"{self.type}:1"

    adapter = object.__new__(Adapter)
    adapter._torch, adapter._device = FakeTorch(), Place(type=device)
    adapter._join()
    assert [str(each) for each in adapter._torch.asked] == asked


def test_torchrun_meets_on_loopback() -> None:
    from backends.pytorch import Adapter

    launch = Adapter.launch(4)
    assert "--nproc-per-node=4" in launch.arguments
    assert "--local-addr=127.0.0.1" in launch.arguments
    assert launch.environment["GLOO_SOCKET_IFNAME"] == "lo"

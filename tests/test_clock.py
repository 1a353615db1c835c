"""What is timed, with a fake clock and a fake device whose work is only done at a fence."""

from __future__ import annotations

import pytest

from bench import clock


class Device:
    """Queues steps at no cost; a fence does the queued work, ``step_seconds`` each, on the fake clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step_seconds: float) -> None:
        self.time, self.queued, self.steps, self.step_seconds = 0.0, 0, 0, step_seconds
        monkeypatch.setattr(clock, "now", lambda: self.time)

    def step(self) -> None:
        self.queued += 1
        self.steps += 1
        self.time += 1e-6

    def fence(self) -> None:
        self.time += self.queued * self.step_seconds
        self.queued = 0


def test_throughput_is_images_over_summed_time_with_queued_work_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, 0.01)
    timed = clock.throughput_slice(device.step, device.fence, 0.5, 0.01, 128)
    assert timed.images == 50 * 128
    assert timed.seconds == pytest.approx(0.5, rel=1e-3)
    assert timed.images / timed.seconds == pytest.approx(12_800, rel=1e-3)


def test_work_queued_before_the_slice_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, 0.01)
    device.queued = 1000
    assert clock.throughput_slice(device.step, device.fence, 0.1, 0.01, 1).seconds == pytest.approx(0.1, rel=1e-3)


def test_a_step_longer_than_the_slice_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, 3.0)
    timed = clock.throughput_slice(device.step, device.fence, 0.5, 3.0, 8)
    assert (timed.images, device.steps) == (8, 1)


def test_latency_of_each_call_up_to_its_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, 0.02)
    timed = clock.latency_slice(device.step, device.fence, 0.1, 1)
    assert timed.latencies == pytest.approx([0.020001] * 5)
    assert timed.seconds == pytest.approx(sum(timed.latencies))
    assert timed.images == 5


def test_latency_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, 1e-6)
    assert clock.latency_slice(device.step, device.fence, 60.0, 1).images == clock.MAX_LATENCIES


def test_one_slow_warm_up_step_does_not_shorten_the_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, 0.01)

    def step() -> None:
        device.step()
        device.step_seconds = 0.3 if device.time > 0.15 else 0.01

    assert clock.warm_up(step, device.fence)[1] == pytest.approx(0.01, rel=1e-3)


def test_warm_up_is_bounded_below_in_steps_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, fast = Device(monkeypatch, 1.0), None
    assert clock.warm_up(slow.step, slow.fence) == (clock.MIN_WARM_UP_STEPS, pytest.approx(1.0, rel=1e-3))
    fast = Device(monkeypatch, 0.01)
    steps, last = clock.warm_up(fast.step, fast.fence)
    assert steps == pytest.approx(clock.WARM_UP_SECONDS / 0.01, abs=1)
    assert last == pytest.approx(0.01, rel=1e-3)

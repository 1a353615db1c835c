"""What is timed, with a fake clock and a fake device whose work is only done at a fence."""

from __future__ import annotations

import pytest

from bench.worker import clock


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
    timed = clock.latency_slice(device.step, device.fence, 0.1, 0.09, 1)
    assert timed.latencies == pytest.approx([0.020001] * 5)
    assert timed.seconds == pytest.approx(sum(timed.latencies))
    assert timed.images == 5


def test_latency_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, 1e-6)
    assert clock.latency_slice(device.step, device.fence, 60.0, 1e-6, 1).images == clock.MAX_LATENCIES


@pytest.mark.parametrize(("step_seconds", "ramp"), [(0.01, 1), (0.05, 0)])
def test_a_slice_begins_with_a_step_outside_the_clock_unless_that_costs_much(
    monkeypatch: pytest.MonkeyPatch, step_seconds: float, ramp: int
) -> None:
    device = Device(monkeypatch, step_seconds)
    timed = clock.throughput_slice(device.step, device.fence, 0.1, step_seconds, 1)
    assert device.steps == timed.images + ramp
    assert timed.seconds == pytest.approx(0.1, rel=1e-3)


def test_one_slow_warm_up_step_does_not_shorten_the_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, 0.01)

    def step() -> None:
        device.step()
        device.step_seconds = 0.3 if device.steps == 15 else 0.01

    assert clock.warm_up(step, device.fence).step_seconds == pytest.approx(0.01, rel=1e-3)


def test_warm_up_is_bounded_below_in_steps_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Device(monkeypatch, 1.0)
    assert clock.warm_up(slow.step, slow.fence) == clock.WarmedUp(
        steps=3, steady=None, step_seconds=pytest.approx(1.0, rel=1e-3), cut=1
    )
    fast = Device(monkeypatch, 0.01)
    warm = clock.warm_up(fast.step, fast.fence)
    assert warm.steps == pytest.approx(clock.MIN_WARM_UP_SECONDS / 0.01, abs=1)
    assert (warm.steady, warm.step_seconds) == (True, pytest.approx(0.01, rel=1e-3))


def test_warm_up_lasts_until_the_steps_are_steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that begin 20 times slower and settle with a time constant of 12 steps."""
    device = Device(monkeypatch, 0.2)

    def step() -> None:
        device.step_seconds = 0.002 * (1 + 19 * 0.92**device.steps)
        device.step()

    warm = clock.warm_up(step, device.fence)
    assert warm.steady
    assert 40 < warm.steps < 600
    assert warm.step_seconds == pytest.approx(0.002, rel=0.2)


def test_steps_that_never_get_steady_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, 0.01)

    def step() -> None:
        device.step_seconds *= 1.02
        device.step()

    warm = clock.warm_up(step, device.fence)
    assert warm.steady is False
    assert device.time == pytest.approx(clock.MAX_WARM_UP_SECONDS, rel=0.1)


def test_a_known_warm_up_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, 0.001)
    warm = clock.warm_up_again(device.step, device.fence, lambda: None, cut=7)
    assert (warm.cut, warm.steady) == (7, True)
    assert warm.steps == pytest.approx(clock.AGAIN_SECONDS / 0.001, abs=2)
    slow = Device(monkeypatch, 0.5)
    assert clock.warm_up_again(slow.step, slow.fence, lambda: None, cut=2).steps == 2 + clock.MIN_WARM_UP_STEPS


def test_a_boundary_that_is_compiled_is_warmed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, 0.001)
    compiled = []

    def step() -> None:
        if not compiled:
            device.time += 2.0
            compiled.append(True)
        device.step()

    warm = clock.warm_up_again(step, device.fence, lambda: None, cut=0)
    assert warm.steps >= clock.MIN_WARM_UP_SECONDS / 0.001 - 2

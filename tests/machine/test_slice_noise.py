"""What is read around a slice, and which readings mark it: on a /proc written by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.machine import slice_noise
from bench.machine.slice_noise import Noise, Watch, reasons

SLICE = 0.1


def write(root: Path, busy: int, steal: int, ran_ns: int, waited_ns: int, pressure_us: int, mhz: int = 3000) -> None:
    """CPU 0 as given, CPU 1 always busy with something else; one thread of process 7."""
    task = root / "proc" / "7" / "task" / "7"
    task.mkdir(parents=True, exist_ok=True)
    (root / "proc" / "stat").write_text(
        f"cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 {busy} 0 0 500 0 0 0 {steal} 0 0\ncpu1 {9 * busy} 0 0 5 0 0 0 0 0 0\nintr 1\n"
    )
    (task / "schedstat").write_text(f"{ran_ns} {waited_ns} 5\n")
    (root / "proc" / "pressure").mkdir(exist_ok=True)
    (root / "proc" / "pressure" / "cpu").write_text(
        f"some avg10=0.00 avg60=0.00 avg300=0.00 total={pressure_us}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    )
    frequency = root / "sys" / "devices" / "system" / "cpu" / "cpu0" / "cpufreq"
    frequency.mkdir(parents=True, exist_ok=True)
    (frequency / "scaling_cur_freq").write_text(f"{1000 * mhz}\n")


def test_counters_of_the_rows_cores_only(tmp_path: Path) -> None:
    write(tmp_path, 100, 3, 10**9, 0, 500_000)
    watch = Watch(7, (0,), root=tmp_path)
    before = watch.read()
    write(tmp_path, 110, 5, 10**9 + 60_000_000, 20_000_000, 550_000, mhz=2500)
    own = {"switches": 4, "minor_faults": 9, "major_faults": 0}
    found = watch.since(before, True, own)
    assert found.others == pytest.approx(0.10 - 0.06)
    assert found.steal == pytest.approx(0.02)
    assert (found.ran, found.waited) == (pytest.approx(0.06), pytest.approx(0.02))
    assert found.pressure == pytest.approx(0.05)
    assert found.frequency == 2500
    assert (found.switches, found.minor_faults, found.asleep) == (4, 9, True)
    assert found.gpu_clock is None


def test_threads_that_come_and_go(tmp_path: Path) -> None:
    write(tmp_path, 0, 0, 10**9, 0, 0)
    watch = Watch(7, (0,), root=tmp_path)
    before = watch.read()
    (tmp_path / "proc/7/task/8").mkdir()
    (tmp_path / "proc/7/task/8/schedstat").write_text("30000000 0 1\n")
    (tmp_path / "proc/7/task/9").mkdir()  # it ends before it can be read
    assert watch.since(before, True, {}).ran == pytest.approx(0.03)


def test_a_suspended_machine_is_seen_by_its_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop that was shut: no counter moves meanwhile, and neither does the clock that times."""
    watch = Watch(7, (0,), root=tmp_path)
    assert watch.since(watch.read(), True, {}).slept is None
    before, real = watch.read(), slice_noise.suspended
    monkeypatch.setattr(slice_noise, "suspended", lambda: real() + 12)
    found = watch.since(before, True, {"switches": 0})
    assert found.slept == pytest.approx(12, abs=0.05)
    assert reasons(found, SLICE, 1) == ["the machine was suspended for 12 s"]


def test_where_the_sources_are_missing_nothing_is_claimed(tmp_path: Path) -> None:
    watch = Watch(7, (0,), root=tmp_path)
    found = watch.since(watch.read(), None, {})
    assert found == Noise()
    assert found.to_dict() == {}
    assert reasons(found, SLICE, 1) is None


QUIET = Noise(
    steal=0.0,
    others=0.01,
    waited=0.0,
    ran=0.09,
    pressure=0.0,
    asleep=True,
    switches=1,
    minor_faults=100,
    major_faults=0,
)


def test_a_quiet_slice_has_no_reason() -> None:
    assert reasons(QUIET, SLICE, 1) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"steal": 0.03}, "the hypervisor took 30% of its cores (steal)"),
        ({"others": 0.05}, "other processes used 50% of its cores"),
        ({"waited": 0.05, "ran": 0.05, "others": 0.015}, "its threads waited 50% of their time for a core"),
        ({"major_faults": 3}, "3 page faults read from disk"),
        ({"stops": 1}, "it was stopped from outside (SIGSTOP)"),
        ({"ran": 0.06, "waited": 0.01}, "it neither ran nor waited for a core 30% of the time"),
        ({"frequency": 2000.0}, "CPU clock at 2000 MHz, 3000 before"),
        ({"gpu_clock": 1000.0}, "GPU clock at 1000 MHz, 1500 before"),
        ({"throttled": ["power cap"]}, "GPU clocks limited: power cap"),
        ({"asleep": False}, "threads of the previous worker were still running"),
        ({"others": None, "pressure": 0.06}, "tasks waited for a CPU 60% of the time (PSI)"),
        ({"others": None, "switches": 50}, "500 involuntary context switches per second and core"),
    ],
)
def test_every_limit(changes: dict[str, object], text: str) -> None:
    found = reasons(replace(QUIET, **changes), SLICE, 1, Noise(frequency=3000.0, gpu_clock=1500.0))
    assert found == [text]


def test_under_a_quota_threads_wait_and_rest() -> None:
    """Its pauses are what was asked for, no disturbance."""
    paused = replace(QUIET, ran=0.05, waited=0.05, others=0.015)
    assert reasons(paused, SLICE, 1) == ["its threads waited 50% of their time for a core"]
    assert reasons(replace(paused, held_back=0.05), SLICE, 1) == []
    assert reasons(replace(QUIET, ran=0.05, held_back=0.05), SLICE, 1) == []


def test_idle_time_is_of_the_parents_clock_and_not_of_the_workers() -> None:
    """A backend that reports four times the true time ran all the same; one that was frozen says nothing of it."""
    assert reasons(replace(QUIET, wall=0.1), 4 * SLICE, 1) == []
    frozen = reasons(replace(QUIET, wall=0.3), SLICE, 1)
    assert frozen == ["it neither ran nor waited for a core 70% of the time"]
    assert reasons(replace(QUIET, ran=0.001, wall=0.02), 4 * SLICE, 1) == [], "the request and the answer"


def test_the_parents_clock_is_read_with_the_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5.0, 5.25])
    monkeypatch.setattr(slice_noise.time, "perf_counter", lambda: next(times))
    write(tmp_path, 0, 0, 10**9, 0, 0)
    watch = Watch(7, (0,), root=tmp_path)
    assert watch.since(watch.read(), True, {}).wall == 0.25


def test_every_limit_is_tried_above() -> None:
    assert set(slice_noise.LIMITS) == {
        "steal", "others", "waited", "pressure", "switches", "major_faults", "slower_clock"
    }  # fmt: skip


def test_own_threads_that_wait_for_one_another_are_no_disturbance() -> None:
    """Keras' pools on two cores: a quarter of the time waited, and nobody else there."""
    assert reasons(replace(QUIET, waited=0.05, ran=0.15, others=0.005, switches=200), SLICE, 2) == []


@pytest.mark.parametrize(("others", "cpus"), [(0.019, 1), (0.039, 2)])
def test_what_ticks_cannot_resolve_is_not_marked(others: float, cpus: int) -> None:
    assert reasons(replace(QUIET, others=others), 0.05, cpus) == []

"""``bench doctor`` on machines written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_command import Bench

from bench.machine import doctor
from bench.machine.doctor import MachineCheck, System

CPU = "sys/devices/system/cpu"


class Machine:
    """Files below a root, and a second in which counters move."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.during: dict[str, str] = {}

    def put(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def examined(self) -> dict[str, MachineCheck]:
        def second(_: float) -> None:
            for path, text in self.during.items():
                self.put(path, text)

        return {check.name: check for check in doctor.examine(System(self.root, second))}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(doctor.host, "available_cpus", lambda: [0, 1])
    for name in (*doctor.allocators.ARENA_SETTINGS, "GLIBC_TUNABLES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    return Machine(tmp_path)


def test_what_a_system_does_not_show_is_not_visible_here(machine: Machine) -> None:
    found = machine.examined()
    for what in ("other load", "steal", "governor", "turbo", "SMT", "swap"):
        assert (found[what].passed, found[what].observed) == (None, "not visible here"), what


def test_a_machine_that_is_fit(machine: Machine) -> None:
    machine.put("proc/stat", "cpu  100 0 100 1000 0 0 0 0 0 0\n")
    machine.during = {"proc/stat": "cpu  101 0 101 1198 0 0 0 0 0 0\n"}
    for cpu in (0, 1):
        machine.put(f"{CPU}/cpu{cpu}/cpufreq/scaling_governor", "performance\n")
    machine.put(f"{CPU}/intel_pstate/no_turbo", "1\n")
    machine.put(f"{CPU}/smt/active", "0\n")
    machine.put("proc/meminfo", "MemTotal: 1 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n")
    found = machine.examined()
    for what in ("other load", "steal", "container CPU quota", "governor", "turbo", "SMT", "swap", "allocator"):
        assert found[what].passed is True, found[what]


def test_a_machine_that_spoils_everything(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.put("proc/stat", "cpu  100 0 100 1000 0 0 0 0 0 0\n")
    machine.during = {"proc/stat": "cpu  180 0 120 1080 0 0 0 20 0 0\n"}
    machine.put("sys/fs/cgroup/cpu.max", "150000 100000\n")
    machine.put(f"{CPU}/cpu0/cpufreq/scaling_governor", "powersave\n")
    machine.put(f"{CPU}/cpu1/cpufreq/scaling_governor", "performance\n")
    machine.put(f"{CPU}/cpufreq/boost", "1\n")
    machine.put(f"{CPU}/smt/active", "1\n")
    machine.put("proc/meminfo", "SwapTotal: 2000000 kB\nSwapFree: 500000 kB\n")
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libfoo.so")
    found = machine.examined()
    seen = {
        "other load": "others use 50% of the CPUs",
        "steal": "the hypervisor took 10.0% of the CPUs",
        "container CPU quota": "1.5 of 2 CPUs; throttled when used up",
        "governor": "performance, powersave",
        "turbo": "on: speed depends on heat and on other cores",
        "SMT": "on: siblings share a core",
        "swap": "1.5 of 2.0 GB in use",
        "allocator": "LD_PRELOAD set here",
    }
    for what, text in seen.items():
        assert (found[what].passed, found[what].observed) == (False, text)
        assert found[what].advice, "each with what to do"


def test_gpus(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = doctor.nvml
    monkeypatch.setattr(nvml, "gpus", lambda: ([nvml.Gpu(0, "GPU-0", "H100", 80)], ""))
    monkeypatch.setattr(nvml, "pids", lambda uuid: frozenset({11, 12}))
    monkeypatch.setattr(nvml, "clocks_held", lambda uuid: False)
    monkeypatch.setattr(nvml, "throttled", lambda uuid: ["power cap"])
    found = machine.examined()
    assert [found[f"GPU 0 {what}"].passed for what in ("processes", "clocks", "throttling")] == [False] * 3
    assert "--lock-gpu-clocks" in found["GPU 0 clocks"].advice
    monkeypatch.setattr(nvml, "clocks_held", lambda uuid: None)
    monkeypatch.setattr(nvml, "throttled", lambda uuid: None)
    assert machine.examined()["GPU 0 clocks"].observed == "not visible here"


def test_the_command(bench: Bench) -> None:
    done = bench("doctor")
    assert done.returncode == 0, done.stderr
    for what in ("other load", "steal", "governor", "swap", "allocator", "GPU"):
        assert what in done.stdout

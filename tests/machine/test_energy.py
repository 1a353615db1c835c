"""Energy counters, on a tree like the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.machine import energy
from bench.machine.slice_noise import Watch


def write(root: Path, zone: str, name: str, microjoules: int, limit: int = 10**9) -> None:
    folder = root / "sys/class/powercap" / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit}\n")


def test_packages_and_their_memory_are_added(tmp_path: Path) -> None:
    parts = (
        ("intel-rapl:0", "package-0"),
        ("intel-rapl:0:0", "core"),
        ("intel-rapl:0:1", "dram"),
        ("intel-rapl:1", "psys"),
    )
    for zone, name in parts:
        write(tmp_path, zone, name, 1_000_000)
    before = energy.read(tmp_path)
    assert set(before) == {"intel-rapl:0", "intel-rapl:0:1"}
    for (zone, name), used in zip(parts, (5_000_000, 3_000_000, 500_000, 9_000_000), strict=True):
        write(tmp_path, zone, name, 1_000_000 + used)
    assert energy.joules(before, energy.read(tmp_path)) == pytest.approx(5.5)


def test_a_counter_that_begins_again_counts_on(tmp_path: Path) -> None:
    write(tmp_path, "intel-rapl:0", "package-0", 999_000_000)
    before = energy.read(tmp_path)
    write(tmp_path, "intel-rapl:0", "package-0", 2_000_000)
    assert energy.joules(before, energy.read(tmp_path)) == pytest.approx(3.0)


def test_what_is_not_visible_is_not_zero(tmp_path: Path) -> None:
    assert energy.read(tmp_path) == {}
    assert energy.joules({}, {}) is None
    assert "a virtual machine has none" in energy.why_invisible(tmp_path)
    write(tmp_path, "intel-rapl:0", "package-0", 1)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    assert energy.read(tmp_path) == {}
    assert "only root may read" in energy.why_invisible(tmp_path)


def test_a_slice_is_read_with_its_energy(tmp_path: Path) -> None:
    write(tmp_path, "intel-rapl:0", "package-0", 4_000_000)
    watch = Watch(7, (0,), root=tmp_path)
    before = watch.read()
    write(tmp_path, "intel-rapl:0", "package-0", 6_500_000)
    noise = watch.since(before, None, {})
    assert noise.joules == pytest.approx(2.5)
    assert noise.joules_wall is not None

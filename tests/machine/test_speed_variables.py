"""Environment variables that decide speed: which are named, recorded, overridden."""

from __future__ import annotations

import pytest

from bench.machine import doctor, speed_variables

EFFECTIVE = {
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "ATEN_CPU_CAPABILITY": "default",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Prescott",
    "MALLOC_ARENA_MAX": "1",
    "GOMP_SPINCOUNT": "0",
    "KMP_BLOCKTIME": "0",
    "ORT_DISABLE_ALL_TELEMETRY": "1",
    "CUDA_LAUNCH_BLOCKING": "1",
    "TORCHINDUCTOR_MAX_AUTOTUNE": "1",
    "LD_PRELOAD": "/usr/lib/libx.so",
    "PYTHONHASHSEED": "0",
}

OVERRIDDEN = {"OMP_NUM_THREADS": "1", "OMP_PROC_BIND": "true", "GOMP_CPU_AFFINITY": "0", "NVIDIA_TF32_OVERRIDE": "1"}


@pytest.fixture(autouse=True)
def plain_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever priority the tests run with."""
    monkeypatch.setattr(speed_variables.os, "nice", lambda more: 0, raising=False)


@pytest.mark.parametrize("name", EFFECTIVE)
def test_what_decides_speed_is_named_and_in_the_key(name: str) -> None:
    alone = {name: EFFECTIVE[name]}
    check = doctor.variables(alone)
    assert (check.passed, check.observed) == (False, name)
    assert speed_variables.in_effect(alone).startswith(f"{name}=")


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_what_is_overridden_is_named_and_changes_nothing(name: str) -> None:
    alone = {name: OVERRIDDEN[name]}
    check = doctor.variables(alone)
    assert (check.passed, check.observed) == (True, f"{name} (bench overrides it for workers)")
    assert speed_variables.in_effect(alone) == ""


def test_values_that_may_be_secret_are_not_recorded() -> None:
    text = speed_variables.in_effect({"TORCH_HUB_TOKEN": "hunter2", "TF_ENABLE_ONEDNN_OPTS": "0"})
    assert "hunter2" not in text
    assert "TORCH_HUB_TOKEN=#" in text
    assert "TF_ENABLE_ONEDNN_OPTS=0" in text


def test_nothing_set_is_nothing_recorded() -> None:
    assert speed_variables.in_effect({"HOME": "/root", "CUDA_VERSION": "13", "PATH": "/bin"}) == ""


def test_the_parent_is_not_bound_by_its_own_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("OMP_PROC_BIND", "true")
    monkeypatch.setenv("KMP_AFFINITY", "compact")
    speed_variables.unbind()
    assert "OMP_PROC_BIND" not in os.environ
    assert "KMP_AFFINITY" not in os.environ

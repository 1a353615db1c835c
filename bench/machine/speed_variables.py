"""Environment variables that decide the speed of a framework: recorded, a part of the comparability key, or removed.

The variables of ``REMOVED`` are overridden by the harness, so they change nothing. Values are recorded of ``KNOWN``
names only: another variable of ``FAMILIES`` may hold a secret, so a hash stands for its value.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

FAMILIES = (
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "VECLIB_", "ONEDNN_", "DNNL_", "ATEN_", "TORCH",
    "PYTORCH_", "XLA_", "TF_", "KERAS_", "ORT_", "CUDA_", "CUDNN_", "CUBLAS_", "NCCL_", "NVIDIA_", "MALLOC_", "GLIBC_",
    "JAX_", "PJRT_", "OV_", "OPENVINO_",
)  # fmt: skip
OF_PYTHON = (
    "PYTHONHASHSEED", "PYTHONOPTIMIZE", "PYTHONMALLOC", "PYTHONDEVMODE", "PYTHONTRACEMALLOC", "PYTHONPERFSUPPORT",
    "PYTHON_JIT", "PYTHON_GIL", "PYTHON_CPU_COUNT",
)  # fmt: skip
SIMULATED_TIME = "EVENBENCH_SIMULATED_TIME"
"""Set by tests of backends whose cost is simulated: workers' clocks are then not held against the parent's. It is shown
and is part of the comparability key, as every variable that decides a figure."""
SINGLE = ("LD_PRELOAD", "PYTHONDONTWRITEBYTECODE", "NPROC", SIMULATED_TIME, *OF_PYTHON)
KNOWN = frozenset(
    [
        "ONEDNN_MAX_CPU_ISA",
        "ONEDNN_CPU_ISA_HINTS",
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
        "ONEDNN_DEFAULT_FPMATH_MODE",
        "ONEDNN_VERBOSE",
        "DNNL_MAX_CPU_ISA",
        "DNNL_DEFAULT_FPMATH_MODE",
        "ATEN_CPU_CAPABILITY",
        "TF_ENABLE_ONEDNN_OPTS",
        "TF_XLA_FLAGS",
        "TF_NUM_INTEROP_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_DETERMINISTIC_OPS",
        "TF_GPU_ALLOCATOR",
        "TF_FORCE_GPU_ALLOW_GROWTH",
        "XLA_FLAGS",
        "XLA_PYTHON_CLIENT_PREALLOCATE",
        "OMP_WAIT_POLICY",
        "OMP_SCHEDULE",
        "OMP_STACKSIZE",
        "GOMP_SPINCOUNT",
        "KMP_BLOCKTIME",
        "KMP_SETTINGS",
        "KMP_LIBRARY",
        "MKL_DYNAMIC",
        "MKL_CBWR",
        "MKL_ENABLE_INSTRUCTIONS",
        "MKL_DEBUG_CPU_TYPE",
        "MKL_THREADING_LAYER",
        "OPENBLAS_CORETYPE",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
        "TORCH_CUDNN_V8_API_ENABLED",
        "TORCHINDUCTOR_MAX_AUTOTUNE",
        "PYTORCH_CUDA_ALLOC_CONF",
        "PYTORCH_ALLOC_CONF",
        "CUDA_LAUNCH_BLOCKING",
        "CUDA_MODULE_LOADING",
        "CUDNN_LOGINFO_DBG",
        "CUBLAS_WORKSPACE_CONFIG",
        "MALLOC_ARENA_MAX",
        "MALLOC_CONF",
        "MALLOC_PERTURB_",
        "GLIBC_TUNABLES",
        "LD_PRELOAD",
        SIMULATED_TIME,
        *OF_PYTHON,
    ]
)
REMOVED = frozenset(
    [
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "OMP_PROC_BIND",
        "OMP_PLACES",
        "OMP_THREAD_LIMIT",
        "OMP_DYNAMIC",
        "GOMP_CPU_AFFINITY",
        "KMP_AFFINITY",
        "KMP_HW_SUBSET",
        "KMP_PLACE_THREADS",
        "NVIDIA_TF32_OVERRIDE",
        "TF_CUDNN_USE_AUTOTUNE",
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_TRIM_THRESHOLD_",
        "MALLOC_TOP_PAD_",
        "KERAS_BACKEND",
        "KERAS_HOME",
        "KERAS_MAX_EPOCHS",
        "KERAS_MAX_STEPS_PER_EPOCH",
        "PYTHONDONTWRITEBYTECODE",
    ]
)
"""Set or removed for every worker, whatever the user's shell has. Without bytecode, every start would compile all
modules: longer cold starts, more memory."""
BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "KMP_HW_SUBSET", "KMP_PLACE_THREADS")
"""Variables by which an OpenMP library binds the threads of its process to CPUs, so that its children are bound too."""
HARMLESS = frozenset(
    [
        "CUDA_HOME",
        "CUDA_PATH",
        "CUDA_VERSION",
        "CUDA_CACHE_PATH",
        "NVIDIA_VISIBLE_DEVICES",
        "NVIDIA_DRIVER_CAPABILITIES",
        "NVIDIA_PRODUCT_NAME",
        "NVIDIA_CUDA_END_OF_LIFE",
        "NVIDIA_REQUIRE_CUDA",
        "TF_CPP_MIN_LOG_LEVEL",
        "TORCH_HOME",
        "TORCH_LOGS",
    ]
)
GIVEN = dict(os.environ)
"""The environment with which this process started, or began to measure."""


def unbind() -> None:
    """Remove ``BINDING`` from this process before it loads an OpenMP library, which would bind its workers as well."""
    for name in BINDING:
        os.environ.pop(name, None)


@contextmanager
def unbound() -> Iterator[None]:
    """Within this context, ``BINDING`` is not set in this process, and ``GIVEN`` is the environment as it is now: for a
    program of the user's, which may have changed it since it started."""
    before = dict(os.environ)
    GIVEN.clear()
    GIVEN.update(before)
    unbind()
    try:
        yield
    finally:
        os.environ.update({name: before[name] for name in BINDING if name in before})


def found(environ: Mapping[str, str] | None = None) -> list[str]:
    """Names of all speed variables that are set, those that have no effect included."""
    environ = GIVEN if environ is None else environ
    return sorted(n for n in environ if n not in HARMLESS and (n.startswith(FAMILIES) or n in SINGLE) and environ[n])


def in_effect(environ: Mapping[str, str] | None = None) -> str:
    """``NAME=VALUE`` of the variables that workers inherit, and ``nice=N``; empty if nothing is set."""
    environ = GIVEN if environ is None else environ
    parts = [f"{name}={_shown(name, environ[name])}" for name in found(environ) if name not in REMOVED]
    niceness = os.nice(0) if hasattr(os, "nice") else 0
    return "; ".join([*parts, *([f"nice={niceness}"] if niceness else [])])


def _shown(name: str, value: str) -> str:
    if name in KNOWN:
        return "".join(c if c.isprintable() else "?" for c in value)[:200]
    return "#" + hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()[:8]

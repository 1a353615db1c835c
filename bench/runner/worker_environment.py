"""The environment variables and packages of a worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.machine import allocators, nvml, speed_variables
from bench.runner.plan import Row

TEMPORARY = "temporary"
"""The folder in the scratch folder for what frameworks write to the machine's folder of temporary files. A worker ends
without their handlers at exit, so they would leave it there."""


def worker_environment(row: Row, scratch: Path) -> dict[str, str | None]:
    """The environment variables that a worker adds or removes (None).

    Threads of BLAS and OpenMP, CPUs, allocator, folder of temporary files, and at most one visible GPU (of rows that
    scale: one for each process). Variables that override the adapters' settings (TF32, autotuning, binding of threads)
    and folders of other CUDA libraries are removed. For another interpreter, a side with its own folders, or a user's
    ``PYTHONPATH`` (which may hold a ``bench.py``), ``PYTHONPATH`` holds our two packages, those folders, and the given
    ``PYTHONPATH``.
    """
    job, gpu_uuid = row.job, row.gpu_uuid
    counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    environment: dict[str, str | None] = dict.fromkeys(sorted(speed_variables.REMOVED))
    environment |= dict.fromkeys(counts, str(job.threads))
    environment |= allocators.environment(job.allocator)
    temporary = scratch / TEMPORARY
    temporary.mkdir(exist_ok=True)
    environment["TMPDIR"] = str(temporary)
    environment["EVENBENCH_CPUS"] = None if job.cpus is None else ",".join(map(str, job.cpus))
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    environment["CUDA_VISIBLE_DEVICES"] = ",".join(_visible(gpu_uuid, job.processes or 1)) or "-1"
    if gpu_uuid:
        environment["LD_LIBRARY_PATH"] = _without_cuda_libraries(os.environ.get("LD_LIBRARY_PATH", ""))
    folders = () if row.side is None else row.side.path
    given = os.environ.get("PYTHONPATH", "")
    elsewhere = not _same_interpreter(row.python)
    if folders or given or elsewhere:
        ours = str(_our_packages(scratch, folders, elsewhere))
        environment["PYTHONPATH"] = os.pathsep.join(part for part in (ours, *folders, given) if part)
    return environment | dict(() if row.side is None else row.side.variables)


def _visible(first: str | None, count: int) -> list[str]:
    """The GPUs of a worker: that of its row, and others for the processes or devices that train with it."""
    if first is None:
        return []
    others = [gpu.uuid for gpu in nvml.gpus()[0] if gpu.uuid != first] if count > 1 else []
    return [first, *others[: count - 1]]


def _without_cuda_libraries(path: str) -> str | None:
    """``LD_LIBRARY_PATH`` without folders of cuDNN or cuBLAS; folders of the driver stay. The variable overrides
    TensorFlow's RUNPATH, so TensorFlow would load the libraries of another CUDA version."""
    folders = [folder for folder in path.split(os.pathsep) if folder]
    kept = [f for f in folders if not any(any(Path(f).glob(f"{name}*")) for name in ("libcudnn", "libcublas"))]
    return os.pathsep.join(kept) or None


def _same_interpreter(python: str) -> bool:
    return os.path.abspath(python) == os.path.abspath(sys.executable)  # a venv's python is a link: not resolved


def _our_packages(scratch: Path, folders: Sequence[str] = (), elsewhere: bool = False) -> Path:
    """A folder with links to ``bench`` and ``backends`` only (copies if links fail). If a side's folder has its own
    ``backends`` (another revision of this repository), these are used; ``bench`` is always ours. ``elsewhere``: for
    another interpreter, with third-party adapters of this one."""
    import backends
    import bench

    own_backends = any((Path(folder) / "backends" / "base.py").is_file() for folder in folders)
    folder = scratch / f"packages-{int(own_backends)}{int(bool(folders))}{int(elsewhere)}"
    if not folder.exists():
        folder.mkdir()
        for package in (bench,) if own_backends else (bench, backends):
            _link(Path(str(package.__file__)).parent, folder)
        if elsewhere and not folders:  # a side with its own folders has its adapters there
            _link_adapters(folder)
    return folder


def _link_adapters(folder: Path) -> None:
    """Link the modules of this environment's third-party adapters into the folder, and write their entry points."""
    from importlib.metadata import entry_points
    from importlib.util import find_spec

    import backends

    points = entry_points(group=backends.ENTRY_POINT_GROUP)
    for name in dict.fromkeys(point.module.partition(".")[0] for point in points):
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            origin = Path(spec.origin)
            _link(origin.parent if spec.submodule_search_locations else origin, folder)
    info = folder / "evenbench_adapters-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evenbench-adapters\nVersion: 1.0\n")
    lines = "".join(f"{point.name} = {point.value}\n" for point in points)
    (info / "entry_points.txt").write_text(f"[{backends.ENTRY_POINT_GROUP}]\n{lines}")


def _link(source: Path, folder: Path) -> None:
    import shutil

    try:
        (folder / source.name).symlink_to(source, target_is_directory=source.is_dir())
    except OSError:
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / source.name)

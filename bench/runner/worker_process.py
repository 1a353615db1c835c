"""A worker process as its parent sees it: spawn, ask with a deadline, kill. Blocks, never polls."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from bench.machine import allocators
from bench.runner.plan import Row

LONGEST_LINE = 64 * 2**20
ALIVE = b'{"alive": true}\n'
"""What a worker says while a training goes on; its deadline begins anew."""
LOG_KEPT = 4000
"""Characters of a failed worker's standard error that its record keeps."""
TOLD = ("unsupported", "unavailable", "out-of-memory", "failed")
"""Statuses that a worker may give itself; the parent finds the others."""


class WorkerError(Exception):
    """The worker could not do it; ``status`` is a record's status."""

    def __init__(self, status: str, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.log = log
        """The end of the worker's standard error."""


class Child:
    """One worker in a process group of its own.

    ``environment`` is added to this process' (None removes a variable). ``log`` receives its standard error.
    """

    def __init__(self, python: str, environment: dict[str, str | None], log: Path) -> None:
        self._log = log
        self._oom_kills = _oom_kills()
        variables = {**os.environ, **environment, "EVENBENCH_PARENT": str(os.getpid())}
        self.spawned_at = time.monotonic()
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [python, "-P", "-m", "bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={name: value for name, value in variables.items() if value is not None},
                start_new_session=True,
            )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(self._process.stdout, self._lines), daemon=True).start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Of the worker."""
        return self._process.pid

    def ask(self, command: str, timeout: float, **content: Any) -> dict[str, Any]:
        """Send a request and block until its reply; at most ``timeout`` seconds without a sign of life.

        Raises:
            WorkerError: an error reply, a deadline passed (the group is killed), garbage, or a crash.
        """
        request = json.dumps({"command": command, "spawned_at": self.spawned_at, **content})
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._crashed(command) from None
        line = ALIVE
        while line == ALIVE:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                self.kill()
                raise self._error("timeout", f"no answer to {command} within {timeout:g} s (--timeout)") from None
        if not line:
            raise self._crashed(command)
        return self._parse(line, command)

    def wait_asleep(self, timeout: float) -> bool | None:
        """Block until no thread of the worker is running (proc(5), state R), at most ``timeout`` seconds; False if one
        still was, None where the system does not tell. Thread pools spin for a while after their last work."""
        deadline = time.monotonic() + timeout
        while True:
            running = _running(self.pid)
            if not running:
                return None if running is None else True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0005)

    def kill(self) -> None:
        """End the whole process group and reap the worker; harmless when it has ended."""
        if os.name == "posix":
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()  # no group left; this is a no-op on a process that was reaped
        else:
            _kill_tree(self._process.pid)
        self._process.wait()
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            return  # what was still buffered has no reader any more

    def _parse(self, line: bytes, command: str) -> dict[str, Any]:
        try:
            reply = json.loads(line)
            if "error" in reply:
                status, reason = reply["error"]["status"], reply["error"]["reason"]
                if status not in TOLD or not isinstance(reason, str):
                    raise ValueError(status)
                raise self._error(status, reason)
            answer = reply["ok"]
            if not isinstance(answer, dict):
                raise TypeError(answer)
        except (ValueError, KeyError, TypeError):
            self.kill()
            shown = line[:60].decode("utf-8", "backslashreplace").strip()
            raise self._error("failed", f"the worker's answer to {command} is garbage: {shown!r}") from None
        return answer

    def _crashed(self, command: str) -> WorkerError:
        """End of file before the answer: say how the worker ended."""
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._error("crashed", f"the worker closed its pipe during {command}")
        self.kill()
        if _signal(code) == "SIGKILL" and _oom_kills() > self._oom_kills:
            return self._error("out-of-memory", f"the kernel killed the worker during {command}: out of memory")
        how = f"exit code {code}" if code >= 0 else f"signal {_signal(code)}"
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        last_words = f": {lines[-1][:200]}" if lines else ""
        return self._error("crashed", f"the worker ended with {how} during {command}{last_words}")

    def _error(self, status: str, reason: str) -> WorkerError:
        return WorkerError(status, reason, self._log.read_text(errors="replace")[-LOG_KEPT:])


def _pump(pipe: BinaryIO, lines: queue.SimpleQueue[bytes]) -> None:
    """Lines of the pipe to the queue; b'' at its end. A thread of its own, asleep but for arriving lines."""
    while line := pipe.readline(LONGEST_LINE):
        lines.put(line)
    pipe.close()
    lines.put(b"")


def _running(pid: int) -> int | None:
    """Threads of a process that run or are ready to; None where /proc does not tell."""
    count = 0
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return None
    for task in tasks:
        try:
            count += (task / "stat").read_text().rpartition(")")[2].split()[0] == "R"
        except OSError:
            continue  # the thread ended between the listing and the reading
    return count


def _signal(code: int) -> str:
    """Name of the signal behind a negative exit code (its number where it has none, '' for a positive code)."""
    try:
        return signal.Signals(-code).name if code < 0 else ""
    except ValueError:
        return str(-code)


def _kill_tree(pid: int) -> None:
    import psutil

    try:
        parent = psutil.Process(pid)
        for process in [*parent.children(recursive=True), parent]:
            process.kill()
    except psutil.NoSuchProcess:
        return  # it has ended by itself


def _oom_kills() -> int:
    """How often the kernel's out-of-memory killer has struck, where that can be seen."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def worker_environment(row: Row, scratch: Path) -> dict[str, str | None]:
    """Environment variables of a worker: threads of BLAS and OpenMP, its CPUs and allocator, one visible GPU or none,
    nothing that overrules what the adapters set (TF32, autotuning), no foreign CUDA libraries before those that a
    framework brings, and for another interpreter, or a side with folders of its own, a path with our two packages,
    those folders, and nothing else of this environment."""
    job, gpu_uuid = row.job, row.gpu_uuid
    counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    environment: dict[str, str | None] = dict.fromkeys(counts, str(job.threads))
    environment |= dict.fromkeys(("NVIDIA_TF32_OVERRIDE", "TF_CUDNN_USE_AUTOTUNE"), None)
    environment |= allocators.environment(job.allocator)
    environment["EVENBENCH_CPUS"] = None if job.cpus is None else ",".join(map(str, job.cpus))
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    environment["CUDA_VISIBLE_DEVICES"] = gpu_uuid or "-1"
    if gpu_uuid:
        environment["LD_LIBRARY_PATH"] = _without_cuda_libraries(os.environ.get("LD_LIBRARY_PATH", ""))
    folders = () if row.side is None else row.side.path
    if folders or not _same_interpreter(row.python):
        ours = str(_our_packages(scratch, folders))
        given = os.environ.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = os.pathsep.join(part for part in (ours, *folders, given) if part)
    return environment | dict(() if row.side is None else row.side.variables)


def _without_cuda_libraries(path: str) -> str | None:
    """``LD_LIBRARY_PATH`` without folders of cuDNN or cuBLAS: it beats TensorFlow's RUNPATH, so that the libraries of
    another CUDA version would be loaded. Folders of the driver stay."""
    folders = [folder for folder in path.split(os.pathsep) if folder]
    kept = [f for f in folders if not any(any(Path(f).glob(f"{name}*")) for name in ("libcudnn", "libcublas"))]
    return os.pathsep.join(kept) or None


def _same_interpreter(python: str) -> bool:
    return os.path.abspath(python) == os.path.abspath(sys.executable)  # a venv's python is a link: not resolved


def _our_packages(scratch: Path, folders: Sequence[str] = ()) -> Path:
    """A folder that holds links to ``bench`` and ``backends`` only (copies where links are refused). A side's folder
    that has ``backends`` of its own (another revision of this repository) keeps them; the harness is always ours."""
    import backends
    import bench

    own_backends = any((Path(folder) / "backends" / "base.py").is_file() for folder in folders)
    folder = scratch / f"packages-{int(own_backends)}{int(bool(folders))}"
    if not folder.exists():
        folder.mkdir()
        for package in (bench,) if own_backends else (bench, backends):
            _link(Path(str(package.__file__)).parent, folder)
        if not folders:  # a side with folders of its own brings its adapters
            _link_adapters(folder)
    return folder


def _link_adapters(folder: Path) -> None:
    """Third-party adapters of this environment for another one: their modules, and the entry points that name them."""
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

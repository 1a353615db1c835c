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
from pathlib import Path
from typing import Any, BinaryIO

LONGEST_LINE = 64 * 2**20


class WorkerError(Exception):
    """The worker could not do it; ``status`` is a record's status."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Child:
    """One worker in a process group of its own.

    ``environment`` is added to this process'. ``log`` receives the worker's standard error.
    """

    def __init__(self, python: str, environment: dict[str, str], log: Path) -> None:
        self._log = log
        self._oom_kills = _oom_kills()
        self.spawned_at = time.monotonic()
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [python, "-P", "-m", "bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **environment, "EVENBENCH_PARENT": str(os.getpid())},
                start_new_session=True,
            )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(self._process.stdout, self._lines), daemon=True).start()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def ask(self, command: str, timeout: float, **content: Any) -> dict[str, Any]:
        """Send a request and block until its reply, at most ``timeout`` seconds.

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
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            self.kill()
            raise WorkerError("timeout", f"no answer to {command} within {timeout:g} s (--timeout)") from None
        if not line:
            raise self._crashed(command)
        return self._parse(line, command)

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
                raise WorkerError(reply["error"]["status"], reply["error"]["reason"])
            answer: dict[str, Any] = reply["ok"]
        except (ValueError, KeyError, TypeError):
            self.kill()
            shown = line[:60].decode("utf-8", "backslashreplace").strip()
            raise WorkerError("failed", f"the worker's answer to {command} is garbage: {shown!r}") from None
        return answer

    def _crashed(self, command: str) -> WorkerError:
        """End of file before the answer: say how the worker ended."""
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
            return WorkerError("crashed", f"the worker closed its pipe during {command}")
        self.kill()
        if code == -signal.SIGKILL and _oom_kills() > self._oom_kills:
            return WorkerError("out-of-memory", f"the kernel killed the worker during {command}: out of memory")
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return WorkerError("crashed", f"the worker ended with {how} during {command}{self._last_words()}")

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f": {lines[-1][:200]}" if lines else ""


def _pump(pipe: BinaryIO, lines: queue.SimpleQueue[bytes]) -> None:
    """Lines of the pipe to the queue; b'' at its end. A thread of its own, asleep but for arriving lines."""
    while line := pipe.readline(LONGEST_LINE):
        lines.put(line)
    pipe.close()
    lines.put(b"")


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


def worker_environment(python: str, threads: int, gpu_uuid: str | None, scratch: Path) -> dict[str, str]:
    """Environment variables of a worker: threads of BLAS and OpenMP, one visible GPU or none, and for another
    interpreter a path with our two packages and nothing else of this environment."""
    counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    environment = dict.fromkeys(counts, str(threads))
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    environment["CUDA_VISIBLE_DEVICES"] = gpu_uuid or "-1"
    if gpu_uuid:
        environment["EVENBENCH_GPU_UUID"] = gpu_uuid
    if not _same_interpreter(python):
        given = os.environ.get("PYTHONPATH")
        ours = str(_our_packages(scratch))
        environment["PYTHONPATH"] = ours if not given else ours + os.pathsep + given
    return environment


def _same_interpreter(python: str) -> bool:
    return os.path.abspath(python) == os.path.abspath(sys.executable)  # a venv's python is a link: not resolved


def _our_packages(scratch: Path) -> Path:
    """A folder that holds links to ``bench`` and ``backends`` only (copies where links are refused)."""
    import shutil

    import backends
    import bench

    folder = scratch / "packages"
    if not folder.exists():
        folder.mkdir()
        for package in (bench, backends):
            source = Path(str(package.__file__)).parent
            try:
                (folder / source.name).symlink_to(source, target_is_directory=True)
            except OSError:
                shutil.copytree(source, folder / source.name)
    return folder

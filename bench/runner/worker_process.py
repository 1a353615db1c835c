"""The parent's side of a worker process: spawn it, ask it with a deadline, kill it."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from bench.machine import process_tree
from bench.machine.limits import BY_GROUP, BY_RLIMIT, Group, Limits, make_groups
from bench.machine.limits import environment as limits_environment
from bench.secrecy import hide
from bench.worker.coding import ProtocolError
from bench.worker.protocol import (
    Alive,
    Evaluation,
    GarbageError,
    Refused,
    Request,
    command_of,
    read_alive,
    read_reply,
    write_request,
)

Reply = TypeVar("Reply")

LONGEST_LINE = 64 * 2**20
UNREAD_LINES = 4
"""Lines that a worker may write before they are asked for; then its pipe is full, and it waits."""
LOG_KEPT = 4000
"""Characters of a failed worker's standard error that its record keeps."""
LOG_READ = 256 * 1024
"""Bytes of the log's end that are read, so that secrets are hidden before anything is cut off."""
FULL = 2**20
"""Free bytes below which a disk is full."""
OUT_OF_MEMORY = re.compile(r"bad_alloc|allocate memory|out of memory|MemoryError|ENOMEM", re.IGNORECASE)
"""What frameworks write before they abort for want of memory."""


class WorkerError(Exception):
    """A request failed; ``status`` is a record's status."""

    def __init__(self, status: str, reason: str, log: str = "") -> None:
        super().__init__(hide(reason))
        self.status = status
        self.reason = hide(reason)
        self.log = hide(log)
        """The end of the worker's standard error."""


class WorkerProcess:
    """One worker in its own process group.

    ``environment`` is added to this process' environment (None removes a variable). ``log`` receives standard error.
    ``limits``: what it may take. ``several``: processes of its own do its work.
    """

    def __init__(
        self,
        python: str,
        environment: dict[str, str | None],
        log: Path,
        limits: Limits | None = None,
        several: bool = False,
    ) -> None:
        self.several = several
        limits = limits or Limits()
        self._log, self._limits = log, limits
        self._groups = make_groups(limits)
        environment = {**environment, **limits_environment(limits, self._groups)}
        self._peak: int | None = None
        self._oom_kills = _count_oom_kills()
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
        self._lines: queue.Queue[bytes] = queue.Queue(UNREAD_LINES)
        threading.Thread(target=_forward_lines, args=(self._process.stdout, self._lines), daemon=True).start()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def _group_of(self, limit: str) -> Group | None:
        """The control group that holds this limit."""
        return next((group for group in self._groups if limit in group.holds), None)

    def throttled(self) -> float | None:
        """Seconds for which a quota has kept its threads from running, summed over the CPUs; None: it has no quota."""
        group = self._group_of("cpu")
        return None if group is None else group.throttled

    def ask(self, request: Request[Reply], timeout: float, hear: Callable[[Evaluation], None] | None = None) -> Reply:
        """Send a request and block until its reply, at most ``timeout`` seconds without a sign of life. ``hear`` gets
        the evaluations of a training while it goes on.

        Raises:
            WorkerError: an error reply, a missed deadline (the group is killed), an invalid reply, or a crash.
        """
        command = command_of(request)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(write_request(request, self.spawned_at))
            self._process.stdin.flush()
        except OSError:
            raise self._crash_error(command) from None
        while True:
            try:
                line = self._lines.get(timeout=timeout)
            except queue.Empty:
                self.kill()
                raise self._error("timeout", f"no answer to {command} within {timeout:g} s (--timeout)") from None
            sign = self._read_sign(line, command)
            if sign is None:
                break
            if sign.evaluation is not None and hear is not None:
                hear(sign.evaluation)
        if not line:
            raise self._crash_error(command)
        return self._read(line, request)

    def _read_sign(self, line: bytes, command: str) -> Alive | None:
        try:
            return read_alive(line)
        except ProtocolError as error:
            self.kill()
            raise self._error("failed", f"the worker's answer to {command} is invalid: {error}") from None

    def wait_asleep(self, timeout: float) -> bool | None:
        """Block until no thread of the worker runs (proc(5), state R): thread pools spin for a while after their work.

        At most ``timeout`` seconds; False if a thread still runs then, None without /proc.
        """
        deadline = time.monotonic() + timeout
        while True:
            running = self._running_threads()
            if not running:
                return None if running is None else True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0005)

    def _running_threads(self) -> int | None:
        """Of the worker, and of the processes that train for it."""
        counts = [_count_running_threads(pid) for pid in (self.pid, *self._others())]
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    def _others(self) -> list[int]:
        return process_tree.descendants(self.pid)[1:] if self.several else []

    def kill(self) -> None:
        """Kill the whole process group, and helpers that left it, and reap the worker; does nothing if it has already
        ended."""
        if os.name == "posix":
            for pid in process_tree.descendants(self._process.pid)[1:] if self._process.returncode is None else ():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                self._process.kill()  # the group is gone; kill() does nothing on a reaped process
        else:
            _kill_tree(self._process.pid)
        self._process.wait()
        while not self._lines.empty():  # whoever waits to add one goes on, and ends
            self._lines.get_nowait()
        for group in self._groups:
            group.remove()
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            return  # buffered bytes without a reader

    def _read(self, line: bytes, request: Request[Reply]) -> Reply:
        command = command_of(request)
        try:
            reply: Reply | Refused = read_reply(line, request.reply_type())
        except GarbageError:
            self.kill()
            start = hide(line[:2000].decode("utf-8", "backslashreplace"))[:60].strip()
            raise self._error("failed", f"the worker's answer to {command} is garbage: {start!r}") from None
        except ProtocolError as error:
            self.kill()
            raise self._error("failed", f"the worker's answer to {command} is invalid: {error}") from None
        if isinstance(reply, Refused):
            raise self._error(reply.status, reply.reason)
        return reply

    def _crash_error(self, command: str) -> WorkerError:
        """The error for an end of file before the reply: how the worker ended."""
        code = self._reap(10)
        if code is None:
            self.kill()
            return self._error("crashed", f"the worker closed its pipe during {command}")
        group = self._group_of("memory")
        kills, peak = (0, self._peak) if group is None else (group.kills, group.peak or self._peak)
        self.kill()
        at_peak = "" if peak is None else f" at a peak of {peak / 1e6:,.0f} MB"
        if kills:
            how = f"the worker was killed during {command}"
            return self._error("out-of-memory", f"{how}; refused by --memory ({BY_GROUP}){at_peak}")
        if _signal_name(code) == "SIGKILL" and _count_oom_kills() > self._oom_kills:
            how = f"the worker was killed during {command}: out of memory"
            return self._error("out-of-memory", f"{how}; refused by the kernel{at_peak}")
        how = f"exit code {code}" if code >= 0 else f"signal {_signal_name(code)}"
        log = self._read_log()
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        last_line = f": {lines[-1][:200]}" if lines else ""
        ended = f"the worker ended with {how} during {command}{self._why_no_room() or last_line}"
        limited = self._limits.memory is not None
        if OUT_OF_MEMORY.search(log[-LOG_KEPT:]):
            who = f"--memory ({BY_RLIMIT})" if limited else "the system"
            return self._error("out-of-memory", f"{ended}; refused by {who}{at_peak}")
        if limited and _signal_name(code) in ("SIGSEGV", "SIGABRT", "SIGBUS"):
            ended += f"; --memory ({BY_RLIMIT}) may have refused it memory{at_peak}"
        return self._error("crashed", ended)

    def _why_no_room(self) -> str:
        """Why the worker could write no more, not even an error; empty if it could."""
        folder, allowed = self._log.parent, self._limits.file
        if not folder.exists():
            return f": its folder {folder} was removed"
        if allowed is not None and self._log.exists() and self._log.stat().st_size >= allowed:
            return f": it printed more than {allowed / 1e6:,.0f} MB (--disk)"
        full = shutil.disk_usage(folder).free < FULL
        return f": the disk of {folder.parent} is full: free some, or set TMPDIR" if full else ""

    def _reap(self, timeout: float) -> int | None:
        """Wait for the worker's end, and keep its peak; its exit code, negative for a signal. None: it goes on."""
        if not hasattr(os, "wait4"):
            try:
                return self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                return None
        deadline = time.monotonic() + timeout
        while self._process.returncode is None:
            pid, status, used = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self._peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            elif time.monotonic() > deadline:
                return None
            else:
                time.sleep(0.01)
        return self._process.returncode

    def _error(self, status: str, reason: str) -> WorkerError:
        return WorkerError(status, reason, self._read_log()[-LOG_KEPT:])

    def _read_log(self) -> str:
        """The end of standard error, secrets hidden before anything is cut off."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, self._log.stat().st_size - LOG_READ))
                return hide(log.read(LOG_READ).decode(errors="replace"))
        except OSError:
            return ""  # someone removed it


def _forward_lines(pipe: BinaryIO, lines: queue.Queue[bytes]) -> None:
    """Put every line of the pipe into the queue, then b''. Runs in its own thread, which sleeps between lines."""
    while line := pipe.readline(LONGEST_LINE):
        lines.put(line)
    pipe.close()
    lines.put(b"")


def _count_running_threads(pid: int) -> int | None:
    """Number of a process' threads that run or are ready to run; None without /proc."""
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


def _signal_name(code: int) -> str:
    """Name of the signal of a negative exit code (its number if it has no name); '' for other codes."""
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


def _count_oom_kills() -> int:
    """Number of kills by the kernel's out-of-memory killer since boot; 0 if not visible."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

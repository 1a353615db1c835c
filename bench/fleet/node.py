"""Carries out an errand, on the node: it runs ``bench``, and passes on what that writes. While something is timed, it
sleeps at two pipes.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bench.errors import BenchError
from bench.fleet.errand import PLACE, Errand, Message
from bench.machine import reaper
from bench.machine.host import fingerprint
from bench.store import journal, replay
from bench.store.store import ENVIRONMENT, Store

PATIENCE = 60.0
"""Seconds that ``bench`` has to end after Ctrl-C: it stores what it has."""
PLAIN_ERRORS = "TYPER_USE_RICH"
"""Usage errors are plain lines where it is 0, not boxes."""
LAUNCHER_THREADS = "OMP_NUM_THREADS"
"""Ray sets it for its tasks. ``bench`` sets the threads of its workers itself, and would take it for the user's."""


class Interruption:
    """By which the command of an errand is ended as Ctrl-C ends it, from any thread: it still tells what it stores. It
    is asked once only: a second time would end it at once."""

    def __init__(self) -> None:
        self._asked = False
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()  # a handler of signals may ask while its thread binds

    def ask(self) -> None:
        """End the command; one that has not begun ends when it begins."""
        with self._lock:
            if not self._asked and self._process is not None:
                self._interrupt(self._process)
            self._asked = True

    def of(self, process: subprocess.Popen[bytes]) -> None:
        """The command that is meant."""
        with self._lock:
            self._process = process
            if self._asked:
                self._interrupt(process)

    @staticmethod
    def _interrupt(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)


def carry_out(errand: Errand, node: str, interruption: Interruption) -> Iterator[Message]:
    """Run the command of an errand on the node of this name; its messages, the last of which is that it ended. Closing
    the iterator ends the command too, but then nobody hears what it stores."""
    machine = fingerprint()
    goes_on = errand.goes_on if errand.goes_on and errand.begun_on == machine["id"] else None
    name = goes_on or errand.result
    yield Message(errand=errand.name, kind="began", text=name, node=node, machine=machine)
    try:
        with tempfile.TemporaryDirectory(prefix="evenbench-node-") as scratch, reaper.watching():
            yield from _run(errand, goes_on, name, Path(scratch), interruption)
    except (BenchError, OSError) as error:
        yield Message(errand=errand.name, kind="said", text=f"bench: {error}")
        yield Message(errand=errand.name, kind="ended", code=2)


def _run(
    errand: Errand, goes_on: str | None, name: str, scratch: Path, interruption: Interruption
) -> Iterator[Message]:
    folder = _folder(errand)
    environment = {each: value for each, value in os.environ.items() if each != LAUNCHER_THREADS}
    environment |= {reaper.PARENT: str(os.getpid()), PLAIN_ERRORS: "0"}
    if errand.store is None:
        environment[ENVIRONMENT] = str(scratch / "node.db")
        _fill(environment[ENVIRONMENT], errand.before)
    else:
        environment[ENVIRONMENT] = errand.store
    arguments = [f"--name={name}", *_with_files(errand, name), *_built(errand)]
    if goes_on is not None:  # with the options of the first time, whose files and environment are in place now
        arguments = [f"--resume={goes_on}"]
    python = errand.environment.python or sys.executable
    reading, writing = os.pipe()
    if errand.store is None:
        environment[journal.ENVIRONMENT] = f"/dev/fd/{writing}"
    try:
        with _unblocked(signal.SIGINT):
            process = subprocess.Popen(
                [python, "-P", "-m", "bench.cli", errand.command, *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env=environment, cwd=folder, pass_fds=[writing], start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        os.close(reading)
        raise BenchError(f"cannot start {python} on this node: {error.strerror}; --node-python PATH") from error
    finally:
        os.close(writing)
    try:
        interruption.of(process)
        yield from _messages(errand, process, reading)
        if process.returncode == 0:
            shutil.rmtree(_home() / "files" / name, ignore_errors=True)
    finally:
        _end(process)


@contextmanager
def _unblocked(number: signal.Signals) -> Iterator[None]:
    """Within this context a new process gets this signal: Ray's workers block it, and a process inherits that."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _folder(errand: Errand) -> Path:
    """Where the command runs: the driver's folder if the node has it, else one of the same name on every node, where
    what stopped can go on."""
    if os.path.isdir(errand.folder) and os.access(errand.folder, os.R_OK | os.X_OK):
        return Path(errand.folder)
    folder = _home() / "work"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _home() -> Path:
    """The user's folder on this node, for what a later attempt needs at the same path."""
    import platformdirs

    return Path(platformdirs.user_data_dir("evenbench")) / "node"


def _fill(url: str, lines: list[str]) -> None:
    store = Store(url)
    for line in lines:
        replay.apply(store, replay.read(line))


def _with_files(errand: Errand, name: str) -> list[str]:
    """The arguments, with the paths of the files that have travelled, at the same path on every node: what stopped can
    go on. ``name``: of the run or check."""
    arguments, folder = list(errand.arguments), _home() / "files" / name
    for number, file in enumerate(errand.files):
        path = folder / str(number) / Path(file.name).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        arguments = [each.replace(PLACE % number, str(path)) for each in arguments]
    return arguments


def _built(errand: Errand) -> list[str]:
    """``--python`` options for the environment that is built from a lock; none: there is no lock."""
    from bench.gate import baselines, environments
    from bench.gate.package_index import PackageIndex

    environment = errand.environment
    if environment.lock is None:
        return []
    lock, index = environments.Lock.from_dict(environment.lock), PackageIndex(**environment.index)
    python = environments.build_locked(lock, "the job", baselines.default_cache(), index)
    return [f"--python={name}={python}" for name in environment.backends]


def _messages(errand: Errand, process: subprocess.Popen[bytes], reading: int) -> Iterator[Message]:
    """What the command writes into its journal and to standard error, and its end."""
    lines = queue.Queue[Message | None]()

    def pass_on(pipe: IO[bytes], kind: str) -> None:
        with pipe:
            for line in pipe:
                text = line.decode("utf-8", "replace").rstrip("\n")
                lines.put(Message.model_validate({"errand": errand.name, "kind": kind, "text": text}))
        lines.put(None)

    assert process.stderr is not None
    for pipe, kind in ((os.fdopen(reading, "rb"), "stored"), (process.stderr, "said")):
        threading.Thread(target=pass_on, args=(pipe, kind), daemon=True).start()
    open_pipes = 2
    while open_pipes:
        message = lines.get()
        if message is None:
            open_pipes -= 1
        else:
            yield message
    yield Message(errand=errand.name, kind="ended", code=process.wait())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command if nobody listens to it any more: it stores what it has."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

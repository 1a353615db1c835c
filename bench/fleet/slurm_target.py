"""SLURM as a target, through submitit: every errand is a batch job; SLURM chooses when, and on which node where the
job names none.

Errands and messages are files of a folder that the nodes share with the driver. A job goes on without its driver: what
it tells stays in its file, where a later driver finds it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import BenchError, UsageError
from bench.fleet.errand import INTERRUPTED, Errand, Message, read_message
from bench.fleet.node import Interruption, carry_out
from bench.fleet.target import Lost, Needs, Node

EXTRA = "pip install 'evenbench[slurm]'"
MINUTES = 240
"""Of a job, where the user says nothing (``time``)."""
LOOK_SECONDS, STATE_SECONDS = 0.5, 5.0
"""How often the driver looks for messages, and asks SLURM for states. It sleeps in between, on another machine than the
one that measures."""
FILE_SYSTEM_SECONDS = 10.0
"""How long the last messages of a job that has ended may take to be seen."""
MEANT = ("CANCELLED",)
"""States of jobs that somebody ended: they are not tried again."""
CANCELLED = "somebody cancelled it (scancel)"
OVER = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"
)  # fmt: skip
UNKNOWN_JOB = "Invalid job id"
"""What squeue says of jobs that have been over for a while. Other failures are the controller's, and may pass."""
NO_REQUEUE = {"no_requeue": True}
"""SLURM begins a job again by itself when its node fails. The driver does that: it knows what was stored."""
GONE = ("DOWN", "DRAIN", "FAIL", "MAINT", "NO_RESPOND", "POWER", "REBOOT", "UNKNOWN", "RESERVED", "INVAL")
"""Parts of the states of nodes that take no jobs."""


def carry_out_to_file(errand: str, messages: str) -> None:
    """What a job runs on its node: carry out the errand of a file, and append what it tells to another."""
    text = Path(errand).read_text(encoding="utf-8")
    name = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
    interruption = Interruption()
    for number in (signal.SIGINT, signal.SIGTERM):  # scancel, and preemption
        signal.signal(number, lambda *_: interruption.ask())
    with open(messages, "a", encoding="utf-8") as file:
        for message in carry_out(Errand.model_validate_json(text), name, interruption):
            file.write(message.model_dump_json() + "\n")
            file.flush()
            if message.kind in ("began", "ended"):
                os.fsync(file.fileno())


@dataclass
class _Out:
    """An errand that is out."""

    ticket: str
    messages: Path
    read: int = 0
    """Bytes that have been read."""
    over: str = ""
    """The job's state, once it has ended."""
    over_since: float = 0.0
    heard_end: bool = False
    interrupted: Message | None = None
    """Its command was interrupted: the job's state tells whether somebody meant it."""


@dataclass
class SlurmTarget:
    """The SLURM cluster of this machine.

    Raises:
        UsageError: submitit or SLURM's commands are missing, or a parameter is unknown to submitit.
        BenchError: the controller does not answer.
    """

    parameters: Mapping[str, Any]
    """Of submitit, such as ``partition``, ``time`` (minutes), ``account``."""
    folder: Path
    """That nodes share with the driver."""
    _out: dict[str, _Out] = field(default_factory=dict)
    _asked: float = 0.0

    def __post_init__(self) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UsageError(f"submitit is missing: {EXTRA}") from error
        if shutil.which("sbatch") is None:
            raise UsageError("SLURM's commands are missing here: no sbatch in PATH")
        self._submitit = submitit
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._executor({})

    def _executor(self, more: Mapping[str, Any]) -> Any:
        executor = self._submitit.SlurmExecutor(folder=str(self.folder / "jobs"))
        parameters = {"job_name": "evenbench", "time": MINUTES, **self.parameters, **more}
        try:
            parameters["additional_parameters"] = NO_REQUEUE | dict(parameters.get("additional_parameters", {}))
            executor.update_parameters(**parameters)
        except (ValueError, TypeError, NameError) as error:
            raise UsageError(f"--slurm: {str(error).splitlines()[0]}") from error
        return executor

    def nodes(self) -> list[Node]:
        """The nodes of the partition that take jobs; those with the same CPUs, memory, features and devices are of one
        kind."""
        partition = self.parameters.get("partition")
        chosen = [f"--partition={partition}"] if partition else []
        text = _command("sinfo", "--noheader", "--Node", "--format=%N|%c|%m|%f|%G|%T|%R", *chosen)
        found = dict[str, Node]()
        for line in text.splitlines():
            name, cpus, memory, features, devices, state, partition = (part.strip() for part in line.split("|"))
            if any(word in state.upper().rstrip("*~#$@^!%-+") for word in GONE) or "*" in state:
                continue
            labels = {each: each for each in features.split(",") if each not in ("", "(null)")}
            labels["partition"] = partition
            found.setdefault(name, Node(name, name, f"{cpus} {memory} {features} {devices}", labels))
        if not found:
            raise BenchError("no node of SLURM takes jobs now; sinfo shows their states")
        return [found[name] for name in sorted(found)]

    def submit(self, errand: Errand, needs: Needs) -> str:
        """Queue a batch job; its number is the ticket."""
        path, messages = self._files(errand.name)
        path.write_text(errand.model_dump_json(), encoding="utf-8")
        messages.touch()
        more: dict[str, Any] = {"exclusive": True} if needs.exclusive else {"cpus_per_task": needs.cpus}
        if needs.node is not None:
            more["nodelist"] = needs.node
        try:
            job = self._executor(more).submit(carry_out_to_file, str(path), str(messages))
        except Exception as error:
            raise BenchError(f"SLURM refuses the job: {_last_line(error)}") from error
        self._out[errand.name] = _Out(str(job.job_id), messages)
        return str(job.job_id)

    def _files(self, errand: str) -> tuple[Path, Path]:
        return self.folder / f"{errand}.json", self.folder / f"{errand}.messages"

    def attach(self, errand: str, ticket: str) -> bool:
        """Whether the job left messages or is still known; they come again from the first."""
        messages = self._files(errand)[1]
        if not ticket or not messages.exists():
            return False
        self._out[errand] = _Out(ticket, messages)
        return True

    def wait(self, seconds: float) -> list[Message | Lost]:
        """Look for messages, and for jobs that have ended without one."""
        until = time.monotonic() + seconds
        while True:
            arrived = [each for name in list(self._out) for each in self._news(name)]
            left = until - time.monotonic()
            if arrived or left <= 0:
                return arrived
            if time.monotonic() - self._asked > STATE_SECONDS:
                self._ask_states()
            time.sleep(min(LOOK_SECONDS, left))

    def _news(self, name: str) -> list[Message | Lost]:
        """What an errand has told since the last time."""
        out, news = self._out[name], list[Message | Lost]()
        with out.messages.open("rb") as file:
            file.seek(out.read)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # the rest is still to come
                out.read += len(line)
                try:
                    message = read_message(line)
                except BenchError as error:
                    news.append(Lost(name, str(error), final=True))
                    continue
                if message.code == INTERRUPTED:
                    out.interrupted = message
                    continue
                out.heard_end |= message.kind == "ended"
                news.append(message)
        if out.interrupted is not None and out.over:
            news.append(Lost(name, CANCELLED, final=True) if out.over in MEANT else out.interrupted)
            out.heard_end = True
        late = out.over and time.monotonic() - out.over_since > FILE_SYSTEM_SECONDS
        if late and not news and not out.heard_end:
            news.append(Lost(name, f"SLURM's job {out.ticket}: {out.over}", final=out.over in MEANT))
        if out.heard_end or (late and not news) or any(isinstance(each, Lost) for each in news):
            del self._out[name]
        return news

    def _ask_states(self) -> None:
        """Which jobs have ended; one that SLURM has forgotten has. A controller that does not answer tells nothing."""
        self._asked = time.monotonic()
        if not self._out:
            return
        tickets = ",".join(out.ticket for out in self._out.values())
        asked = _done("squeue", "--noheader", "--states=all", "--format=%i|%T", f"--jobs={tickets}")
        if asked.returncode != 0 and UNKNOWN_JOB not in asked.stderr:
            return  # the controller does not answer; jobs go on without it
        states = dict(line.split("|") for line in asked.stdout.split() if "|" in line)
        for out in self._out.values():
            state = states.get(out.ticket, "it is no longer known to squeue")
            if not out.over and (state in OVER or out.ticket not in states):
                out.over, out.over_since = state, time.monotonic()

    def cancel(self) -> None:
        """End all jobs as Ctrl-C ends a command."""
        tickets = [out.ticket for out in self._out.values()]
        if tickets:
            _done("scancel", "--signal=INT", *tickets)  # of their steps
            pending = _done("squeue", "--noheader", "--states=PENDING", "--format=%i", f"--jobs={','.join(tickets)}")
            if waiting := pending.stdout.split():
                _done("scancel", *waiting)

    def close(self) -> None:
        """Nothing is held."""


def _done(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One of SLURM's commands, whatever came of it."""
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


def _command(*arguments: str) -> str:
    """Standard output of one of SLURM's commands.

    Raises:
        BenchError: it failed.
    """
    done = _done(*arguments)
    if done.returncode != 0:
        raise BenchError(
            f"{arguments[0]} failed: {_last(done.stderr) or done.returncode}; does SLURM's controller run?"
        )
    return done.stdout


def _last_line(error: BaseException) -> str:
    return _last(str(error)) or type(error).__name__


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""

"""Sends the jobs of a fleet out, and brings what they store into the one store. What has come is stored at once: the
driver may end at any time, and go on later.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bench.errors import BenchError, UsageError
from bench.fleet import jobs as kept
from bench.fleet.errand import INTERRUPTED, LOG_LINES, Errand, Message
from bench.fleet.jobs import Attempt, Fleet, FleetJob
from bench.fleet.target import Lost, Needs, Target
from bench.records.gate_result import Check
from bench.runner import resumption
from bench.runner.run import new_name
from bench.store import replay
from bench.store.checkpoints import BEGUN
from bench.store.schema import CHECKS
from bench.store.store import Store

LONGEST_WAIT = 60.0
"""Seconds that the driver sleeps at most; the target wakes it as soon as something has come."""
FAREWELL = 70.0
"""Seconds that nodes have to end after Ctrl-C: they store what they have."""
DRIVER_ENDED = "its driver ended"
"""Why an attempt was lost that counts as no failure."""


@dataclass
class Driver:
    """Jobs of a fleet on a target."""

    store: Store
    target: Target
    fleet: Fleet
    jobs: Sequence[FleetJob]
    say: Callable[[str], None]
    before: Callable[[FleetJob], list[str]] = lambda _: []
    """Lines that a node's own store begins with, beside what goes on: runs that the job reads."""
    ended: Callable[[FleetJob], None] = lambda _: None
    """Called when a job has ended."""
    _out: dict[str, FleetJob] = field(default_factory=dict)
    """By errand."""
    _logs: dict[str, deque[str]] = field(default_factory=dict)
    _stopping: bool = False

    def run(self) -> None:
        """Carry out all jobs that are not done.

        Raises:
            BenchError: the store or the target failed; what has come is stored.
            KeyboardInterrupt: after the nodes have ended.
        """
        try:
            for job in self.jobs:
                if job.status != "done":
                    self._take_up(job)
            while self._out:
                self._handle(self.target.wait(LONGEST_WAIT))
        except KeyboardInterrupt:
            self._stop()
            raise
        self.fleet.ended = True
        kept.keep(self.store, self.fleet)

    def _take_up(self, job: FleetJob) -> None:
        """Send a job out, unless it still runs from an earlier driver, or has ended meanwhile."""
        last = job.last
        if job.status == "running" and last is not None:
            errand = self._errand_name(job)
            if not last.lost and self.target.attach(errand, last.ticket):
                self._out[errand], self._logs[errand] = job, deque(maxlen=LOG_LINES)
                return
            last.lost = last.lost or DRIVER_ENDED
            if self._ended_meanwhile(job):
                return
        self._send(job)

    def _errand_name(self, job: FleetJob) -> str:
        assert job.last is not None
        return f"{self.fleet.name}.{job.number}.{job.last.number}"

    def _send(self, job: FleetJob) -> None:
        """Begin an attempt."""
        earlier = next((name for name in reversed(job.results) if BEGUN in self.store.parts(name)), None)
        begun_on = None if earlier is None else self._machine_of(earlier)
        result = job.name if job.name is not None and not job.results else self._new_result(job)
        attempt = Attempt(number=len(job.attempts), result=result, goes_on=earlier or "")
        job.attempts.append(attempt)
        job.status = "running"
        own_store = self.store.file is not None
        errand = Errand(
            name=self._errand_name(job),
            command=job.command,
            arguments=job.arguments,
            files=job.files,
            result=result,
            goes_on=earlier,
            begun_on=begun_on,
            folder=self.fleet.folder,
            store=None if own_store else self.store.url.render_as_string(hide_password=False),
            before=[*self.before(job), *self._lines_of(job, earlier)] if own_store else [],
            environment=job.environment,
        )
        self._out[errand.name], self._logs[errand.name] = job, deque(maxlen=LOG_LINES)
        attempt.ticket = self.target.submit(errand, Needs(job.node, job.exclusive, job.cpus))
        kept.keep_job(self.store, self.fleet.name, job)

    def _new_result(self, job: FleetJob) -> str:
        return (resumption.CHECK if job.command == "check" else "") + new_name()

    def _machine_of(self, name: str) -> str | None:
        try:
            return resumption.Begun.read(self.store.parts(name)[BEGUN]).circumstances.machine
        except ValueError:
            return None  # of another version: it cannot go on

    def _lines_of(self, job: FleetJob, earlier: str | None) -> list[str]:
        if earlier is None:
            return []
        return list((replay.of_check if job.command == "check" else replay.of_run)(self.store, earlier))

    def _handle(self, arrived: Sequence[Message | Lost]) -> None:
        for each in arrived:
            job = self._out.get(each.errand)
            if job is None:
                continue  # of an attempt that was given up
            if isinstance(each, Lost):
                self._lost(job, each.errand, each.why, final=each.final)
            elif each.kind == "began":
                self._began(job, each)
            elif each.kind == "stored":
                self._stored(job, each)
            elif each.kind == "said":
                self._logs[each.errand].append(each.text)
            else:
                self._ended(job, each)

    def _began(self, job: FleetJob, message: Message) -> None:
        attempt = self._attempt(job)
        if message.text not in (attempt.result, attempt.goes_on or None):
            self._lost(job, message.errand, f"a node began {message.text}, which is not its work", final=True)
            return
        attempt.result, attempt.machine, attempt.began = message.text, message.machine, _now()
        attempt.node = message.node
        kept.keep_job(self.store, self.fleet.name, job)
        self.say(f"[{self._done + 1}/{len(self.jobs)}] {attempt.node}: {job.command} {' '.join(job.arguments)}")

    def _stored(self, job: FleetJob, message: Message) -> None:
        try:
            change = replay.read(message.text)
            replay.check_owner(change, self._attempt(job).result)
        except BenchError as error:
            self._lost(job, message.errand, str(error), final=True)
            return
        replay.apply(self.store, change)

    def _ended(self, job: FleetJob, message: Message) -> None:
        code = message.code if message.code is not None else -1
        if code < 0 or code == INTERRUPTED:
            why = "its command was interrupted" if code == INTERRUPTED else f"its command was killed by signal {-code}"
            self._lost(job, message.errand, why)
            return
        attempt = self._attempt(job)
        if job.command == "run" and code in (0, 1) and not self._is_stored(attempt.result):
            code = 2  # an interpreter without evenbench ends with 1 too
        attempt.code, attempt.ended = code, _now()
        if code != 0:
            attempt.log = list(self._logs[message.errand])
        self._finish(job, message.errand)
        self.say(f"[{self._done}/{len(self.jobs)}] {attempt.node}: {attempt.result} ended with exit code {code}")

    def _lost(self, job: FleetJob, errand: str, why: str, final: bool = False) -> None:
        """An attempt that did not end by itself: another is made, or the job is lost."""
        attempt = self._attempt(job)
        attempt.lost, attempt.ended, attempt.log = why, _now(), list(self._logs.get(errand, ()))
        del self._out[errand], self._logs[errand]
        where = attempt.node or "before it began"
        if self._ended_meanwhile(job):
            return
        if self._stopping:
            attempt.lost = DRIVER_ENDED
            kept.keep_job(self.store, self.fleet.name, job)
            return
        failures = sum(each.lost not in ("", DRIVER_ENDED) for each in job.attempts)
        again = not final and failures <= self.fleet.retries
        if again and job.node is not None:
            again = self._move(job)
            why = why if again else f"{why}; no other node of its kind is there"
        self.say(f"bench: lost {attempt.result} ({where}): {why}{'; it is sent again' if again else ''}")
        if again:
            self._send(job)
        else:
            attempt.lost = why
            job.status = "lost"
            kept.keep_job(self.store, self.fleet.name, job)
            self.ended(job)

    def _move(self, job: FleetJob) -> bool:
        """Choose a node for another attempt: the same if it is there, else one of its kind. Whether there is one."""
        alive = {node.id: node for node in self.target.nodes()}
        if job.node not in alive:
            other = next((node for node in alive.values() if node.kind == job.kind), None)
            if other is None:
                return False
            job.node, job.node_name = other.id, other.name
        return True

    def _ended_meanwhile(self, job: FleetJob) -> bool:
        """Whether the last attempt stored its end before it was lost; the job is done then."""
        attempt = self._attempt(job)
        code = self._stored_code(job, attempt.result) if attempt.node else None
        if code is None:
            return False
        attempt.code, attempt.lost = code, ""
        self._finish(job, self._errand_name(job))
        return True

    def _stored_code(self, job: FleetJob, name: str) -> int | None:
        """The exit code of a run or check that is stored whole."""
        if BEGUN in self.store.parts(name):
            return None
        if job.command == "check":
            check = self.store.read(CHECKS, name, Check)
            return None if check is None else check.exit_code(3)
        try:
            run = self.store.load(name)
        except BenchError:
            return None
        ended = ("unavailable", "unsupported")
        return int(any(not record.comparable and record.status not in ended for record in run.records))

    def _is_stored(self, run: str) -> bool:
        try:
            self.store.load(run)
        except UsageError:
            return False
        return True

    def _finish(self, job: FleetJob, errand: str) -> None:
        job.status = "done"
        self._out.pop(errand, None)
        self._logs.pop(errand, None)
        kept.keep_job(self.store, self.fleet.name, job)
        self.ended(job)

    def _stop(self) -> None:
        """End the nodes, and store what they still tell."""
        self.say("bench: ending the nodes; they store what they have")
        self._stopping, until = True, time.monotonic() + FAREWELL
        self.target.cancel()
        while self._out and time.monotonic() < until:
            self._handle(self.target.wait(1.0))

    def _attempt(self, job: FleetJob) -> Attempt:
        assert job.last is not None, "it has been sent"
        return job.last

    @property
    def _done(self) -> int:
        return sum(job.status in ("done", "lost") for job in self.jobs)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

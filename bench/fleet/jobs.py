"""The jobs of a fleet, and how far each is, as the store keeps them: the driver may end at any time."""

from __future__ import annotations

import json
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import BenchError, UsageError
from bench.fleet.errand import Environment, SentFile
from bench.secrecy import MASK, hide
from bench.store.schema import FLEET_JOBS, FLEETS
from bench.store.store import Store

PREFIX = "fleet-"
"""The names of fleets begin with it."""

Command = Literal["run", "check"]


class Plain(BaseModel):
    """JSON of this version."""

    model_config = ConfigDict(extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class Attempt(Plain):
    """One time that a job was sent out."""

    number: int
    result: str
    """Name of the run or check; until the node tells which one, that of a new one."""
    goes_on: str = ""
    """The run or check that it may go on with; empty: none."""
    node: str = ""
    """Its name; empty: it has not begun."""
    machine: dict[str, Any] = {}
    """The node's fingerprint."""
    ticket: str = ""
    """By which the target knows it."""
    began: str = ""
    ended: str = ""
    code: int | None = None
    """Exit code of the command; null: it did not end by itself."""
    lost: str = ""
    """Why it did not end by itself."""
    log: list[str] = []
    """The last lines of its standard error, where it did not end with 0."""


class FleetJob(Plain):
    """A command for one node."""

    number: int
    command: Command
    arguments: list[str]
    files: list[SentFile] = []
    node: str | None = None
    """Id of the node for which it is; null: any."""
    node_name: str = ""
    kind: str = ""
    """Of that node: another of its kind may take its place."""
    exclusive: bool = True
    """Whether nothing else runs on the node meanwhile."""
    cpus: int = 1
    """CPUs that it takes where it is not exclusive."""
    name: str | None = None
    """Of its run, if that is given."""
    environment: Environment = Environment()
    attempts: list[Attempt] = []
    status: Literal["waiting", "running", "done", "lost"] = "waiting"

    @property
    def last(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def results(self) -> list[str]:
        """The names of all runs and checks that it came to, the newest last."""
        return list(dict.fromkeys(attempt.result for attempt in self.attempts if attempt.node))

    @property
    def had_secret(self) -> bool:
        """Whether an argument had a secret, which is not stored."""
        return any(MASK in text for text in (*self.arguments, str(self.environment.index)))

    @property
    def code(self) -> int:
        """Its exit code: that of its command; 2 where it was lost."""
        return 2 if self.last is None or self.last.code is None else self.last.code


class Fleet(Plain):
    """Jobs that were begun together."""

    name: str
    line: str
    """The command line, secrets hidden."""
    began: str
    target: str
    slurm: dict[str, Any] = {}
    folder: str
    retries: int
    ended: bool = False


def _content(job: FleetJob) -> str:
    """As it is stored: without the secrets of its arguments."""
    index = json.loads(hide(json.dumps(job.environment.index)))
    shown: dict[str, Any] = {"arguments": list(map(hide, job.arguments))}
    shown["environment"] = job.environment.model_copy(update={"index": index})
    return job.model_copy(update=shown).model_dump_json()


def add(store: Store, fleet: Fleet, jobs: list[FleetJob]) -> None:
    """Store a new fleet."""
    with store.writing() as connection:
        for job in jobs:
            values = {"fleet": fleet.name, "number": job.number, "content": _content(job)}
            connection.execute(FLEET_JOBS.insert().values(**values))
    keep(store, fleet)


def keep(store: Store, fleet: Fleet) -> None:
    """Store the fleet itself."""
    store.put(FLEETS, fleet.name, fleet.model_dump_json())


def keep_job(store: Store, fleet: str, job: FleetJob) -> None:
    """Store how far a job is."""
    with store.writing() as connection:
        same = (FLEET_JOBS.c.fleet == fleet) & (FLEET_JOBS.c.number == job.number)
        connection.execute(FLEET_JOBS.update().where(same).values(content=_content(job)))


def unended_lines(store: Store) -> list[str]:
    """For every fleet that has not ended, the command that goes on."""
    fleets = [store.read(FLEETS, name, Fleet) for name in store.names(FLEETS)]
    names = [fleet.name for fleet in fleets if fleet is not None and not fleet.ended]
    return [
        f"{name} has not ended: bench fleet --resume {name} does what is missing, if its driver is gone"
        for name in names
    ]


def newest_unended(store: Store) -> str:
    """The name of the newest fleet with a job that is not done.

    Raises:
        UsageError: there is none.
    """
    for name in store.names(FLEETS):
        if any(job.status != "done" for job in load(store, name)[1]):
            return name
    raise UsageError(f"no fleet in {store.shown_url} can go on: nothing is missing; bench fleet --list shows them")


def load(store: Store, name: str) -> tuple[Fleet, list[FleetJob]]:
    """A fleet and its jobs in their order; ``name``: its beginning is enough, ``last`` is the newest.

    Raises:
        UsageError: none, or more than one.
        BenchError: it is damaged.
    """
    names = store.names(FLEETS)
    fitting = names[:1] if name in ("", "last") else [each for each in names if each.startswith(name)]
    if name in fitting:
        fitting = [name]
    if len(fitting) != 1:
        what = "more than one fleet begins with" if fitting else "no fleet"
        raise UsageError(f"{what} '{name}' in {store.shown_url}; bench fleet --list shows them")
    fleet = store.read(FLEETS, fitting[0], Fleet)
    assert fleet is not None, "it is one of the names"
    with store.reading() as connection:
        query = sa.select(FLEET_JOBS.c.content).where(FLEET_JOBS.c.fleet == fleet.name).order_by(FLEET_JOBS.c.number)
        contents = list(connection.scalars(query))
    try:
        return fleet, [FleetJob.model_validate_json(content) for content in contents]
    except ValidationError as error:
        raise BenchError(f"{fleet.name} is damaged: {str(error).splitlines()[0]}") from error

"""What is sent to a node, and what comes back. Both travel as JSON, and are validated where they arrive."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import BenchError

LOG_LINES = 200
"""Of a node's standard error: so many of the last lines are kept."""
INTERRUPTED = 130
"""Exit code of a command that was ended from outside."""
PLACE = "{file:%d}"
"""Stands in an argument for the path that a file that travels has on the node."""


class Plain(BaseModel):
    """JSON of this version."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class SentFile(Plain):
    """A file of the user's that travels with the job."""

    name: str
    """Its last part, as the user named it."""
    content: bytes


class Environment(Plain):
    """With which interpreter a node runs ``bench``, and with which packages its workers run."""

    python: str | None = None
    """A path on the node; None: the interpreter that carries out the errand."""
    lock: dict[str, Any] | None = None
    """A ``bench.gate.environments.Lock``: workers run in an environment that the node builds from it; None: in that of
    the interpreter."""
    backends: list[str] = []
    """Of the built environment."""
    index: dict[str, Any] = {}
    """Fields of a ``bench.gate.package_index.PackageIndex``."""


class Errand(Plain):
    """A command of ``bench`` that a node carries out."""

    name: str
    """Of this attempt; no other has it."""
    command: Literal["run", "check"]
    arguments: list[str]
    """Options of the command; a file that travels is ``PLACE``."""
    files: list[SentFile] = []
    result: str
    """The name of the run or check that it makes, if it begins a new one."""
    goes_on: str | None = None
    """The run or check that an earlier attempt began; it goes on on a machine of the same kind."""
    begun_on: str | None = None
    """Fingerprint of the machine on which ``goes_on`` was begun."""
    folder: str
    """The working folder, if the node has it."""
    store: str | None
    """URL of the store; None: the node has one of its own, and tells what it writes."""
    before: list[str] = []
    """Lines (``bench.store.replay``) that the node's own store begins with."""
    environment: Environment = Environment()


class Message(Plain):
    """What a node tells of an errand.

    ``began``: where, and which run or check. ``stored``: a line of its journal. ``said``: a line of its standard error.
    ``ended``: the exit code.
    """

    errand: str
    kind: Literal["began", "stored", "said", "ended"]
    text: str = ""
    """The line; of ``began`` the name of the run or check."""
    code: int | None = None
    node: str = ""
    """The node's name (``began``)."""
    machine: dict[str, Any] = {}
    """The node's fingerprint (``began``)."""


def read_message(line: str | bytes) -> Message:
    """A message.

    Raises:
        BenchError: it is none.
    """
    try:
        return Message.model_validate_json(line)
    except ValidationError as error:
        raise BenchError(f"what a node sent is no message: {str(error).splitlines()[0]}") from error

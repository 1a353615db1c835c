"""What is written to a store, as lines of JSON, so that another store can be changed in the same way
(``bench.store.replay``).

A node of a fleet that cannot reach the driver's store writes to one of its own, and to a journal.
"""

from __future__ import annotations

import os
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from bench.records.gate_result import Check, Sides
from bench.records.record import Record, Run

ENVIRONMENT = "BENCH_JOURNAL"
"""Environment variable: the file or pipe to which every change of a store is appended."""

Call: TypeAlias = Literal[
    "add_run", "end_run", "save", "keep_weights", "end_check", "keep_parts", "forget_parts", "put"
]


class Change(BaseModel):
    """One call of a writing method of ``Store``. ``name``: of the run, check or document that it changes; the other
    fields are that method's arguments."""

    model_config = ConfigDict(
        extra="forbid", ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
    )

    call: Call
    name: str
    run: Run | None = None
    records: list[Record] = []
    parts: dict[str, bytes] = {}
    row: str = ""
    content: bytes = b""
    table: str = ""
    text: str = ""
    check: Check | None = None
    sides: Sides | None = None
    whole: bool = True
    names: list[str] | None = None

    def line(self) -> str:
        """One line of JSON, without its end."""
        return self.model_dump_json(exclude_defaults=True)


class Journal:
    """A file or pipe to which changes are appended."""

    def __init__(self, path: str) -> None:
        self._path = path

    @classmethod
    def of_environment(cls) -> Journal | None:
        """The journal that the environment names; None: there is none."""
        path = os.environ.get(ENVIRONMENT)
        return None if path is None else cls(path)

    def note(self, call: Call, name: str, **arguments: Any) -> None:
        """Append a change, which has been made.

        Raises:
            OSError: it cannot be written.
        """
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(Change(call=call, name=name, **arguments).line() + "\n")

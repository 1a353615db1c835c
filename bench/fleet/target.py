"""Where jobs are sent, and which of its nodes take them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.errors import UsageError
from bench.fleet.errand import Errand, Message

KINDS, ALL = "kinds", "all"


@dataclass(frozen=True)
class Node:
    """A machine that takes jobs."""

    id: str
    name: str
    kind: str
    """The same for machines that are alike."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lost:
    """An errand that will send no message any more, and why."""

    errand: str
    why: str
    final: bool = False
    """Whether somebody meant it: it is not tried again."""


@dataclass(frozen=True)
class Needs:
    """What an errand needs of its node."""

    node: str | None
    """Its id; None: any node."""
    exclusive: bool
    cpus: int


class Target(Protocol):
    """A scheduler that carries errands to nodes. It decides when; the driver only waits."""

    def nodes(self) -> list[Node]:
        """The nodes that are there and take jobs, in the order of their names.

        Raises:
            BenchError: it cannot be asked, or there is none.
        """

    def submit(self, errand: Errand, needs: Needs) -> str:
        """Queue an errand; the ticket by which ``attach`` finds it again."""

    def attach(self, errand: str, ticket: str) -> bool:
        """Whether an errand that another process submitted is still there; its messages then come again, all of
        them."""

    def wait(self, seconds: float) -> list[Message | Lost]:
        """What has come, in order for every errand; at the latest after so many seconds, then perhaps nothing."""

    def cancel(self) -> None:
        """End all errands."""

    def close(self) -> None:
        """Let go of the scheduler."""


@dataclass(frozen=True)
class Selection:
    """What ``--nodes`` says."""

    all: bool = False
    kinds: bool = False
    count: int | None = None
    label: tuple[str, str] | None = None
    """Key and value; an empty key: of any key."""

    @classmethod
    def parse(cls, text: str | None) -> Selection:
        """``all``, ``kinds``, a number, ``label=VALUE`` or ``label=KEY=VALUE``; None: one job, for any node.

        Raises:
            UsageError: another text.
        """
        if text is None:
            return cls()
        if text in (ALL, KINDS):
            return cls(all=text == ALL, kinds=text == KINDS)
        if re.fullmatch(r"[1-9]\d{0,5}", text):
            return cls(count=int(text))
        prefix, _, rest = text.partition("=")
        if prefix != "label" or not rest:
            raise UsageError(f"--nodes {text}: all, kinds, a number, label=VALUE or label=KEY=VALUE")
        key, separator, value = rest.partition("=")
        return cls(label=(key, value) if separator else ("", rest))

    def of(self, nodes: Sequence[Node]) -> list[Node | None]:
        """The nodes that get the job, one each; None: any.

        Raises:
            UsageError: no node, or too few, are so.
        """
        if self == Selection():
            return [None]
        if self.kinds:
            first = {node.kind: node for node in reversed(nodes)}
            return [node for node in nodes if first[node.kind] is node]
        if self.count is not None:
            if self.count > len(nodes):
                raise UsageError(f"--nodes {self.count}: there are {len(nodes)} ({_names(nodes)})")
            return list(nodes[: self.count])
        chosen = [node for node in nodes if self.label is None or _has(node, *self.label)]
        if not chosen:
            labels = sorted({f"{key}={value}" for node in nodes for key, value in node.labels.items()})
            key, value = self.label or ("", "")
            what = f"{key}={value}" if key else value
            raise UsageError(f"--nodes label={what}: no node has it; there are {', '.join(labels) or 'no labels'}")
        return list(chosen)


def _has(node: Node, key: str, value: str) -> bool:
    return node.labels.get(key) == value if key else value in node.labels.values()


def _names(nodes: Sequence[Node]) -> str:
    return ", ".join(node.name for node in nodes)

"""Ray as a target: every errand is a task; Ray chooses when, and on which node where the job names none.

A node takes errands if it has the custom resource ``evenbench``, of which an exclusive errand takes all (1), beside all
CPUs and GPUs: neither another benchmark nor other work of Ray shares the node meanwhile. What a task tells goes through
an actor, so that what a node said before it died is not lost with it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from bench.errors import BenchError, UsageError
from bench.fleet.errand import Errand, Message, read_message
from bench.fleet.node import Interruption, carry_out
from bench.fleet.target import Lost, Needs, Node
from bench.machine.host import fingerprint

RESOURCE = "evenbench"
EXTRA = "pip install 'evenbench[ray]'"
ADDRESS = "RAY_ADDRESS"
MOST_MESSAGES = 1000
"""That the mailbox hands over at once."""
MOST_CALLS = 100_000
"""Calls that the mailbox answers at a time: each errand that runs has one open."""
DEATHS = ("NodeDiedError", "TaskUnschedulableError", "ActorUnschedulableError")
"""Errors of tasks whose node is no more."""
ENDED = "ended"
"""In place of a message: the errand's task has ended."""
ASKED = "--resources='{\"evenbench\": 1}'"


class Mailbox:
    """An actor that keeps the messages of all errands until the driver takes them."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._cancelled = asyncio.Event()

    async def put(self, errand: str, message: str) -> None:
        """Add a message."""
        await self._messages.put((errand, message))

    async def take(self) -> list[tuple[str, str]]:
        """All messages that are there; it waits for the first."""
        taken = [await self._messages.get()]
        while not self._messages.empty() and len(taken) < MOST_MESSAGES:
            taken.append(self._messages.get_nowait())
        return taken

    async def cancel(self) -> None:
        """End all errands."""
        self._cancelled.set()

    async def cancelled(self) -> None:
        """Returns when all errands are to end."""
        await self._cancelled.wait()


def _task(text: str, mailbox: Any, names: Mapping[str, str]) -> None:
    """Carry out an errand on this node, and tell the mailbox of it."""
    import ray

    interruption = Interruption()

    def interrupt_when_cancelled() -> None:
        with suppress(Exception):  # the driver has gone: Ray ends this process
            ray.get(mailbox.cancelled.remote())
            interruption.ask()

    errand, own = Errand.model_validate_json(text), ray.get_runtime_context().get_node_id()
    threading.Thread(target=interrupt_when_cancelled, daemon=True).start()
    for message in carry_out(errand, names.get(own, own[:8]), interruption):
        ray.get(mailbox.put.remote(errand.name, message.model_dump_json()))


def connect(init: Callable[..., object], address: str | None) -> None:
    """Connect to a cluster, or start one of this machine alone.

    Args:
        init: ``ray.init``.
        address: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``; None: of this machine alone.

    Raises:
        BenchError: the cluster cannot be reached.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "address": address or "local"}
    if address is None:
        options |= {"resources": {RESOURCE: 1}, "include_dashboard": False}
    try:
        try:
            init(**options)
        except ConnectionAbortedError:  # a busy head started this client's server too late for Ray
            init(**options)
    except Exception as error:
        raise BenchError(f"cannot reach Ray at {address or 'this machine'}: {_first_line(error)}") from error


class RayTarget:
    """A Ray cluster.

    Raises:
        UsageError: Ray is not installed, or no node has the resource.
        BenchError: the cluster cannot be reached.
    """

    def __init__(self, address: str | None) -> None:
        """``address``: such as ``ray://head:10001``; None: that of ``RAY_ADDRESS``, else a cluster of this machine
        alone."""
        try:
            import ray
        except ImportError as error:
            raise UsageError(f"Ray is missing: {EXTRA}") from error
        self._ray: Any = ray
        connect(ray.init, address or os.environ.get(ADDRESS) or None)
        self._kinds: dict[str, str] = {}
        self._tasks: dict[Any, str] = {}
        self._ends: dict[str, str] = {}
        self._begun: set[str] = set()
        self._where: dict[str, str | None] = {}
        self._dead: set[str] = set()
        """Nodes of which a task said so: Ray's list is some seconds late."""
        self._own = ray.get_runtime_context().get_node_id()
        # Not softly: Ray puts an actor that takes no resources on any node then, and it would die with that one.
        place = {"num_cpus": 0, "max_concurrency": MOST_CALLS, "scheduling_strategy": self._at(self._own)}
        self._mailbox: Any = self._ray.remote(Mailbox).options(**place).remote()
        self._taking = self._mailbox.take.remote()

    @staticmethod
    def _at(node: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node_id=node, soft=False)

    def _alive(self) -> dict[str, dict[str, Any]]:
        """What Ray says of the nodes that take errands, by id."""
        found = {each["NodeID"]: each for each in self._ray.nodes() if self._takes_errands(each)}
        if not found:
            raise UsageError(f"no node of the cluster has the resource {RESOURCE}; start nodes with ray start {ASKED}")
        return found

    def _takes_errands(self, node: Mapping[str, Any]) -> bool:
        return bool(node["Alive"]) and RESOURCE in node["Resources"] and node["NodeID"] not in self._dead

    def nodes(self) -> list[Node]:
        """The nodes with the resource; nodes whose fingerprints are the same are of one kind."""
        alive = self._alive()
        probe = self._ray.remote(fingerprint)
        asked = {
            node: probe.options(num_cpus=0, scheduling_strategy=self._at(node)).remote()
            for node in alive
            if node not in self._kinds
        }
        try:
            for node, reference in asked.items():
                self._kinds[node] = str(self._ray.get(reference)["id"])
        except Exception as error:
            raise BenchError(
                f"a node cannot be asked what it is ({_first_line(error)}); is evenbench installed there?"
            ) from error
        names = self._names(alive)
        found = [Node(node, names[node], self._kinds[node], dict(alive[node].get("Labels") or {})) for node in alive]
        return sorted(found, key=lambda node: (node.name, node.id))

    @staticmethod
    def _names(alive: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Names for people: Ray's, which is the address if the user gave none; with the id where several share one."""
        plain = {node: str(each.get("NodeName") or each["NodeManagerAddress"]) for node, each in alive.items()}
        shared = {name for name in plain.values() if list(plain.values()).count(name) > 1}
        return {node: f"{name}-{node[:6]}" if name in shared else name for node, name in plain.items()}

    def submit(self, errand: Errand, needs: Needs) -> str:
        """Queue a task."""
        alive = self._alive()
        options: dict[str, Any] = {"num_cpus": needs.cpus, "max_retries": 0}
        if needs.exclusive:
            hosts = [alive[needs.node]] if needs.node in alive else list(alive.values())
            least = {name: min(host["Resources"].get(name, 0.0) for host in hosts) for name in ("CPU", "GPU")}
            options |= {"num_cpus": least["CPU"], "num_gpus": least["GPU"], "resources": {RESOURCE: 1}}
        else:
            options["resources"] = {RESOURCE: 1e-4}  # a node that takes errands
        if needs.node is not None:
            options["scheduling_strategy"] = self._at(needs.node)
        task = self._ray.remote(_task).options(**options)
        reference = task.remote(errand.model_dump_json(), self._mailbox, self._names(alive))
        self._tasks[reference], self._where[errand.name] = errand.name, needs.node
        return ""

    def attach(self, errand: str, ticket: str) -> bool:
        """Never: Ray ends the tasks of a driver with it."""
        return False

    def wait(self, seconds: float) -> list[Message | Lost]:
        """Messages. A task that has ended puts a mark behind its messages: they are taken before its end is told."""
        waiting = [self._taking, *self._tasks]
        ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(waiting, num_returns=1, timeout=seconds)
        for reference in ready:
            if reference in self._tasks:
                errand = self._tasks.pop(reference)
                self._ends[errand] = self._end_of(reference, self._where.pop(errand))
                self._mailbox.put.remote(errand, ENDED)
        if self._taking not in ready:
            return []
        try:
            taken = self._ray.get(self._taking)
        except Exception as error:
            why = _first_line(error).rstrip(".")
            raise BenchError(f"lost the cluster ({why}); what was stored stays, and --resume goes on") from error
        self._taking = self._mailbox.take.remote()
        self._begun.update(errand for errand, _ in taken)
        return [self._read(errand, text) for errand, text in taken]

    def _read(self, errand: str, text: str) -> Message | Lost:
        if text == ENDED:
            return Lost(errand, self._ends.pop(errand))
        try:
            return read_message(text)
        except BenchError as error:
            return Lost(errand, str(error), final=True)

    def _end_of(self, reference: Any, node: str | None) -> str:
        """Why a task sends nothing more. ``node``: the one that it was for."""
        try:
            self._ray.get(reference)
        except Exception as error:  # noqa: BLE001  (whatever ended it)
            if node is not None and type(error).__name__ in DEATHS:
                self._dead.add(node)
            return f"{type(error).__name__}: {_first_line(error).partition('. ')[0]}"
        return "its task ended, and the end of its command was not heard of"

    def cancel(self) -> None:
        """End the commands of running tasks, and take back those that have not begun."""
        self._mailbox.cancel.remote()
        for reference, errand in self._tasks.items():
            if errand not in self._begun:
                self._ray.cancel(reference)

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


def _first_line(error: BaseException) -> str:
    """What happened; of a server's error, which is a title and a traceback, the title and the traceback's last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[0] if not lines[0].endswith(":") else " ".join(dict.fromkeys((lines[0], lines[-1])))

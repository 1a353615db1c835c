"""The driver, on a target that does what a test says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from stored import comparable, run

from bench.errors import BenchError
from bench.fleet import jobs as kept
from bench.fleet.driver import DRIVER_ENDED, Driver
from bench.fleet.errand import Errand, Message
from bench.fleet.jobs import Fleet, FleetJob
from bench.fleet.target import Lost, Needs, Node
from bench.runner import resumption
from bench.runner.resumption import Circumstances
from bench.store.journal import Change
from bench.store.store import Store

NODES = [Node("n1", "north", "big"), Node("n2", "south", "big"), Node("n3", "east", "small")]
MACHINE = {"id": "feedc0de", "hostname": "north"}
Behaviour = Callable[[Errand, Needs], Iterator[Message | Lost]]


@dataclass
class Scripted:
    """Each errand gets the next behaviour."""

    behaviours: list[Behaviour]
    alive: list[Node] = field(default_factory=lambda: list(NODES))
    submitted: list[tuple[Errand, Needs]] = field(default_factory=list)
    attached: list[tuple[str, str]] = field(default_factory=list)
    knows: bool = False
    cancelled: bool = False
    _queue: deque[Message | Lost] = field(default_factory=deque)

    def nodes(self) -> list[Node]:
        return self.alive

    def submit(self, errand: Errand, needs: Needs) -> str:
        self.submitted.append((errand, needs))
        self._queue.extend(self.behaviours.pop(0)(errand, needs))
        return f"ticket {len(self.submitted)}"

    def attach(self, errand: str, ticket: str) -> bool:
        self.attached.append((errand, ticket))
        return self.knows

    def wait(self, seconds: float) -> list[Message | Lost]:
        assert self._queue, "the driver waits for what never comes"
        return [self._queue.popleft()]

    def cancel(self) -> None:
        self.cancelled = True

    def close(self) -> None:
        """Nothing is held."""


def stored(errand: Errand, change: Change) -> Message:
    return Message(errand=errand.name, kind="stored", text=change.line())


def begun(errand: Errand) -> Iterator[Message]:
    name = errand.goes_on or errand.result
    yield Message(errand=errand.name, kind="began", text=name, node="north", machine=MACHINE)
    now = Circumstances(rows=(), work="", data="", machine="feedc0de", commit=None, versions={})
    part = resumption.begun({"a": {}}, now).part()
    if errand.goes_on is None:
        yield stored(errand, Change(call="add_run", name=name, run=run(name), parts=part))
    yield stored(errand, Change(call="save", name=name, records=[comparable()], parts={"round 0 x": b"{}"}))


def ends_well(errand: Errand, needs: Needs) -> Iterator[Message]:
    yield from begun(errand)
    name = errand.goes_on or errand.result
    whole = run(name).model_copy(update={"records": [comparable()]})
    yield stored(errand, Change(call="end_run", name=name, run=whole))
    yield Message(errand=errand.name, kind="ended", code=0)


def dies(errand: Errand, needs: Needs) -> Iterator[Message | Lost]:
    yield from begun(errand)
    yield Message(errand=errand.name, kind="said", text="last words")
    yield Lost(errand.name, "its node died")


def dies_after_its_end(errand: Errand, needs: Needs) -> Iterator[Message | Lost]:
    yield from list(ends_well(errand, needs))[:-1]
    yield Lost(errand.name, "its node died")


def fails(errand: Errand, needs: Needs) -> Iterator[Message]:
    yield Message(errand=errand.name, kind="began", text=errand.result, node="north", machine=MACHINE)
    yield Message(errand=errand.name, kind="said", text="bench: no such model")
    yield Message(errand=errand.name, kind="ended", code=2)


def reaches_too_far(errand: Errand, needs: Needs) -> Iterator[Message]:
    yield from begun(errand)
    yield stored(errand, Change(call="save", name="another", records=[comparable()]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "history.db"))


def driven(store: Store, target: Scripted, *jobs: FleetJob, retries: int = 1) -> tuple[list[FleetJob], list[str]]:
    said: list[str] = []
    fleet = Fleet(name="fleet-a", line="bench", began="2026", target="ray", folder="/", retries=retries)
    kept.add(store, fleet, list(jobs))
    Driver(store, target, fleet, list(jobs), said.append).run()
    assert fleet.ended
    loaded = kept.load(store, "fleet-a")
    assert loaded[0].ended
    return loaded[1], said


def job(number: int = 0, **more: object) -> FleetJob:
    return FleetJob.model_validate({"number": number, "command": "run", "arguments": ["--rounds=1"], **more})


def test_what_a_node_stores_is_stored(store: Store) -> None:
    (done,), said = driven(store, Scripted([ends_well]), job())
    assert (done.status, done.code) == ("done", 0)
    assert done.last is not None
    assert store.load(done.last.result).records == [comparable()]
    assert not store.parts(done.last.result), "nothing is missing"
    assert "ended with exit code 0" in said[-1]


def test_a_job_whose_node_died_goes_on_with_its_run(store: Store) -> None:
    target = Scripted([dies, ends_well])
    (done,), said = driven(store, target, job(node="n1", kind="big"))
    first, second = done.attempts
    assert (first.lost, first.log, first.result) == ("its node died", ["last words"], second.result)
    again = target.submitted[1][0]
    assert again.goes_on == first.result
    assert again.begun_on == "feedc0de"
    assert [Change.model_validate_json(line).call for line in again.before] == ["add_run", "save"]
    assert again.result != first.result, "on another kind of machine it begins anew, under another name"
    assert "sent again" in said[1]


def test_it_moves_to_a_node_of_its_kind_or_is_lost(store: Store) -> None:
    target = Scripted([dies, ends_well], alive=NODES[1:])
    (done,), _ = driven(store, target, job(node="n1", kind="big"))
    assert (done.status, done.node, done.node_name) == ("done", "n2", "south")
    (lost,), said = driven_anew(store, Scripted([dies], alive=NODES[2:]), job(node="n1", kind="big"))
    assert lost.status == "lost"
    assert lost.code == 2
    assert "no other node of its kind" in said[-1]


def driven_anew(store: Store, target: Scripted, *jobs: FleetJob) -> tuple[list[FleetJob], list[str]]:
    said: list[str] = []
    fleet = Fleet(name="fleet-b", line="bench", began="2026", target="ray", folder="/", retries=1)
    kept.add(store, fleet, list(jobs))
    Driver(store, target, fleet, list(jobs), said.append).run()
    return kept.load(store, "fleet-b")[1], said


@pytest.mark.parametrize("retries", [0, 2])
def test_it_is_sent_again_so_often(store: Store, retries: int) -> None:
    (lost,), _ = driven(store, Scripted([dies] * (retries + 1)), job(), retries=retries)
    assert lost.status == "lost"
    assert len(lost.attempts) == retries + 1


def test_what_ended_before_its_node_died_is_done(store: Store) -> None:
    target = Scripted([dies_after_its_end])
    (done,), _ = driven(store, target, job())
    assert (done.status, done.code, len(done.attempts)) == ("done", 0, 1)


def test_an_error_of_the_command_is_no_loss(store: Store) -> None:
    (done,), _ = driven(store, Scripted([fails]), job())
    assert (done.status, done.code) == ("done", 2)
    assert done.last is not None
    assert done.last.log == ["bench: no such model"]


def test_an_interpreter_without_evenbench_is_no_verdict(store: Store) -> None:
    def has_no_bench(errand: Errand, needs: Needs) -> Iterator[Message]:
        yield Message(errand=errand.name, kind="began", text=errand.result, node="north", machine=MACHINE)
        yield Message(errand=errand.name, kind="said", text="No module named bench")
        yield Message(errand=errand.name, kind="ended", code=1)

    (done,), _ = driven(store, Scripted([has_no_bench]), job())
    assert done.code == 2
    assert done.last is not None
    assert done.last.log == ["No module named bench"]


def test_a_node_changes_its_own_run_only(store: Store) -> None:
    store.add_run(run("another"))
    (lost,), _ = driven(store, Scripted([reaches_too_far]), job(), retries=3)
    assert lost.status == "lost", "it is not tried again"
    assert lost.last is not None
    assert "may change" in lost.last.lost
    assert store.load("another").records == []


def test_the_next_driver_goes_on(store: Store) -> None:
    jobs = [job(0), job(1), job(2)]
    fleet = Fleet(name="fleet-a", line="bench", began="2026", target="ray", folder="/", retries=0)
    kept.add(store, fleet, jobs)

    def stops(errand: Errand, needs: Needs) -> Iterator[Message]:
        yield from begun(errand)
        raise BenchError("no connection")

    with pytest.raises(BenchError):
        Driver(store, Scripted([ends_well, stops]), fleet, jobs, lambda _: None).run()
    assert [each.status for each in kept.load(store, "fleet-a")[1]] == ["running", "waiting", "waiting"]
    _, jobs = kept.load(store, "fleet-a")
    target = Scripted([ends_well, ends_well, ends_well])
    Driver(store, target, fleet, jobs, lambda _: None).run()
    jobs = kept.load(store, "fleet-a")[1]
    assert [each.status for each in jobs] == ["done"] * 3
    assert jobs[0].attempts[0].lost == DRIVER_ENDED, "which is no failure of its node: retries are 0"


def test_what_still_runs_is_attached(store: Store) -> None:
    fleet = Fleet(name="fleet-a", line="bench", began="2026", target="slurm", folder="/", retries=0)
    attempt = kept.Attempt(number=0, result="r", ticket="77")
    waiting = job(status="running", attempts=[attempt.model_dump()])
    kept.add(store, fleet, [waiting])
    target = Scripted([], knows=True)
    errand = Errand(name="fleet-a.0.0", command="run", arguments=[], result="r", folder="/", store=None)
    target._queue.extend(ends_well(errand, Needs(None, True, 1)))
    Driver(store, target, fleet, [waiting], lambda _: None).run()
    assert target.attached == [("fleet-a.0.0", "77")]
    assert not target.submitted
    assert kept.load(store, "fleet-a")[1][0].status == "done"


def test_ctrl_c_keeps_what_comes_until_the_nodes_have_ended(store: Store) -> None:
    fleet = Fleet(name="fleet-a", line="bench", began="2026", target="ray", folder="/", retries=5)
    jobs = [job()]
    kept.add(store, fleet, jobs)

    class Interrupted(Scripted):
        def wait(self, seconds: float) -> list[Message | Lost]:
            if not self.cancelled and not self._queue:
                raise KeyboardInterrupt
            if not self._queue:
                (errand, _) = self.submitted[0]
                self._queue.append(stored(errand, Change(call="keep_parts", name=errand.result, parts={"late": b"1"})))
                self._queue.append(Message(errand=errand.name, kind="ended", code=130))
            return super().wait(seconds)

    target = Interrupted([lambda errand, needs: begun(errand)])
    with pytest.raises(KeyboardInterrupt):
        Driver(store, target, fleet, jobs, lambda _: None).run()
    (left,) = kept.load(store, "fleet-a")[1]
    assert left.status == "running"
    assert left.last is not None
    assert left.last.lost == DRIVER_ENDED
    assert store.parts(left.last.result)["late"] == b"1"
    assert not fleet.ended


def test_with_a_server_nodes_write_to_it_themselves(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "file", property(lambda _: None))
    target = Scripted([ends_well])
    driven(store, target, job())
    (errand, needs) = target.submitted[0]
    assert errand.store == store.url.render_as_string(hide_password=False)
    assert errand.before == []
    assert needs.exclusive


def test_a_secret_is_not_stored(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEX_TOKEN", "s3cretvalue")
    target = Scripted([ends_well])
    (done,), _ = driven(store, target, job(arguments=["--index-url=https://me:s3cretvalue@host/simple"]))
    assert done.had_secret
    assert "s3cretvalue" not in done.model_dump_json()
    assert "s3cretvalue" in target.submitted[0][0].arguments[0], "the node needs it"


def test_a_node_begins_what_it_was_sent_for(store: Store) -> None:
    store.add_run(run("another"))

    def takes_another(errand: Errand, needs: Needs) -> Iterator[Message]:
        yield Message(errand=errand.name, kind="began", text="another", node="north", machine=MACHINE)
        yield stored(errand, Change(call="save", name="another", records=[comparable()]))

    (lost,), _ = driven(store, Scripted([takes_another]), job(), retries=3)
    assert lost.status == "lost"
    assert lost.last is not None
    assert "is not its work" in lost.last.lost
    assert store.load("another").records == []


def test_what_ctrl_c_ended_is_not_attached_but_sent_again(store: Store) -> None:
    """SLURM's files of it are still there, and end with its interruption: that is no failure of a node."""
    fleet = Fleet(name="fleet-a", line="bench", began="2026", target="slurm", folder="/", retries=0)
    attempt = kept.Attempt(number=0, result="r", ticket="77", lost=DRIVER_ENDED)
    waiting = job(status="running", attempts=[attempt.model_dump()])
    kept.add(store, fleet, [waiting])
    target = Scripted([ends_well], knows=True)
    Driver(store, target, fleet, [waiting], lambda _: None).run()
    assert not target.attached
    assert kept.load(store, "fleet-a")[1][0].status == "done"


def test_what_an_earlier_sitting_ended_is_not_done_again(store: Store) -> None:
    """Of a sweep, whose trials have names: the run is whole, and its driver did not live to say so."""
    store.add(run("trial").model_copy(update={"records": [comparable()]}))
    before = kept.Attempt(number=0, result="trial", node="earlier", lost=DRIVER_ENDED)
    target = Scripted([])
    (done,), _ = driven(store, target, job(name="trial", status="running", attempts=[before.model_dump()]))
    assert (done.status, done.code) == ("done", 0)
    assert not target.submitted

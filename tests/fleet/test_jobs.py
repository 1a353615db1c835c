"""Fleets in the store."""

from __future__ import annotations

import pytest

from bench.errors import UsageError
from bench.fleet import jobs as kept
from bench.fleet.jobs import Attempt, Fleet, FleetJob
from bench.store import queries, upkeep
from bench.store.schema import FLEETS
from bench.store.store import Store


def fleet(name: str) -> Fleet:
    return Fleet(name=name, line="bench fleet p", began="2026", target="ray", folder="/", retries=1)


def test_fleets_are_kept_found_and_removed(store_url: str) -> None:
    store = Store(store_url)
    jobs = [FleetJob(number=number, command="run", arguments=["--rounds=1"]) for number in range(12)]
    kept.add(store, fleet("fleet-a1"), jobs)
    kept.add(store, fleet("fleet-b1"), jobs[:1])
    jobs[11].attempts.append(Attempt(number=0, result="r", node="n", machine={"id": "m"}, code=0))
    jobs[11].status = "done"
    kept.keep_job(store, "fleet-a1", jobs[11])
    assert kept.load(store, "fleet-a") == (fleet("fleet-a1"), jobs)
    assert kept.load(store, "fleet-a1")[1][11].results == ["r"]
    with pytest.raises(UsageError, match="more than one"):
        kept.load(store, "fleet-")
    with pytest.raises(UsageError, match="no fleet"):
        kept.load(store, "fleet-c")
    assert len(kept.unended_lines(store)) == 2
    assert kept.newest_unended(store) in ("fleet-a1", "fleet-b1")
    assert not [finding for finding in upkeep.check(store) if finding.problems]
    assert queries.delete(store, ["fleet-a1"]) == ["fleet-a1"]
    assert store.names(FLEETS) == ["fleet-b1"]
    assert not [finding for finding in upkeep.check(store) if finding.problems]
    with store.writing() as connection:
        connection.execute(FLEETS.delete())
    orphans = next(finding for finding in upkeep.check(store) if finding.question == "orphans")
    assert orphans.problems == ("the jobs of fleet-b1 belong to no fleet",)


def test_a_lost_job_ends_with_two() -> None:
    job = FleetJob(number=0, command="run", arguments=[])
    assert job.code == 2
    job.attempts.append(Attempt(number=0, result="r", node="n", lost="its node died"))
    assert job.code == 2
    job.attempts.append(Attempt(number=1, result="r", node="n", code=1))
    assert job.code == 1
    assert job.results == ["r"]

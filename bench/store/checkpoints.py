"""What a run or check that has not ended goes on from, part by part; written with its records, removed at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from bench.store.schema import CHECKPOINTS

BEGUN = "begun"
"""The part that every checkpoint has."""


def write(connection: sa.Connection, owner: str, parts: Mapping[str, bytes]) -> None:
    """Write parts; each replaces the part of the same name."""
    for part, content in parts.items():
        same = (CHECKPOINTS.c.owner == owner) & (CHECKPOINTS.c.part == part)
        if connection.execute(CHECKPOINTS.update().where(same).values(content=content)).rowcount == 0:
            connection.execute(CHECKPOINTS.insert().values(owner=owner, part=part, content=content))


def read(connection: sa.Connection, owner: str) -> dict[str, bytes]:
    """All parts of an owner; none: it has ended, or there is no such run."""
    query = sa.select(CHECKPOINTS.c.part, CHECKPOINTS.c.content).where(CHECKPOINTS.c.owner == owner)
    return {row.part: row.content for row in connection.execute(query)}


def remove(connection: sa.Connection, owners: Sequence[str]) -> None:
    """Remove the checkpoints of these owners."""
    connection.execute(CHECKPOINTS.delete().where(CHECKPOINTS.c.owner.in_(owners)))


def remove_part(connection: sa.Connection, owner: str, part: str) -> None:
    """Remove one part."""
    connection.execute(CHECKPOINTS.delete().where((CHECKPOINTS.c.owner == owner) & (CHECKPOINTS.c.part == part)))


def all_begun(connection: sa.Connection) -> dict[str, bytes]:
    """The first parts of all runs, checks and sweeps that can go on, by owner."""
    query = sa.select(CHECKPOINTS.c.owner, CHECKPOINTS.c.content).where(CHECKPOINTS.c.part == BEGUN)
    return {row.owner: row.content for row in connection.execute(query.order_by(CHECKPOINTS.c.owner))}

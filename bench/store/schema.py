"""Tables of the store after the newest migration of ``bench.store.migrations``."""

from __future__ import annotations

import sqlalchemy as sa

HEAD = "0006"
"""The newest migration."""

METADATA = sa.MetaData()
RUNS = sa.Table(
    "runs",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("command", sa.Text, nullable=False),
    sa.Column("started_at", sa.String(32), nullable=False, index=True),
    sa.Column("rounds", sa.Integer, nullable=False),
    sa.Column("schedule", sa.Text, nullable=False),
    sa.Column("design", sa.Text, nullable=False),
    sa.Column("acknowledged", sa.Text, nullable=True),
)
RECORDS = sa.Table(
    "records",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("row_key", sa.String(512), nullable=False),
    sa.Column("backend", sa.String(128), nullable=False, index=True),
    sa.Column("model", sa.String(128), nullable=False),
    sa.Column("dataset", sa.String(128), nullable=False),
    sa.Column("recipe", sa.String(128), nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("schema", sa.Integer, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("machine", sa.String(64), nullable=True, index=True),
    sa.Column("commit", sa.String(64), nullable=True, index=True),
    sa.Column("series", sa.String(24), nullable=True, index=True),
    sa.Column("versions", sa.Text, nullable=True),
    sa.UniqueConstraint("run_id", "row_key"),
)
FIGURES = sa.Table(
    "figures",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("record_id", sa.Integer, sa.ForeignKey("records.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("task", sa.String(16), nullable=True),
    sa.Column("batch_size", sa.Integer, nullable=True),
    sa.Column("boundary", sa.String(16), nullable=True),
    sa.Column("unit", sa.String(32), nullable=False),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("low", sa.Float, nullable=True),
    sa.Column("high", sa.Float, nullable=True),
    sa.Column("n", sa.Integer, nullable=False),
)
WEIGHTS = sa.Table(
    "weights",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("row", sa.String(256), nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("run_id", "row"),
)
CHECKPOINTS = sa.Table(
    "checkpoints",
    METADATA,
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("part", sa.String(600), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
"""What a run or check (``owner``: its name) that has not ended goes on from (``bench.runner.checkpoints``)."""
TAGS = sa.Table(
    "tags",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
)
FLEET_JOBS = sa.Table(
    "fleet_jobs",
    METADATA,
    sa.Column("fleet", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("content", sa.Text, nullable=False),
)
"""The jobs of a fleet (``bench.fleet.jobs``), in their order."""


def _documents(name: str) -> sa.Table:
    """A table of JSON documents by name, which are read whole and never searched."""
    return sa.Table(
        name,
        METADATA,
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.String(32), nullable=False, index=True),
        sa.Column("content", sa.Text, nullable=False),
    )


CHECKS, SIDES, BASELINES, BISECTIONS, SWEEPS, FLEETS = map(
    _documents, ("checks", "sides", "baselines", "bisections", "sweeps", "fleets")
)

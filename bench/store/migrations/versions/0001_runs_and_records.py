"""Runs and records."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("started_at", sa.String(32), nullable=False, index=True),
        sa.Column("rounds", sa.Integer, nullable=False),
        sa.Column("schedule", sa.Text, nullable=False),
    )
    op.create_table(
        "records",
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
        sa.UniqueConstraint("run_id", "row_key"),
    )


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("records")
    op.drop_table("runs")

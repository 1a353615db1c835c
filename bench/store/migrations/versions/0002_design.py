"""The design and the timing of runs: precision target, budget, seconds by phase."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; older runs have no target and no timing."""
    op.add_column("runs", sa.Column("design", sa.Text, nullable=False, server_default="{}"))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("runs", "design")

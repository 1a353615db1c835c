"""How a run was designed and where its time went: precision target, budget, timing."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Older runs had no target, and their timing was not kept."""
    op.add_column("runs", sa.Column("design", sa.Text, nullable=False, server_default="{}"))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("runs", "design")

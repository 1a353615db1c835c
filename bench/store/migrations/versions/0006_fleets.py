"""Fleets: jobs that were sent to other machines."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "fleets",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("created_at", sa.String(32), nullable=False, index=True),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.create_table(
        "fleet_jobs",
        sa.Column("fleet", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("content", sa.Text, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("fleet_jobs")
    op.drop_table("fleets")

"""History: indexed columns of records, their metrics as numbers, tags, acknowledgements, checks, baselines."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NEW = ("machine", "commit", "series", "versions")
DOCUMENTS = ("checks", "sides", "baselines", "bisections")


def upgrade() -> None:
    """Add columns and tables; the store fills the columns of older records from their content."""
    op.add_column("runs", sa.Column("acknowledged", sa.Text, nullable=True))
    # SQLite reads a row from its start: with the long content last, the other columns are read without it.
    with op.batch_alter_table("records", partial_reordering=[("status", "schema", *NEW, "content")]) as records:
        records.add_column(sa.Column("machine", sa.String(64), nullable=True))
        records.add_column(sa.Column("commit", sa.String(64), nullable=True))
        records.add_column(sa.Column("series", sa.String(24), nullable=True))
        records.add_column(sa.Column("versions", sa.Text, nullable=True))
    for column in ("machine", "commit", "series"):
        op.create_index(f"ix_records_{column}", "records", [column])
    op.create_table(
        "figures",
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
    op.create_table(
        "tags",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    )
    for name in DOCUMENTS:
        op.create_table(
            name,
            sa.Column("name", sa.String(64), primary_key=True),
            sa.Column("created_at", sa.String(32), nullable=False, index=True),
            sa.Column("content", sa.Text, nullable=False),
        )


def downgrade() -> None:
    """Drop these tables and columns; records keep their content."""
    for name in (*DOCUMENTS, "tags", "figures"):
        op.drop_table(name)
    for column in ("machine", "commit", "series"):
        op.drop_index(f"ix_records_{column}", "records")
    with op.batch_alter_table("records") as records:
        for column in NEW:
            records.drop_column(column)
    op.drop_column("runs", "acknowledged")

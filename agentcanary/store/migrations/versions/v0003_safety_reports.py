"""Reports of safety beside their rollout instead of in it: many batches count them at once. Room for growing rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the numbers, and leave room in the pages of PostgreSQL in which conversations grow."""
    op.create_table(
        "safety_reports",
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("reports", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "slot"),
    )
    op.execute("INSERT INTO safety_reports (rollout, slot, reports) SELECT id, 0, reports FROM rollouts")
    op.drop_column("rollouts", "reports")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE conversations SET (fillfactor = 75)")

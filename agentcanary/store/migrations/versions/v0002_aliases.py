"""The ids that servers make for a conversation after its first turn."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of aliases."""
    op.create_table(
        "aliases",
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("agent", "alias"),
        sqlite_with_rowid=False,
    )
    op.create_index("aliases_unit", "aliases", ["agent", "unit"], unique=False)

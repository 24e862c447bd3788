"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "audit",
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("before", sa.String(), nullable=False),
        sa.Column("after", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "revision"),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "conversations",
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("excluded", sa.String(), nullable=True),
        sa.Column("cohort_at", sa.Double(), nullable=False),
        sa.Column("on_canary", sa.SmallInteger(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("last_turn_at", sa.Double(), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False),
        sa.Column("open", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("aborted", sa.Integer(), nullable=False),
        sa.Column("turn_log", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("agent", "unit", "rollout"),
    )
    op.create_index("conversations_cohort", "conversations", ["agent", "rollout", "cohort_at"], unique=False)
    exceptional = "rollout != '' AND (excluded IS NOT NULL OR (arm = 'canary' AND on_canary = 0))"
    op.create_index(
        "conversations_exceptional",
        "conversations",
        ["agent", "rollout", "cohort_at"],
        unique=False,
        sqlite_where=sa.text(exceptional),
        postgresql_where=sa.text(exceptional),
    )
    op.create_table(
        "counted_assignments",
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("excluded", sa.String(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "epoch", "arm", "excluded"),
    )
    op.create_table(
        "counted_histograms",
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("bin", sa.Integer(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "metric", "epoch", "arm", "bin"),
    )
    op.create_table(
        "counted_tallies",
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("bucket", sa.SmallInteger(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("observed", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Double(), nullable=False),
        sa.Column("total_squares", sa.Double(), nullable=False),
        sa.Column("size", sa.Double(), nullable=False),
        sa.Column("size_squares", sa.Double(), nullable=False),
        sa.Column("product", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "metric", "epoch", "arm", "bucket"),
    )
    op.create_table(
        "leases",
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("agent"),
    )
    op.create_table(
        "looks",
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("look", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "at"),
    )
    op.create_table(
        "outbox",
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("next_attempt", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("done_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("rollout", "revision", "position"),
    )
    op.create_index(
        "outbox_due",
        "outbox",
        ["next_attempt"],
        unique=False,
        sqlite_where=sa.text("done_at IS NULL"),
        postgresql_where=sa.text("done_at IS NULL"),
    )
    op.create_table(
        "outcomes",
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=True),
        sa.Column("turn_id", sa.String(), nullable=True),
        sa.Column("confirmed", sa.SmallInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("corrected_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("agent", "id"),
    )
    op.create_index("outcomes_unit", "outcomes", ["agent", "unit"], unique=False)
    op.create_table(
        "pins",
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("excluded", sa.String(), nullable=True),
        sa.Column("fallback", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("agent", "unit", "rollout"),
        sqlite_with_rowid=False,
    )
    op.create_index("pins_newest", "pins", ["agent", "rollout", "created_at"], unique=False)
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("stable", sa.String(), nullable=False),
        sa.Column("canary", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("stopped_at", sa.Double(), nullable=True),
        sa.Column("stop_reason", sa.String(), nullable=False),
        sa.Column("admitted_until", sa.Double(), nullable=True),
        sa.Column("reports", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("rollouts_attempt", "rollouts", ["agent", "stable", "canary", "attempt"], unique=True)
    op.create_index("rollouts_newest", "rollouts", ["agent", "created_at"], unique=False)
    op.create_index(
        "rollouts_one_at_a_time",
        "rollouts",
        ["agent"],
        unique=True,
        sqlite_where=sa.text("phase NOT IN ('promoted', 'rolled_back')"),
        postgresql_where=sa.text("phase NOT IN ('promoted', 'rolled_back')"),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "violations",
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("agent", "outcome"),
    )
    op.create_index("violations_newest", "violations", ["agent", "at"], unique=False)
    op.create_table(
        "watermarks",
        sa.Column("rollout", sa.String(), nullable=False),
        sa.Column("metric", sa.String(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "metric"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("config_hash", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("reachable_since", sa.Double(), nullable=False),
        sa.Column("heartbeat_at", sa.Double(), nullable=False),
        sa.Column("flushed_until", sa.Double(), nullable=False),
        sa.Column("degraded", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )

"""The tables, as SQLAlchemy Core. All SQL on them runs on SQLite and on PostgreSQL.

Rows of conversations lead with agent and unit, so that they shard. All times are Unix seconds. What is kept for people
and read back whole is JSON text.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String, primary_key=True),
    Column("agent", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("phase", String, nullable=False),
    Column("stable", String, nullable=False),
    Column("canary", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("stopped_at", Double),
    Column("stop_reason", String, nullable=False),
    # Conversations that begin up to this time are complete; one that is stored later joins the next cohort.
    Column("admitted_until", Double),
    Column("state", Text, nullable=False),
    Index("rollouts_newest", "agent", "created_at"),
    Index("rollouts_attempt", "agent", "stable", "canary", "attempt", unique=True),
    # One rollout of an agent at a time, also when two workers start one at the same moment.
    Index(
        "rollouts_one_at_a_time",
        "agent",
        unique=True,
        sqlite_where=text("phase NOT IN ('promoted', 'rolled_back')"),
        postgresql_where=text("phase NOT IN ('promoted', 'rolled_back')"),
    ),
)

pins = Table(
    "pins",
    metadata,
    Column("agent", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("rollout", String, nullable=False),
    Column("arm", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("excluded", String),
    Column("fallback", SmallInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    PrimaryKeyConstraint("agent", "unit", "rollout"),
    Index("pins_newest", "agent", "rollout", "created_at"),
    sqlite_with_rowid=False,
)

# Ids that servers made for a unit after its first turn was assigned: session, thread and response ids.
aliases = Table(
    "aliases",
    metadata,
    Column("agent", String, nullable=False),
    Column("alias", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("created_at", Double, nullable=False),
    PrimaryKeyConstraint("agent", "alias"),
    Index("aliases_unit", "agent", "unit"),
    sqlite_with_rowid=False,
)

# Conversations of a rollout that its split did not decide; a query that names them by this text finds the index.
EXCEPTIONAL = "rollout != '' AND (excluded IS NOT NULL OR (arm = 'canary' AND on_canary = 0))"

conversations = Table(
    "conversations",
    metadata,
    Column("agent", String, nullable=False),
    Column("unit", String, nullable=False),
    # Empty outside a rollout.
    Column("rollout", String, nullable=False),
    # The first writer fixes these.
    Column("arm", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("version", String, nullable=False),
    Column("bucket", SmallInteger, nullable=False),
    Column("excluded", String),
    # When it joins the cohorts: its first turn, or later if it was stored after its cohort had been counted.
    Column("cohort_at", Double, nullable=False),
    # These grow with every turn.
    Column("on_canary", SmallInteger, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("last_turn_at", Double, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("open", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("aborted", Integer, nullable=False),
    Column("turn_log", Text, nullable=False),
    PrimaryKeyConstraint("agent", "unit", "rollout"),
    Index("conversations_cohort", "agent", "rollout", "cohort_at"),
    # Few, so that it costs the other turns nothing.
    Index(
        "conversations_exceptional",
        "agent",
        "rollout",
        "cohort_at",
        sqlite_where=text(EXCEPTIONAL),
        postgresql_where=text(EXCEPTIONAL),
    ),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("agent", String, nullable=False),
    Column("id", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("name", String, nullable=False),
    Column("value", Double),
    Column("label", String),
    Column("kind", String, nullable=False),
    Column("explanation", Text),
    Column("turn_id", String),
    Column("confirmed", SmallInteger, nullable=False),
    # When it was first received, and when what is stored of it was.
    Column("at", Double, nullable=False),
    Column("corrected_at", Double, nullable=False),
    PrimaryKeyConstraint("agent", "id"),
    Index("outcomes_unit", "agent", "unit"),
)

# Confirmed safety violations, few: asked for in the transaction of every batch.
violations = Table(
    "violations",
    metadata,
    Column("agent", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("label", String),
    Column("at", Double, nullable=False),
    PrimaryKeyConstraint("agent", "outcome"),
    Index("violations_newest", "agent", "at"),
)

# How many safety reports were received for the agent while the rollout had not ended: the sum over all slots.
safety_reports = Table(
    "safety_reports",
    metadata,
    Column("rollout", String, nullable=False),
    Column("slot", SmallInteger, nullable=False),
    Column("reports", BigInteger, nullable=False),
    PrimaryKeyConstraint("rollout", "slot"),
)

counted_assignments = Table(
    "counted_assignments",
    metadata,
    Column("rollout", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("arm", String, nullable=False),
    # Empty for those that are in the statistics.
    Column("excluded", String, nullable=False),
    Column("units", BigInteger, nullable=False),
    PrimaryKeyConstraint("rollout", "epoch", "arm", "excluded"),
)

counted_tallies = Table(
    "counted_tallies",
    metadata,
    Column("rollout", String, nullable=False),
    Column("metric", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("arm", String, nullable=False),
    Column("bucket", SmallInteger, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("observed", BigInteger, nullable=False),
    Column("total", Double, nullable=False),
    Column("total_squares", Double, nullable=False),
    # The denominators of ratios.
    Column("size", Double, nullable=False),
    Column("size_squares", Double, nullable=False),
    Column("product", Double, nullable=False),
    PrimaryKeyConstraint("rollout", "metric", "epoch", "arm", "bucket"),
)

counted_histograms = Table(
    "counted_histograms",
    metadata,
    Column("rollout", String, nullable=False),
    Column("metric", String, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("arm", String, nullable=False),
    Column("bin", Integer, nullable=False),
    Column("n", BigInteger, nullable=False),
    PrimaryKeyConstraint("rollout", "metric", "epoch", "arm", "bin"),
)

# Up to where each metric is counted; the metric '' stands for the assignments themselves.
watermarks = Table(
    "watermarks",
    metadata,
    Column("rollout", String, nullable=False),
    Column("metric", String, nullable=False),
    Column("until", Double, nullable=False),
    PrimaryKeyConstraint("rollout", "metric"),
)

looks = Table(
    "looks",
    metadata,
    Column("rollout", String, nullable=False),
    Column("at", Double, nullable=False),
    Column("verdict", String, nullable=False),
    Column("look", Text, nullable=False),
    PrimaryKeyConstraint("rollout", "at"),
)

audit = Table(
    "audit",
    metadata,
    Column("rollout", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("agent", String, nullable=False),
    Column("at", Double, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("before", String, nullable=False),
    Column("after", String, nullable=False),
    PrimaryKeyConstraint("rollout", "revision"),
)

outbox = Table(
    "outbox",
    metadata,
    # rollout, revision and position: the same effect can never be stored twice.
    Column("rollout", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("agent", String, nullable=False),
    Column("effect", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("next_attempt", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("done_at", Double),
    PrimaryKeyConstraint("rollout", "revision", "position"),
    Index(
        "outbox_due",
        "next_attempt",
        sqlite_where=text("done_at IS NULL"),
        postgresql_where=text("done_at IS NULL"),
    ),
)

leases = Table(
    "leases",
    metadata,
    Column("agent", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("expires_at", Double, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String, primary_key=True),
    Column("agent", String, nullable=False),
    Column("host", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("config_hash", String, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("reachable_since", Double, nullable=False),
    Column("heartbeat_at", Double, nullable=False),
    Column("flushed_until", Double, nullable=False),
    Column("degraded", Text, nullable=False),
)

# Ids of batches that their recorder may still send again.
batches = Table(
    "batches",
    metadata,
    Column("id", String, primary_key=True),
    Column("at", Double, nullable=False),
)

# Digests of conversations that were forgotten, with a key: what is on its way must not bring them back.
forgotten = Table(
    "forgotten",
    metadata,
    Column("digest", String, primary_key=True),
    Column("at", Double, nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

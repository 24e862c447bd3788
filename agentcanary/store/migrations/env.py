"""Run by Alembic: the migrations of an open connection, in its transaction."""

from __future__ import annotations

from alembic import context

from agentcanary.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()

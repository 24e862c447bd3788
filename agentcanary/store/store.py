"""The store: one class over everything that is kept."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sqlalchemy import select

from agentcanary.outcomes import Record
from agentcanary.rollout import Rollout
from agentcanary.store.aliases import Aliases
from agentcanary.store.batch import Batch, coalesce
from agentcanary.store.conversations import Conversations
from agentcanary.store.counting import Counting
from agentcanary.store.database import Database
from agentcanary.store.forgetting import Forgetting
from agentcanary.store.ingest import Ingest
from agentcanary.store.leases import Leases
from agentcanary.store.outbox import Outbox
from agentcanary.store.pins import Pins
from agentcanary.store.reading import Reading
from agentcanary.store.receiving import Receiving
from agentcanary.store.reported import ReportedOutcomes
from agentcanary.store.retention import Retention
from agentcanary.store.rollouts import Rollouts
from agentcanary.store.schema import secrets
from agentcanary.store.segments import Segments
from agentcanary.store.tallies import aggregates
from agentcanary.store.workers import Workers
from agentcanary_analysis.aggregates import Aggregates


class Store(
    Rollouts,
    Pins,
    Aliases,
    Counting,
    Conversations,
    Receiving,
    Forgetting,
    Retention,
    ReportedOutcomes,
    Outbox,
    Reading,
    Segments,
    Leases,
    Workers,
):
    """Everything that is kept, for any number of workers.

    Safe to use from any thread, and after a fork. Cheap to make: it connects, creates and migrates on first use.
    It has no clock: every time is an argument, in Unix seconds.

    Args:
        url: ``sqlite:///path/to/file.sqlite3`` or ``postgresql+psycopg://user@host/database``.

    Raises:
        StoreError: From every method, when the store cannot be reached, read or written.
        StoreRefusedError: From every method, when it must not be used as it is.
    """

    def __init__(self, url: str) -> None:
        super().__init__(Database(url))
        self._ingest = Ingest(self._database)

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self._database.name

    def open(self) -> None:
        """Create or migrate the store if needed, and connect; what the first use would do."""
        self._database.open()

    def schema(self) -> str | None:
        """The schema version that the store has now, None for an empty one; looks without opening it."""
        return self._database.schema()

    def close(self) -> None:
        """Close all connections. The next use opens it again."""
        self._database.close()

    def apply(self, batch_id: str, records: Sequence[Record]) -> None:
        """Store records, once however often it is retried.

        A confirmed safety violation in a conversation that a canary served stops its rollout in the same transaction.

        Args:
            batch_id: Unique for ever; the same at every retry.
            records: Turns and outcomes, in any order.
        """
        self.add(batch_id, coalesce(records))

    def add(self, batch_id: str, batch: Batch, settled: Sequence[str] = ()) -> None:
        """``apply`` for records that were put together before.

        Args:
            batch_id: Unique for ever; the same at every retry.
            batch: What is added.
            settled: Ids of batches that will never be sent again, so that they need not be remembered.
        """
        self._ingest.add(batch_id, batch, settled)

    def aggregates(self, rollout: Rollout) -> Aggregates:
        """Everything counted of a rollout so far.

        Raises:
            UnknownError: If it is not in the store.
        """
        return aggregates(self._database, rollout)

    def secret(self, name: str) -> bytes:
        """A random secret of 32 bytes, made at the first request, the same in every worker."""
        made = os.urandom(32).hex()
        with self._database.write() as connection:
            insert = self._database.insert(secrets).values(name=name, value=made).on_conflict_do_nothing()
            connection.execute(insert)
            kept = connection.execute(select(secrets.c.value).where(secrets.c.name == name)).scalar_one()
        return bytes.fromhex(kept)

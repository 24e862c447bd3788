"""Retention: old conversations go, their sums stay, also while their rollout runs.

A rollout under way has counted what it needs of a conversation when all its metrics have; from then on the
conversation is only itself. What a safety violation is about stays until its rollout has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from sqlalchemy import Connection, delete, select, tuple_

from agentcanary.rollout import Phase
from agentcanary.store.counted import counted_until
from agentcanary.store.database import StorePart
from agentcanary.store.forgetting import ANONYMOUS, REMEMBERED_FOR
from agentcanary.store.schema import (
    aliases,
    batches,
    conversations,
    forgotten,
    looks,
    outbox,
    outcomes,
    pins,
    rollouts,
    violations,
    workers,
)

# Of one transaction: other writers wait for it.
SLICE = 2000


class Retention(StorePart):
    """Deletes what is older than it has to be."""

    def prune(self, before: float, *, slices: int = 1_000_000) -> int:
        """Delete conversations whose last turn was before a time, with their pins, outcomes and aliases.

        Those that a rollout under way has yet to count are kept. Rollouts, counts and the audit log are kept for good.

        Args:
            before: Unix time in seconds; later than any horizon ago.
            slices: At most so many transactions; what is left is for the next time.

        Returns:
            The number of conversations deleted.
        """
        deleted = 0
        with self._database.read() as connection:
            groups = connection.execute(select(conversations.c.agent, conversations.c.rollout).distinct()).all()
        for agent, rollout in groups:
            while slices > 0:
                slices -= 1
                with self._database.write() as connection:
                    found = _slice(connection, agent, rollout, before)
                    _delete(connection, agent, rollout, found)
                deleted += len(found)
                if len(found) < SLICE:
                    break
        with self._database.write() as connection:
            _prune_orphans(connection, before)
        return deleted

    def prune_nameless(self) -> int:
        """Delete what was kept of forgotten conversations only to be counted, once it is counted."""
        deleted = 0
        with self._database.write() as connection:
            c = conversations.c
            kept = select(c.agent, c.rollout).where(c.unit >= ANONYMOUS, c.unit < ANONYMOUS[:-1] + "~").distinct()
            for agent, rollout in connection.execute(kept).all():
                found = _slice(connection, agent, rollout, inf, nameless=True)
                _delete(connection, agent, rollout, found)
                deleted += len(found)
        return deleted

    def prune_looks(self, before: float) -> int:
        """Delete the evidence over time of ended rollouts from before a time; returns the number of looks."""
        with self._database.write() as connection:
            ended = select(rollouts.c.id).where(rollouts.c.phase.in_([Phase.PROMOTED, Phase.ROLLED_BACK]))
            return connection.execute(delete(looks).where(looks.c.at < before, looks.c.rollout.in_(ended))).rowcount

    def prune_books(self, before: float) -> None:
        """Delete what only we need, from before a time: delivered messages, ids of batches, workers that died."""
        with self._database.write() as connection:
            connection.execute(delete(outbox).where(outbox.c.done_at < before))
            connection.execute(delete(batches).where(batches.c.at < before))
            connection.execute(delete(workers).where(workers.c.heartbeat_at < before))
            connection.execute(delete(forgotten).where(forgotten.c.at < before - REMEMBERED_FOR))


def _slice(connection: Connection, agent: str, rollout: str, before: float, *, nameless: bool = False) -> Sequence[str]:
    """Units of an agent and a rollout that may go, the oldest first."""
    c, v = conversations.c, violations.c
    # The first of the two is what the index knows.
    query = select(c.unit).where(c.agent == agent, c.rollout == rollout, c.cohort_at < before, c.last_turn_at < before)
    if nameless:
        query = query.where(c.unit >= ANONYMOUS, c.unit < ANONYMOUS[:-1] + "~")
    phase = connection.execute(select(rollouts.c.phase).where(rollouts.c.id == rollout)).scalar()
    if phase is not None and not Phase(phase).ended:
        violated = select(v.unit).where(v.agent == agent, v.unit == c.unit)
        query = query.where(c.cohort_at <= counted_until(connection, rollout), ~violated.exists())
    return connection.scalars(query.order_by(c.cohort_at).limit(SLICE)).all()


def _delete(connection: Connection, agent: str, rollout: str, units: Sequence[str]) -> None:
    c, p = conversations.c, pins.c
    for some in _hundreds(units):
        connection.execute(delete(conversations).where(c.agent == agent, c.rollout == rollout, c.unit.in_(some)))
        connection.execute(delete(pins).where(p.agent == agent, p.rollout == rollout, p.unit.in_(some)))
        elsewhere = set(connection.scalars(select(c.unit).where(c.agent == agent, c.unit.in_(some))))
        alone = [unit for unit in some if unit not in elsewhere]
        for table in (outcomes, aliases, violations):
            connection.execute(delete(table).where(table.c.agent == agent, table.c.unit.in_(alone)))


def _prune_orphans(connection: Connection, before: float) -> None:
    """Delete old pins, outcomes and aliases of conversations that are not there."""
    c = conversations.c
    for table, at in ((outcomes, outcomes.c.at), (aliases, aliases.c.created_at), (pins, pins.c.created_at)):
        there = select(c.unit).where(c.agent == table.c.agent, c.unit == table.c.unit)
        key = list(table.primary_key)
        running = select(rollouts.c.id).where(rollouts.c.phase.not_in([Phase.PROMOTED, Phase.ROLLED_BACK]))
        old = select(*key).where(at < before, ~there.exists())
        if table is pins:
            old = old.where(pins.c.rollout.not_in(running))
        connection.execute(delete(table).where(tuple_(*key).in_(old.limit(SLICE))))


def _hundreds(units: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(units), 500):
        yield units[start : start + 500]

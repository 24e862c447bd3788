"""One controller an agent: a lease with a number that grows with every new holder.

A holder that was paused for longer than its lease does not know that it lost it. Its number does: what it saves
afterwards is refused.
"""

from __future__ import annotations

from sqlalchemy import and_, case, or_, select, update

from agentcanary.store.database import StorePart
from agentcanary.store.schema import leases


class Leases(StorePart):
    """The leases of a store."""

    def acquire(self, agent: str, owner: str, now: float, ttl: float) -> int | None:
        """Take the lease, or renew it.

        Args:
            agent: Name of the agent.
            owner: Unique among all that may ask.
            now: Unix time in seconds.
            ttl: Seconds for which it is held.

        Returns:
            The fencing number, or None while somebody else holds the lease.
        """
        c = leases.c
        insert = self._database.insert(leases).values(agent=agent, owner=owner, fence=1, expires_at=now + ttl)
        mine = c.owner == insert.excluded.owner
        free = c.expires_at <= now
        take = insert.on_conflict_do_update(
            index_elements=[c.agent],
            set_={
                "owner": insert.excluded.owner,
                "expires_at": insert.excluded.expires_at,
                "fence": case((and_(mine, c.expires_at > now), c.fence), else_=c.fence + 1),
            },
            where=or_(mine, free),
        )
        with self._database.write() as connection:
            connection.execute(take)
            held = connection.execute(select(c.owner, c.fence).where(c.agent == agent)).one()
        return int(held.fence) if held.owner == owner else None

    def renew(self, agent: str, owner: str, fence: int, now: float, ttl: float) -> bool:
        """Hold the lease for another ``ttl`` seconds; False when somebody else took it."""
        c = leases.c
        with self._database.write() as connection:
            renewed = connection.execute(
                update(leases).where(c.agent == agent, c.owner == owner, c.fence == fence).values(expires_at=now + ttl)
            )
        return renewed.rowcount == 1

    def release(self, agent: str, owner: str) -> None:
        """Let somebody else have it at once; nothing when ``owner`` does not hold it."""
        c = leases.c
        with self._database.write() as connection:
            connection.execute(update(leases).where(c.agent == agent, c.owner == owner).values(expires_at=0.0))

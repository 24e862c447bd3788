"""What people read of a rollout's past: the times of its looks, and what was sent about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from agentcanary.rollout import Effect
from agentcanary.store.database import StorePart
from agentcanary.store.outbox import stored_effect
from agentcanary.store.rollouts import StoredLook
from agentcanary.store.schema import looks, outbox, watermarks


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An effect of a rollout and what became of it. All times are Unix seconds.

    Attributes:
        effect: What is to be done outside.
        created_at: When it was decided.
        done_at: When it was done, or None.
        attempts: How often it failed.
        error: What went wrong the last time; empty once it is done.
    """

    effect: Effect
    created_at: float
    done_at: float | None
    attempts: int
    error: str


class Reading(StorePart):
    """Reads the past of rollouts."""

    def counted_until(self, rollout: str) -> float | None:
        """Up to where a rollout's conversations are counted, Unix time in seconds: its counts are the same until then.

        None before the first count.
        """
        query = select(func.max(watermarks.c.until)).where(watermarks.c.rollout == rollout)
        with self._database.read() as connection:
            found = connection.scalar(query)
        return None if found is None else float(found)

    def look_times(self, rollout: str) -> list[float]:
        """When a rollout was looked at, Unix time in seconds, the oldest first."""
        query = select(looks.c.at).where(looks.c.rollout == rollout).order_by(looks.c.at)
        with self._database.read() as connection:
            return list(connection.scalars(query))

    def looks_at(self, rollout: str, times: Sequence[float]) -> list[StoredLook]:
        """The looks at these times, the oldest first."""
        query = select(looks).where(looks.c.rollout == rollout, looks.c.at.in_(times)).order_by(looks.c.at)
        with self._database.read() as connection:
            found = connection.execute(query).all()
        return [StoredLook(row.at, row.verdict, json.loads(row.look)) for row in found]

    def deliveries(self, rollout: str, *, limit: int = 50) -> list[Delivery]:
        """The effects of a rollout, done or not, the newest first."""
        query = (
            select(outbox)
            .where(outbox.c.rollout == rollout)
            .order_by(outbox.c.created_at.desc(), outbox.c.revision.desc(), outbox.c.position.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            found = connection.execute(query).all()
        return [
            Delivery(
                effect=stored_effect(row.effect),
                created_at=row.created_at,
                done_at=row.done_at,
                attempts=row.attempts,
                error=row.error,
            )
            for row in found
        ]

"""The outbox: effects that are stored with their transition, and kept until they are done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, and_, select, update

from agentcanary.errors import UnknownError
from agentcanary.rollout import Effect, EffectKind
from agentcanary.store.database import StorePart
from agentcanary.store.schema import outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An effect that is not done.

    Attributes:
        id: The same at every attempt, so that a receiver can recognise it.
        agent: Name of the agent.
        rollout: Id of the rollout.
        effect: What is to be done.
        created_at: Unix time in seconds of the transition.
        attempts: How often it was tried.
        error: What went wrong the last time.
    """

    id: str
    agent: str
    rollout: str
    effect: Effect
    created_at: float
    attempts: int
    error: str


def add_effects(
    connection: Connection, agent: str, rollout: str, revision: int, effects: Sequence[Effect], now: float
) -> None:
    """Store the effects of a transition, in its transaction."""
    rows = [
        {
            "rollout": rollout,
            "revision": revision,
            "position": position,
            "agent": agent,
            "effect": json.dumps(asdict(effect)),
            "created_at": now,
            "next_attempt": now,
            "attempts": 0,
            "error": "",
        }
        for position, effect in enumerate(effects)
    ]
    if rows:
        connection.execute(outbox.insert(), rows)


class Outbox(StorePart):
    """Reads the outbox and keeps its book."""

    def due(self, now: float, agent: str | None = None, *, limit: int = 100) -> list[Pending]:
        """Effects to try now, in the order in which they were caused.

        Args:
            now: Unix time in seconds.
            agent: Only this agent's.
            limit: At most so many.
        """
        condition = and_(outbox.c.done_at.is_(None), outbox.c.next_attempt <= now)
        if agent is not None:
            condition = and_(condition, outbox.c.agent == agent)
        return self._pending(condition, limit)

    def undone(self, rollout: str) -> list[Pending]:
        """Every effect of a rollout that is not done, due or not."""
        return self._pending(and_(outbox.c.done_at.is_(None), outbox.c.rollout == rollout), 1000)

    def done(self, effect_id: str, now: float) -> None:
        """Note that an effect is done. A second time is the same as the first."""
        with self._database.write() as connection:
            connection.execute(
                update(outbox).where(_is(effect_id), outbox.c.done_at.is_(None)).values(done_at=now, error="")
            )

    def failed(self, effect_id: str, error: str, next_attempt: float) -> None:
        """Note that an attempt failed, and when the next one is due."""
        with self._database.write() as connection:
            connection.execute(
                update(outbox)
                .where(_is(effect_id), outbox.c.done_at.is_(None))
                .values(attempts=outbox.c.attempts + 1, error=error, next_attempt=next_attempt)
            )

    def _pending(self, condition: Any, limit: int) -> list[Pending]:
        order = (outbox.c.created_at, outbox.c.rollout, outbox.c.revision, outbox.c.position)
        with self._database.read() as connection:
            rows = connection.execute(select(outbox).where(condition).order_by(*order).limit(limit)).all()
        return [
            Pending(
                id=f"{row.rollout}:{row.revision}:{row.position}",
                agent=row.agent,
                rollout=row.rollout,
                effect=stored_effect(row.effect),
                created_at=row.created_at,
                attempts=row.attempts,
                error=row.error,
            )
            for row in rows
        ]


def _is(effect_id: str) -> Any:
    try:
        rollout, revision, position = effect_id.rsplit(":", 2)
        return and_(outbox.c.rollout == rollout, outbox.c.revision == int(revision), outbox.c.position == int(position))
    except ValueError:
        raise UnknownError(
            f"effect {effect_id!r} is not in the outbox; ids look like ROLLOUT:REVISION:POSITION"
        ) from None


def stored_effect(stored: str) -> Effect:
    """The effect that ``add_effects`` stored."""
    values = json.loads(stored)
    return Effect(**{**values, "kind": EffectKind(values["kind"])})

"""Rollouts: one durable record, changed by compare-and-set, together with its audit, its look and its effects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, literal_column, select, update

from agentcanary.errors import ConflictError, UnknownError
from agentcanary.rollout import Audit, Effect, Rollout, Transition, rollout_from_dict
from agentcanary.store.database import Database, StorePart
from agentcanary.store.outbox import add_effects
from agentcanary.store.schema import audit as audit_table
from agentcanary.store.schema import leases, looks, rollouts


class Revision(NamedTuple):
    """Differs whenever an agent's newest rollout does.

    Attributes:
        id: Id of the rollout.
        revision: Its revision.
        stopped_at: When a safety violation stopped it, or None.
    """

    id: str
    revision: int
    stopped_at: float | None


class StoredLook(NamedTuple):
    """What one look found.

    Attributes:
        at: Unix time in seconds.
        verdict: What was decided.
        look: As it was given to ``save``.
    """

    at: float
    verdict: str
    look: dict[str, Any]


_NEWEST_FIRST = (rollouts.c.created_at.desc(), rollouts.c.id.desc())


class Rollouts(StorePart):
    """The rollouts of a store."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._revision = database.compiled(
            select(rollouts.c.id, rollouts.c.revision, rollouts.c.stopped_at)
            .where(rollouts.c.agent == bindparam("agent"))
            .order_by(*_NEWEST_FIRST)
            .limit(literal_column("1"))
            .offset(literal_column("0"))
        )

    def start(self, rollout: Rollout, audit: Audit | None = None, effects: Sequence[Effect] = ()) -> None:
        """Store a new rollout.

        Raises:
            ConflictError: If the agent has one that has not ended, or this attempt was started before.
        """
        with self._database.write() as connection:
            self._refuse_second(connection, rollout)
            connection.execute(
                rollouts.insert().values(
                    id=rollout.id,
                    agent=rollout.agent,
                    attempt=rollout.attempt,
                    stable=rollout.stable,
                    canary=rollout.canary,
                    created_at=rollout.created_at,
                    **_changing(rollout),
                )
            )
            _add_audit(connection, rollout, audit)
            add_effects(connection, rollout.agent, rollout.id, rollout.revision, effects, rollout.created_at)

    def save(
        self,
        transition: Transition,
        *,
        expected_revision: int,
        now: float,
        look: Mapping[str, Any] | None = None,
        fence: int | None = None,
    ) -> Rollout:
        """Store a transition, its audit entry, its effects and its look in one transaction.

        Args:
            transition: What was decided; a rollout that did not change keeps its revision.
            expected_revision: Revision of the rollout that was decided about.
            now: Unix time in seconds of the decision.
            look: The evidence, as plain values for JSON; None stores no look.
            fence: The controller's fencing number; None for an operator's action, which needs no lease.

        Returns:
            The rollout as it is stored now.

        Raises:
            ConflictError: If the rollout was changed since, or another controller took over; nothing was stored.
            UnknownError: If the rollout is not in the store.
        """
        rollout = transition.rollout
        with self._database.write() as connection:
            if fence is not None:
                _refuse_old_fence(connection, rollout.agent, fence)
            stored = connection.execute(select(rollouts).where(rollouts.c.id == rollout.id)).one_or_none()
            if stored is None:
                raise UnknownError(f"rollout {rollout.id!r} is not in the store; store it with start()")
            if stored.revision != expected_revision:
                raise ConflictError(
                    f"rollout {rollout.id} has revision {stored.revision}, not {expected_revision}: "
                    f"load it again and decide again"
                )
            unchanged = replace(rollout, revision=stored.revision) == _rollout(stored)
            after = replace(rollout, revision=stored.revision if unchanged else expected_revision + 1)
            if not unchanged:
                changed = connection.execute(
                    update(rollouts)
                    .where(rollouts.c.id == rollout.id, rollouts.c.revision == expected_revision)
                    .values(**_changing(after))
                )
                if changed.rowcount != 1:
                    raise ConflictError(f"rollout {rollout.id} was changed by somebody else meanwhile")
                _add_audit(connection, after, transition.audit)
                add_effects(connection, after.agent, after.id, after.revision, transition.effects, now)
            if look is not None:
                insert = self._database.insert(looks).values(
                    rollout=rollout.id, at=now, verdict=transition.verdict.value, look=json.dumps(look)
                )
                connection.execute(insert.on_conflict_do_nothing())
        return after

    def current(self, agent: str) -> Rollout | None:
        """The agent's newest rollout."""
        with self._database.read() as connection:
            query = select(rollouts).where(rollouts.c.agent == agent).order_by(*_NEWEST_FIRST).limit(1)
            stored = connection.execute(query).one_or_none()
        return None if stored is None else _rollout(stored)

    def revision(self, agent: str) -> Revision | None:
        """Of the agent's newest rollout, as cheaply as possible: every worker polls it."""
        rows = self._database.fetch(self._revision, (agent,))
        return Revision(*rows[0]) if rows else None

    def rollout(self, rollout: str) -> Rollout:
        """The rollout of that id.

        Raises:
            UnknownError: If there is none.
        """
        with self._database.read() as connection:
            stored = connection.execute(select(rollouts).where(rollouts.c.id == rollout)).one_or_none()
        if stored is None:
            raise UnknownError(f"rollout {rollout!r} is not in the store")
        return _rollout(stored)

    def rollouts(self, agent: str | None = None) -> list[Rollout]:
        """All rollouts, of one agent or of all, the newest first."""
        query = select(rollouts).order_by(*_NEWEST_FIRST)
        if agent is not None:
            query = query.where(rollouts.c.agent == agent)
        with self._database.read() as connection:
            return [_rollout(stored) for stored in connection.execute(query)]

    def agents(self) -> list[str]:
        """Names of the agents that ever had a rollout, sorted."""
        with self._database.read() as connection:
            return list(connection.scalars(select(rollouts.c.agent).distinct().order_by(rollouts.c.agent)))

    def looks(self, rollout: str, *, since: float | None = None, limit: int | None = None) -> list[StoredLook]:
        """The looks at a rollout, the oldest first.

        Args:
            rollout: Its id.
            since: Only later ones; Unix time in seconds.
            limit: Only the newest so many.
        """
        query = select(looks).where(looks.c.rollout == rollout).order_by(looks.c.at.desc())
        if since is not None:
            query = query.where(looks.c.at > since)
        with self._database.read() as connection:
            found = connection.execute(query.limit(limit)).all()
        return [StoredLook(row.at, row.verdict, json.loads(row.look)) for row in reversed(found)]

    def audit(self, rollout: str) -> list[Audit]:
        """Who changed a rollout and why, the oldest first."""
        query = select(audit_table).where(audit_table.c.rollout == rollout).order_by(audit_table.c.revision)
        with self._database.read() as connection:
            found = connection.execute(query).all()
        return [
            Audit(at=row.at, actor=row.actor, action=row.action, reason=row.reason, before=row.before, after=row.after)
            for row in found
        ]

    def _refuse_second(self, connection: Connection, rollout: Rollout) -> None:
        for stored in connection.execute(select(rollouts).where(rollouts.c.agent == rollout.agent)):
            other = _rollout(stored)
            pair = (other.stable, other.canary, other.attempt)
            if not other.phase.ended:
                raise ConflictError(
                    f"agent {rollout.agent!r} already has the rollout {other.id} ({other.phase.value}); one at a time"
                )
            if pair == (rollout.stable, rollout.canary, rollout.attempt):
                raise ConflictError(
                    f"attempt {rollout.attempt} from {rollout.stable} to {rollout.canary} was already made "
                    f"({other.id}, {other.phase.value}); restart it"
                )


def _changing(rollout: Rollout) -> dict[str, Any]:
    """The columns that a transition changes."""
    return {
        "revision": rollout.revision,
        "phase": rollout.phase.value,
        "stopped_at": rollout.stopped_at,
        "stop_reason": rollout.stop_reason,
        "state": json.dumps(rollout.to_dict()),
    }


def _rollout(stored: Any) -> Rollout:
    # The columns are newer than the state where a safety violation stopped the rollout.
    return replace(
        rollout_from_dict(json.loads(stored.state)),
        revision=stored.revision,
        stopped_at=stored.stopped_at,
        stop_reason=stored.stop_reason,
    )


def _add_audit(connection: Connection, rollout: Rollout, entry: Audit | None) -> None:
    if entry is not None:
        connection.execute(
            audit_table.insert().values(
                rollout=rollout.id,
                revision=rollout.revision,
                agent=rollout.agent,
                at=entry.at,
                actor=entry.actor,
                action=entry.action,
                reason=entry.reason,
                before=entry.before,
                after=entry.after,
            )
        )


def _refuse_old_fence(connection: Connection, agent: str, fence: int) -> None:
    held = connection.scalar(select(leases.c.fence).where(leases.c.agent == agent))
    if held != fence:
        raise ConflictError(f"another controller took over agent {agent!r}: its fence is {held}, ours is {fence}")

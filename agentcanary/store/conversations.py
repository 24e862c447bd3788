"""Single conversations: what is known of one, how many are live, and what is kept for how long."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, func, select

from agentcanary.assignment import Pin
from agentcanary.outcomes import Judge, Outcome
from agentcanary.rollout import Phase
from agentcanary.store import turn_log
from agentcanary.store.aliases import units_of
from agentcanary.store.batch import storable
from agentcanary.store.database import StorePart
from agentcanary.store.schema import aliases, batches, conversations, looks, outbox, outcomes, pins, rollouts, workers
from agentcanary_analysis.aggregates import Arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A conversation in one rollout, or outside any. All times are Unix seconds.

    Attributes:
        rollout: Id of the rollout, empty outside one.
        arm: Its arm.
        epoch: The epoch of its assignment, -1 for none.
        version: The version of its first turn.
        bucket: Its resampling bucket.
        excluded: Why it is in no statistic, or None.
        on_canary: True when the canary served one of its turns.
        started_at: Its first turn.
        last_turn_at: Its last turn.
        turns: How many.
        open: Those that have not ended.
        errors: Those that ended in error.
        aborted: Those that the client left.
        log: Each of them, see ``turn_log``.
        pin: What is pinned, or None.
    """

    rollout: str
    arm: Arm
    epoch: int
    version: str
    bucket: int
    excluded: str | None
    on_canary: bool
    started_at: float
    last_turn_at: float
    turns: int
    open: int
    errors: int
    aborted: int
    log: tuple[turn_log.Entry, ...]
    pin: Pin | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Everything that is known of a conversation.

    Attributes:
        agent: Name of the agent.
        unit: The conversation.
        parts: One for each rollout, the oldest first.
        outcomes: In the order in which they were received.
    """

    agent: str
    unit: str
    parts: tuple[Part, ...]
    outcomes: tuple[Outcome, ...]


class Conversations(StorePart):
    """The conversations of a store."""

    def conversation(self, agent: str, unit: str) -> Known | None:
        """Everything known of one conversation, by its id or by one that a server made for it; or None."""
        unit = storable(unit)
        with self._database.snapshot() as connection:
            unit = units_of(connection, agent, [unit]).get(unit, unit)
            found = connection.execute(
                select(conversations)
                .where(conversations.c.agent == agent, conversations.c.unit == unit)
                .order_by(conversations.c.started_at)
            ).all()
            pinned = connection.execute(select(pins).where(pins.c.agent == agent, pins.c.unit == unit)).all()
            reported = connection.execute(
                select(outcomes)
                .where(outcomes.c.agent == agent, outcomes.c.unit == unit)
                .order_by(outcomes.c.at, outcomes.c.id)
            ).all()
        if not (found or pinned or reported):
            return None
        pin_of = {row.rollout: Pin(Arm(row.arm), row.epoch, row.excluded, bool(row.fallback)) for row in pinned}
        parts = tuple(
            Part(
                rollout=row.rollout,
                arm=Arm(row.arm),
                epoch=row.epoch,
                version=row.version,
                bucket=row.bucket,
                excluded=row.excluded,
                on_canary=bool(row.on_canary),
                started_at=row.started_at,
                last_turn_at=row.last_turn_at,
                turns=row.turns,
                open=row.open,
                errors=row.errors,
                aborted=row.aborted,
                log=tuple(turn_log.read(row.turn_log)),
                pin=pin_of.get(row.rollout),
            )
            for row in found
        )
        return Known(agent=agent, unit=unit, parts=parts, outcomes=tuple(_outcome(row) for row in reported))

    def live_conversations(self, agent: str, rollout: str, arm: Arm, *, now: float, idle_after: float) -> int:
        """Conversations of one arm that had a turn within the last ``idle_after`` seconds, excluded ones included."""
        c = conversations.c
        with self._database.read() as connection:
            count = connection.scalar(
                select(func.count()).where(
                    c.agent == agent, c.rollout == rollout, c.arm == arm.value, c.last_turn_at > now - idle_after
                )
            )
        return int(count or 0)

    def prune(self, before: float) -> int:
        """Delete what ended before a time: conversations with their pins and outcomes, looks, book-keeping.

        Rollouts that have not ended keep everything; rollouts, counts and the audit log are kept for good.

        Args:
            before: Unix time in seconds; later than any horizon ago.

        Returns:
            The number of conversations deleted.
        """
        running = select(rollouts.c.id).where(rollouts.c.phase.not_in([Phase.PROMOTED, Phase.ROLLED_BACK]))
        c = conversations.c
        with self._database.write() as connection:
            deleted = connection.execute(
                delete(conversations).where(c.last_turn_at < before, c.rollout.not_in(running))
            ).rowcount
            connection.execute(delete(pins).where(pins.c.created_at < before, pins.c.rollout.not_in(running)))
            remaining = select(c.unit).where(c.agent == outcomes.c.agent, c.unit == outcomes.c.unit)
            connection.execute(delete(outcomes).where(outcomes.c.at < before, ~remaining.exists()))
            named = select(c.unit).where(c.agent == aliases.c.agent, c.unit == aliases.c.unit)
            connection.execute(delete(aliases).where(aliases.c.created_at < before, ~named.exists()))
            connection.execute(delete(looks).where(looks.c.at < before, looks.c.rollout.not_in(running)))
            connection.execute(delete(outbox).where(outbox.c.done_at < before))
            connection.execute(delete(batches).where(batches.c.at < before))
            connection.execute(delete(workers).where(workers.c.heartbeat_at < before))
        return deleted


def _outcome(row: object) -> Outcome:
    values = dict(row._mapping)  # type: ignore[attr-defined] # a row of the table ``outcomes``
    del values["corrected_at"]
    values["conversation_id"] = values.pop("unit")
    return Outcome(**{**values, "kind": Judge(values["kind"]), "confirmed": bool(values["confirmed"])})

"""Single conversations: what is known of one, and how many are live."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from agentcanary.assignment import Pin
from agentcanary.outcomes import Judge, Outcome
from agentcanary.store import turn_log
from agentcanary.store.aliases import units_of
from agentcanary.store.batch import storable
from agentcanary.store.database import StorePart
from agentcanary.store.schema import conversations, outcomes, pins
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
        return Known(agent=agent, unit=unit, parts=parts, outcomes=tuple(outcome_of(row) for row in reported))

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


def outcome_of(row: object) -> Outcome:
    """The outcome in a row of the table ``outcomes``."""
    values = dict(row._mapping)  # type: ignore[attr-defined] # a row of the table ``outcomes``
    del values["corrected_at"]
    values["conversation_id"] = values.pop("unit")
    return Outcome(**{**values, "kind": Judge(values["kind"]), "confirmed": bool(values["confirmed"])})

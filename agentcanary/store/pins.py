"""Pins: the stored assignments that later turns of a unit follow. The first writer wins."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, case, literal_column, null, select, text

from agentcanary.assignment import Pin, Reason
from agentcanary.store.batch import storable
from agentcanary.store.database import Database, StorePart
from agentcanary.store.schema import EXCEPTIONAL, conversations, pins, rollouts
from agentcanary_analysis.aggregates import Arm

_BEGAN_BEFORE = Pin(Arm.STABLE, -1, Reason.BEGAN_BEFORE.value)
_BEGAN_AFTER = Pin(Arm.CANARY, -1, Reason.NO_ROLLOUT.value)


class Pins(StorePart):
    """The pins of a store; one statement a look-up."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        pinned = select(
            *(pins.c.arm, pins.c.epoch, pins.c.excluded, pins.c.fallback, pins.c.rollout),
            *(null(), literal_column("0"), literal_column("0")),
        ).where(
            pins.c.agent == bindparam("agent"),
            pins.c.unit == bindparam("unit"),
            pins.c.rollout == bindparam("rollout"),
        )
        canary = select(rollouts.c.canary).where(rollouts.c.id == bindparam("rollout")).scalar_subquery()
        recorded = select(
            conversations.c.arm,
            conversations.c.epoch,
            conversations.c.excluded,
            conversations.c.on_canary,
            conversations.c.rollout,
            conversations.c.last_turn_at,
            case((conversations.c.version == canary, literal_column("1")), else_=literal_column("0")),
            literal_column("1"),
        ).where(conversations.c.agent == bindparam("agent"), conversations.c.unit == bindparam("unit"))
        c = conversations.c
        others = select(rollouts.c.id).where(
            rollouts.c.agent == bindparam("agent"), rollouts.c.id != bindparam("rollout")
        )
        exceptions = (
            select(pins.c.unit)
            .where(
                pins.c.agent == bindparam("agent"),
                pins.c.rollout == bindparam("rollout"),
                pins.c.created_at > bindparam("since"),
            )
            .union_all(
                select(c.unit).where(
                    c.agent == bindparam("agent"),
                    c.rollout == bindparam("rollout"),
                    c.cohort_at > bindparam("since"),
                    text(EXCEPTIONAL),
                ),
                select(c.unit).where(
                    c.agent == bindparam("agent"),
                    c.rollout.in_(others.union_all(select(literal_column("''")))),
                    c.cohort_at > bindparam("elsewhere_since"),
                ),
            )
            .limit(bindparam("limit"))
            .offset(literal_column("0"))
        )
        mine = select(c.unit).where(c.agent == bindparam("agent"), c.unit >= bindparam("after"))
        until = mine.distinct().order_by(c.unit).limit(literal_column("1")).offset(bindparam("rows"))
        elsewhere = mine.where(c.rollout != bindparam("rollout"), c.last_turn_at > bindparam("active_since"))
        self._exceptions = database.compiled(exceptions)
        self._until = database.compiled(until)
        self._elsewhere = database.compiled(elsewhere.where(c.unit < bindparam("until")))
        self._elsewhere_last = database.compiled(elsewhere)
        insert = database.insert(pins).on_conflict_do_nothing()
        self._look_up = database.compiled(pinned.union_all(recorded))
        self._insert = database.compiled(insert)
        self._read_back = database.compiled(pinned)

    def pin(self, agent: str, rollout: str, unit: str, *, now: float, idle_after: float) -> Pin | None:
        """What a unit was given before: its pin, or what was recorded of it in this rollout.

        Args:
            agent: Name of the agent.
            rollout: Id of the rollout.
            unit: The unit.
            now: Unix time in seconds.
            idle_after: Seconds without a turn after which a conversation has ended.

        Returns:
            None for a unit that is new. A conversation that is live, but not in this rollout, began before it: it
            stays on stable and in no statistic. One that the canary has without being in any rollout began after
            this one was promoted: it stays with the canary.
        """
        unit = storable(unit)
        recorded = live = None
        for arm, epoch, excluded, flag, of_rollout, last_turn_at, by_canary, is_recorded in self._database.fetch(
            self._look_up, (agent, unit, rollout, rollout, agent, unit)
        ):
            if not is_recorded:
                return Pin(Arm(arm), epoch, excluded, bool(flag))
            if of_rollout == rollout:
                # A unit of the canary that the canary never served fell back to stable at its first turn.
                recorded = Pin(Arm(arm), epoch, excluded, arm == "canary" and not flag)
            elif last_turn_at > now - idle_after:
                after = by_canary and not of_rollout and arm == Arm.CANARY.value
                live = _BEGAN_AFTER if after else live or _BEGAN_BEFORE
        return recorded or live

    def put_pin(self, agent: str, rollout: str, unit: str, pin: Pin, now: float) -> Pin:
        """Store a pin unless there is one; the one that holds."""
        unit = storable(unit)
        row = (agent, unit, rollout, pin.arm.value, pin.epoch, pin.excluded, int(pin.fallback), now)
        if self._database.store(self._insert, row):
            return pin
        ((arm, epoch, excluded, fallback, *_),) = self._database.fetch(self._read_back, (agent, unit, rollout))
        return Pin(Arm(arm), epoch, excluded, bool(fallback))

    def exceptions(
        self, agent: str, rollout: str, *, since: float, elsewhere_since: float, limit: int
    ) -> Sequence[str]:
        """Units that the split of a rollout did not decide, however they were kept; some of them twice.

        Args:
            agent: Name of the agent.
            rollout: Id of the rollout.
            since: Those that were pinned, or began, after this Unix time.
            elsewhere_since: Conversations of the agent that are not the rollout's and began after this Unix time.
            limit: At most so many.
        """
        here = (agent, rollout, since)
        found = self._database.fetch(self._exceptions, (*here, *here, agent, agent, rollout, elsewhere_since, limit))
        return [unit for (unit,) in found]

    def live_elsewhere(
        self, agent: str, rollout: str, *, after: str, active_since: float, rows: int
    ) -> tuple[Sequence[str], str | None]:
        """Units that had a turn outside a rollout, of a part of all conversations: no index knows the last turns.

        Args:
            agent: Name of the agent.
            rollout: Id of the rollout.
            after: Where the part begins: empty, or what the part before returned.
            active_since: Unix time of the turn, at least.
            rows: Units that are read, at least 1.

        Returns:
            The units, and where the next part begins; None after the last one.
        """
        ends = self._database.fetch(self._until, (agent, after, rows))
        sought = (agent, after, rollout, active_since)
        if not ends:
            return [unit for (unit,) in self._database.fetch(self._elsewhere_last, sought)], None
        until: str = ends[0][0]
        return [unit for (unit,) in self._database.fetch(self._elsewhere, (*sought, until))], until

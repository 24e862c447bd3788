"""What the store is asked about outcomes that others send: is the conversation known, and take one back."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select, update

from agentcanary.outcomes import Outcome
from agentcanary.store.aliases import units_of
from agentcanary.store.batch import storable
from agentcanary.store.conversations import outcome_of
from agentcanary.store.database import StorePart
from agentcanary.store.schema import conversations, outcomes, violations


class Receiving(StorePart):
    """Outcomes that others send."""

    def known_units(self, agent: str, units: Sequence[str]) -> frozenset[str]:
        """Those of some units, by their ids or by ones that servers made, that have had a turn with an agent.

        Args:
            agent: Name of the agent.
            units: At most some thousands.
        """
        stored = {storable(unit): unit for unit in units}
        c = conversations.c
        with self._database.read() as connection:
            of = units_of(connection, agent, stored)
            names = {of.get(name, name) for name in stored}
            found = set(
                connection.scalars(select(c.unit).where(c.agent == agent, c.unit.in_(sorted(names))).distinct())
            )
        return frozenset(unit for name, unit in stored.items() if of.get(name, name) in found)

    def outcome(self, agent: str, outcome: str) -> Outcome | None:
        """An outcome by its id, or None."""
        o = outcomes.c
        with self._database.read() as connection:
            row = connection.execute(select(outcomes).where(o.agent == agent, o.id == storable(outcome))).first()
        return None if row is None else outcome_of(row)

    def withdraw(self, agent: str, outcome: str, now: float) -> bool:
        """Take an outcome back: it has no value any more, which is missing and never 0.

        A row without a value stays, so that a delivery of the same outcome that was sent before, and comes later, does
        not bring it back. What was counted with it stays counted.

        Args:
            agent: Name of the agent.
            outcome: Its id.
            now: Unix time in seconds.

        Returns:
            False if there is none.
        """
        o, v = outcomes.c, violations.c
        name = storable(outcome)
        with self._database.write() as connection:
            found = connection.execute(
                update(outcomes)
                .where(o.agent == agent, o.id == name)
                .values(value=None, label=None, explanation=None, confirmed=0, corrected_at=now)
            ).rowcount
            connection.execute(delete(violations).where(v.agent == agent, v.outcome == name))
        return found > 0

"""What the store is asked about outcomes that others send: is the conversation known, and take one back."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select, update

from agentcanary.store.batch import storable
from agentcanary.store.database import StorePart
from agentcanary.store.schema import conversations, outcomes, violations


class Receiving(StorePart):
    """Outcomes that others send."""

    def known_units(self, agent: str, units: Sequence[str]) -> frozenset[str]:
        """Those of some units that have had a turn with an agent.

        Args:
            agent: Name of the agent.
            units: At most some thousands.
        """
        stored = {storable(unit): unit for unit in units}
        c = conversations.c
        with self._database.read() as connection:
            found = connection.scalars(select(c.unit).where(c.agent == agent, c.unit.in_(list(stored))).distinct())
            return frozenset(stored[unit] for unit in found)

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

"""Aliases: the other names of a unit, made by servers after its first turn was assigned. The first writer wins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, bindparam, select

from agentcanary.store.batch import storable
from agentcanary.store.database import Database, StorePart
from agentcanary.store.schema import aliases


class Aliases(StorePart):
    """The aliases of a store; one statement a look-up."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        named = select(aliases.c.unit).where(
            aliases.c.agent == bindparam("agent"), aliases.c.alias == bindparam("alias")
        )
        self._alias_of = database.compiled(named)
        self._add_alias = database.compiled(database.insert(aliases).on_conflict_do_nothing())

    def alias(self, agent: str, alias: str) -> str | None:
        """The unit that an alias stands for, or None for what is no alias.

        Args:
            agent: Name of the agent.
            alias: An id that a server may have made.
        """
        found = self._database.fetch(self._alias_of, (agent, storable(alias)))
        return found[0][0] if found else None

    def put_alias(self, agent: str, alias: str, unit: str, now: float) -> str:
        """Store an alias unless there is one; the unit that it stands for from now on.

        Args:
            agent: Name of the agent.
            alias: The id that the server made.
            unit: The unit that the turn belongs to.
            now: Unix time in seconds.
        """
        alias, unit = storable(alias), storable(unit)
        if self._database.store(self._add_alias, (agent, alias, unit, now)):
            return unit
        ((standing,),) = self._database.fetch(self._alias_of, (agent, alias))
        return str(standing)


def units_of(connection: Connection, agent: str, names: Iterable[str]) -> Mapping[str, str]:
    """The units of those names that are aliases.

    Args:
        connection: In a transaction.
        agent: Name of the agent.
        names: Storable ids of conversations.
    """
    found = connection.execute(
        select(aliases.c.alias, aliases.c.unit).where(aliases.c.agent == agent, aliases.c.alias.in_(sorted(set(names))))
    )
    return {row.alias: row.unit for row in found}

"""Forgetting a conversation: its rows go, and what is still on its way to the store does not bring it back.

What was counted stays: sums of hundreds of conversations hold nobody's data, and taking one out of a cohort after its
fate is known would make the evidence wrong. What a rollout under way has yet to count is kept without its name until
then: had it to go at once, those who were harmed could leave the statistics.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from sqlalchemy import Connection, delete, func, or_, select, tuple_, update

from agentcanary.rollout import Phase
from agentcanary.store.aliases import units_of
from agentcanary.store.batch import Batch, storable
from agentcanary.store.counted import counted_until
from agentcanary.store.database import StorePart
from agentcanary.store.schema import (
    aliases,
    audit,
    conversations,
    forgotten,
    looks,
    outbox,
    outcomes,
    pins,
    rollouts,
    violations,
)
from agentcanary.store.schema import secrets as kept_secrets

ANONYMOUS = "forgotten-"
# Journals of machines that were off: so long nothing that was on its way is taken in.
REMEMBERED_FOR = 30 * 86_400.0
_SECRET = "forgotten"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What became of a conversation.

    Attributes:
        deleted: Rows that are gone, by kind.
        nameless: Parts of it that a rollout under way has yet to count: kept without a name until then.
        counted: Ids of the rollouts whose sums it is part of.
        mentions: Rows written by people that name it, by kind; nobody's words are changed.
    """

    deleted: Mapping[str, int] = field(default_factory=dict)
    nameless: int = 0
    counted: tuple[str, ...] = ()
    mentions: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Forgotten) -> Forgotten:
        kinds = {*self.deleted, *other.deleted}
        said = {*self.mentions, *other.mentions}
        return Forgotten(
            deleted={kind: self.deleted.get(kind, 0) + other.deleted.get(kind, 0) for kind in sorted(kinds)},
            nameless=self.nameless + other.nameless,
            counted=tuple(sorted({*self.counted, *other.counted})),
            mentions={kind: self.mentions.get(kind, 0) + other.mentions.get(kind, 0) for kind in sorted(said)},
        )

    @property
    def nothing(self) -> bool:
        """True when nothing was known of it."""
        return not any(self.deleted.values()) and not self.nameless and not self.mentions


class Forgetting(StorePart):
    """Forgets conversations."""

    def aliases_of(self, agent: str, unit: str) -> list[str]:
        """The ids that servers made for a unit."""
        with self._database.read() as connection:
            named = select(aliases.c.alias).where(aliases.c.agent == agent, aliases.c.unit == storable(unit))
            return sorted(connection.scalars(named))

    def compact(self) -> None:
        """Rewrite an SQLite file, so that no page keeps what was deleted; another database does that by itself.

        Raises:
            StoreError: If others use the file all the time.
        """
        if self._database.dialect == "sqlite":
            with self._database.read() as connection:
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def forget(self, agent: str, unit: str, now: float) -> Forgotten:
        """Forget a conversation, by its id or by one that a server made for it.

        Args:
            agent: Name of the agent.
            unit: The unit, or an alias.
            now: Unix time in seconds; what is on its way from before then is not taken in any more.
        """
        asked = storable(unit)
        with self._database.write() as connection:
            unit = units_of(connection, agent, [asked]).get(asked, asked)
            a = aliases.c
            named = list(connection.scalars(select(a.alias).where(a.agent == agent, a.unit == unit)))
            key = forgetting_key(connection, self)
            for name in {asked, unit, *named}:
                insert = self._database.insert(forgotten).values(digest=_digest(key, agent, name), at=now)
                connection.execute(insert.on_conflict_do_update(index_elements=["digest"], set_={"at": now}))
            result = _forget(connection, agent, unit)
            gone = {"aliases": connection.execute(delete(aliases).where(a.agent == agent, a.unit == unit)).rowcount}
            return result + Forgotten(deleted=gone, mentions=_mentions(connection, {asked, unit, *named}))


def forgetting_key(connection: Connection, store: StorePart) -> bytes:
    """The key under which those are remembered who must not come back; made at the first of them."""
    insert = store._database.insert(kept_secrets).values(name=_SECRET, value=secrets.token_hex(32))
    connection.execute(insert.on_conflict_do_nothing())
    kept: str = connection.execute(select(kept_secrets.c.value).where(kept_secrets.c.name == _SECRET)).scalar_one()
    return bytes.fromhex(kept)


def without_forgotten(connection: Connection, batch: Batch) -> Batch:
    """A batch without what began, or was received, before its conversation was forgotten.

    Args:
        connection: In the transaction that adds the batch.
        batch: What is to be added.
    """
    # Asked for every batch, and nearly always empty.
    if connection.exec_driver_sql("SELECT 1 FROM forgotten LIMIT 1").first() is None:
        return batch
    kept = connection.execute(select(kept_secrets.c.value).where(kept_secrets.c.name == _SECRET)).scalar_one()
    key = bytes.fromhex(kept)
    names = {(row.agent, row.unit) for row in batch.conversations} | {(row.agent, row.unit) for row in batch.outcomes}
    digests = {_digest(key, agent, unit): (agent, unit) for agent, unit in names}
    gone: dict[tuple[str, str], float] = {}
    wanted = sorted(digests)
    for start in range(0, len(wanted), 500):
        rows = connection.execute(select(forgotten).where(forgotten.c.digest.in_(wanted[start : start + 500])))
        gone |= {digests[row.digest]: row.at for row in rows}
    if not gone:
        return batch
    never = float("-inf")
    begun = [row for row in batch.conversations if row.started_at > gone.get((row.agent, row.unit), never)]
    again = {(row.agent, row.unit) for row in begun} | _there(connection, sorted(gone))
    return batch._replace(
        conversations=begun,
        outcomes=[row for row in batch.outcomes if (row.agent, row.unit) not in gone or (row.agent, row.unit) in again],
    )


def _there(connection: Connection, names: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those that have had a turn since."""
    c = conversations.c
    found = connection.execute(select(c.agent, c.unit).where(tuple_(c.agent, c.unit).in_(names)).distinct())
    return {(row.agent, row.unit) for row in found}


def _forget(connection: Connection, agent: str, unit: str) -> Forgotten:
    c, o, v, p = conversations.c, outcomes.c, violations.c, pins.c
    parts = connection.execute(select(c.rollout, c.cohort_at).where(c.agent == agent, c.unit == unit)).all()
    counted = {part.rollout: counted_until(connection, part.rollout) for part in parts if part.rollout}
    unsafe = connection.scalar(select(func.count()).where(v.agent == agent, v.unit == unit)) or 0
    running = set(
        connection.scalars(
            select(rollouts.c.id).where(
                rollouts.c.id.in_(counted), rollouts.c.phase.not_in([Phase.PROMOTED, Phase.ROLLED_BACK])
            )
        )
    )
    # A safety violation counts for as long as its rollout runs, by the conversation that it is in.
    needed = [
        part.rollout for part in parts if part.rollout in running and (unsafe or part.cohort_at > counted[part.rollout])
    ]
    gone = delete(conversations).where(c.agent == agent, c.unit == unit, c.rollout.not_in(needed))
    deleted = {
        "conversations": connection.execute(gone).rowcount,
        "pins": connection.execute(delete(pins).where(p.agent == agent, p.unit == unit)).rowcount,
    }
    if needed:
        deleted |= _unname(connection, agent, unit)
    else:
        deleted["outcomes"] = connection.execute(delete(outcomes).where(o.agent == agent, o.unit == unit)).rowcount
        connection.execute(delete(violations).where(v.agent == agent, v.unit == unit))
    in_sums = tuple(sorted(part.rollout for part in parts if part.rollout and part.cohort_at <= counted[part.rollout]))
    return Forgotten(deleted=deleted, nameless=len(needed), counted=in_sums)


def _unname(connection: Connection, agent: str, unit: str) -> dict[str, int]:
    """Give a conversation and its outcomes names that say nothing, and keep only what is counted of them."""
    c, o, v = conversations.c, outcomes.c, violations.c
    name = f"{ANONYMOUS}{secrets.token_hex(16)}"
    connection.execute(update(conversations).where(c.agent == agent, c.unit == unit).values(unit=name))
    found = connection.scalars(select(o.id).where(o.agent == agent, o.unit == unit)).all()
    for number, outcome in enumerate(found):
        renamed = f"{name}-{number}"
        connection.execute(
            update(outcomes)
            .where(o.agent == agent, o.id == outcome)
            .values(id=renamed, unit=name, explanation=None, turn_id=None)
        )
        connection.execute(
            update(violations).where(v.agent == agent, v.outcome == outcome).values(outcome=renamed, unit=name)
        )
    return {"outcomes": 0}


def _mentions(connection: Connection, names: set[str]) -> dict[str, int]:
    """Rows that hold one of these names in their words."""
    found = {}
    texts = {"audit": audit.c.reason, "outbox": outbox.c.effect, "looks": looks.c.look, "rollouts": rollouts.c.state}
    for kind, column in texts.items():
        says = or_(*(column.contains(name, autoescape=True) for name in sorted(names)))
        count = connection.scalar(select(func.count()).select_from(column.table).where(says)) or 0
        if count:
            found[kind] = count
    return found


def _digest(key: bytes, agent: str, unit: str) -> str:
    """What remembers a forgotten conversation: nobody without the key can tell whose it is."""
    return blake2b(f"{agent}\x00{unit}".encode("utf-8", "replace"), key=key, digest_size=16).hexdigest()

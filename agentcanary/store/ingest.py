"""Adding a batch: once however often it is sent, and a safety violation stops its rollout in the same transaction.

SQLite writes one batch after the other. PostgreSQL writes them side by side, so a batch locks the rows of its
rollouts: shared, so that no count announces meanwhile that its cohort is complete; alone, when a safety violation is
about, so that it and the turn that it is about cannot miss each other. Rows are written in the order of their keys:
two batches that share conversations wait for each other, and never in a circle.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf, nextafter
from operator import itemgetter
from typing import Any
from zlib import crc32

from sqlalchemy import Connection, bindparam, case, delete, func, literal, literal_column, select, update

from agentcanary.errors import ContentionError
from agentcanary.outcomes import SAFETY_VIOLATION
from agentcanary.rollout import Phase
from agentcanary.store import turn_log
from agentcanary.store.aliases import units_of
from agentcanary.store.batch import Batch, ConversationRow, OutcomeRow
from agentcanary.store.database import BATCH_TIMEOUT, Database
from agentcanary.store.forgetting import without_forgotten
from agentcanary.store.rows import many_rows
from agentcanary.store.schema import (
    batches,
    conversations,
    counted_assignments,
    outcomes,
    rollouts,
    safety_reports,
    violations,
)

# Outcomes may be received by a worker whose clock is a little behind that of the worker that began the conversation.
_CLOCK_TOLERANCE = 5.0
# A violation may be stored before the turn that it is about, by another worker. Within this many seconds every
# batch looks for that; after them every count.
_VIOLATION_WAITS = 600.0
_ATTEMPTS = 4
# The columns of the primary keys.
_CONVERSATION = itemgetter(*map(ConversationRow._fields.index, ("agent", "unit", "rollout")))
_OUTCOME = itemgetter(*map(OutcomeRow._fields.index, ("agent", "id")))
# Rows among which the reports of a rollout are spread, so that batches do not wait for each other at one of them.
_SLOTS = 16


class _AloneError(Exception):
    """A safety violation was found by a batch that holds its rollouts together with others."""


class Ingest:
    """Writes batches.

    Args:
        database: The store's connections.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        # Statements of every batch, compiled once: building them costs more than executing them.
        self._conversations = many_rows(database, _add_conversation(database), conversations)
        self._outcomes = many_rows(database, _add_outcome(database), outcomes)
        self._remember = database.compiled(database.insert(batches).on_conflict_do_nothing())
        self._forget = database.compiled(delete(batches).where(batches.c.id == bindparam("id")))
        admitted = select(rollouts.c.admitted_until).where(rollouts.c.id == bindparam("id"))
        self._admitted = database.compiled(admitted.with_for_update(read=True))
        # One batch at a time is all that there is on SQLite.
        self._serial = database.dialect == "sqlite"
        self._violated = database.compiled(
            select(violations.c.outcome)
            .where(violations.c.agent == bindparam("agent"), violations.c.at > bindparam("since"))
            .limit(literal_column("1"))
            .offset(literal_column("0"))
        )

    def add(self, batch_id: str, batch: Batch, settled: Sequence[str] = ()) -> None:
        """Add a batch unless it was added before.

        Args:
            batch_id: Unique for ever.
            batch: What is added.
            settled: Ids of batches that will never be sent again, so that they need not be remembered.
        """
        self._database.still_there()
        batch = Batch(
            sorted(batch.conversations, key=_CONVERSATION), sorted(batch.outcomes, key=_OUTCOME), sorted(batch.nameless)
        )
        alone = self._serial or any(
            row.name == SAFETY_VIOLATION and row.value and row.confirmed for row in batch.outcomes
        )
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._add(batch_id, batch, settled, alone=alone)
            except _AloneError:
                alone = True
            except ContentionError:
                if attempt == _ATTEMPTS:
                    raise
            else:
                return
        self._add(batch_id, batch, settled, alone=alone)

    def _add(self, batch_id: str, batch: Batch, settled: Sequence[str], *, alone: bool) -> None:
        with self._database.write(wait=BATCH_TIMEOUT) as connection:
            if settled:
                connection.exec_driver_sql(self._forget, [(settled_id,) for settled_id in settled])
            at = max((row.last_turn_at for row in batch.conversations), default=0.0)
            at = max(at, max((row.corrected_at for row in batch.outcomes), default=0.0))
            if connection.exec_driver_sql(self._remember, (batch_id, at)).rowcount == 0:
                return
            batch = without_forgotten(connection, batch)
            agents = sorted({row.agent for row in batch.conversations} | {row.agent for row in batch.outcomes})
            since = at - _VIOLATION_WAITS
            alone = alone or bool(self._unsafe_agents(connection, agents, since))
            if alone and not self._serial:
                _lock_rollouts(connection, agents)
            self._conversations(connection, self._in_cohorts(connection, batch.conversations))
            reports = self._add_outcomes(connection, batch.outcomes) if batch.outcomes else {}
            for row in batch.nameless:
                self._add_nameless(connection, row.rollout, row.arm, row.excluded, row.turns)
            unsafe = self._unsafe_agents(connection, agents, since)
            if unsafe and not alone:
                raise _AloneError
            stop_unsafe(connection, unsafe)
            self._count_reports(connection, batch_id, reports)

    def _unsafe_agents(self, connection: Connection, agents: Sequence[str], since: float) -> list[str]:
        return [agent for agent in agents if connection.exec_driver_sql(self._violated, (agent, since)).first()]

    def _in_cohorts(self, connection: Connection, rows: Sequence[ConversationRow]) -> Sequence[ConversationRow]:
        """The rows, those of them that come too late for their cohort put into the next one."""
        admitted = {}
        for name in sorted({row.rollout for row in rows} - {""}):
            found = connection.exec_driver_sql(self._admitted, (name,)).first()
            if found is not None and found[0] is not None:
                admitted[name] = found[0]
        if not admitted:
            return rows
        return [
            row
            if row.cohort_at > (until := admitted.get(row.rollout, -inf))
            else row._replace(cohort_at=nextafter(until, inf))
            for row in rows
        ]

    def _add_outcomes(self, connection: Connection, rows: Sequence[OutcomeRow]) -> dict[str, int]:
        """Add them; new safety reports by agent."""
        rows = _under_their_units(connection, rows)
        reports: dict[str, list[str]] = {}
        for row in rows:
            if row.name == SAFETY_VIOLATION:
                reports.setdefault(row.agent, []).append(row.id)
        new = {}
        for agent, ids in reports.items():
            known = connection.scalar(select(func.count()).where(outcomes.c.agent == agent, outcomes.c.id.in_(ids)))
            new[agent] = len(ids) - (known or 0)
        self._outcomes(connection, rows)
        for agent, ids in reports.items():
            self._add_violations(connection, agent, ids)
        return new

    def _count_reports(self, connection: Connection, batch_id: str, reports: Mapping[str, int]) -> None:
        """Count reports for the rollout under way; last of all, because every batch with a report comes here."""
        slot = crc32(batch_id.encode()) % _SLOTS
        for agent, new in sorted(reports.items()):
            c = safety_reports.c
            running = select(rollouts.c.id, literal(slot), literal(new)).where(
                rollouts.c.agent == agent, rollouts.c.phase.not_in([Phase.PROMOTED, Phase.ROLLED_BACK])
            )
            insert = self._database.insert(safety_reports).from_select([c.rollout, c.slot, c.reports], running)
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=[*safety_reports.primary_key], set_={"reports": c.reports + insert.excluded.reports}
                )
            )

    def _add_violations(self, connection: Connection, agent: str, ids: Sequence[str]) -> None:
        # What is stored now decides, not what this batch holds: a later correction may already be there.
        stored = connection.execute(select(outcomes).where(outcomes.c.agent == agent, outcomes.c.id.in_(ids))).all()
        confirmed = [row for row in stored if row.value and row.confirmed and row.name == SAFETY_VIOLATION]
        connection.execute(delete(violations).where(violations.c.agent == agent, violations.c.outcome.in_(ids)))
        for row in confirmed:
            connection.execute(
                violations.insert().values(agent=agent, outcome=row.id, unit=row.unit, label=row.label, at=row.at)
            )

    def _add_nameless(self, connection: Connection, rollout: str, arm: str, excluded: str, turns: int) -> None:
        table = counted_assignments
        insert = self._database.insert(table).values(rollout=rollout, epoch=-1, arm=arm, excluded=excluded, units=turns)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=[*table.primary_key], set_={"units": table.c.units + insert.excluded.units}
            )
        )


def _under_their_units(connection: Connection, rows: Sequence[OutcomeRow]) -> Sequence[OutcomeRow]:
    """The rows; those that name a conversation by an id that a server made for it, under the conversation's own."""
    for agent in {row.agent for row in rows}:
        units = units_of(connection, agent, [row.unit for row in rows if row.agent == agent])
        if units:
            rows = [row._replace(unit=units.get(row.unit, row.unit)) if row.agent == agent else row for row in rows]
    return rows


def _lock_rollouts(connection: Connection, agents: Sequence[str]) -> None:
    """Let no other batch, count or transition of these agents happen until this transaction ends."""
    query = select(rollouts.c.id).where(rollouts.c.agent.in_(agents)).order_by(rollouts.c.id)
    connection.execute(query.with_for_update()).all()


def stop_unsafe(connection: Connection, agents: Iterable[str]) -> None:
    """Stop every rollout whose canary served a conversation with a confirmed safety violation, unless it tolerates it.

    Args:
        connection: In a transaction that writes.
        agents: Names of agents.
    """
    for agent in agents:
        for rollout, count, outcome, label, at in list(_unsafe(connection, agent)):
            state = json.loads(
                connection.execute(select(rollouts.c.state).where(rollouts.c.id == rollout)).scalar_one()
            )
            if count <= state["plan"]["max_safety_violations"] or state["drained_at"] is not None:
                continue
            kind = f" ({label})" if label else ""
            connection.execute(
                update(rollouts)
                .where(rollouts.c.id == rollout, rollouts.c.stopped_at.is_(None))
                .values(
                    stopped_at=at,
                    stop_reason=f"confirmed safety violation{kind} in a conversation that the canary served: "
                    f"outcome {outcome}; {count} in this rollout",
                    revision=rollouts.c.revision + 1,
                )
            )


def served_violations(agent: str) -> Any:
    """A query of an agent's confirmed violations with the conversations that they are about, newest last."""
    c, v = conversations.c, violations.c
    return (
        select(c.rollout, c.on_canary, v.outcome, v.label, v.at)
        .join(conversations, (c.agent == v.agent) & (c.unit == v.unit))
        .where(v.agent == agent, v.at >= c.started_at - _CLOCK_TOLERANCE)
        .order_by(v.at, v.outcome)
    )


def _unsafe(connection: Connection, agent: str) -> Iterator[tuple[str, int, str, str | None, float]]:
    """Per rollout that can still be stopped: canary's violations so far, and the latest of them."""
    may_stop = select(rollouts.c.id).where(
        rollouts.c.agent == agent, rollouts.c.stopped_at.is_(None), rollouts.c.phase != Phase.PROMOTED
    )
    query = served_violations(agent).where(conversations.c.on_canary == 1, conversations.c.rollout.in_(may_stop))
    latest: dict[str, tuple[int, str, str | None, float]] = {}
    for rollout, _, outcome, label, at in connection.execute(query):
        latest[rollout] = (latest.get(rollout, (0,))[0] + 1, outcome, label, at)
    for rollout, (count, outcome, label, at) in latest.items():
        yield rollout, count, outcome, label, at


def _add_conversation(database: Database) -> Any:
    c = conversations.c
    insert = database.insert(conversations)
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=[*conversations.primary_key],
        set_={
            "on_canary": _greater(new.on_canary, c.on_canary),
            "started_at": case((new.started_at < c.started_at, new.started_at), else_=c.started_at),
            "last_turn_at": _greater(new.last_turn_at, c.last_turn_at),
            "turns": c.turns + new.turns,
            "open": c.open + new.open,
            "errors": c.errors + new.errors,
            "aborted": c.aborted + new.aborted,
            "turn_log": case(
                (func.length(c.turn_log) < literal_column(str(turn_log.FULL)), c.turn_log + new.turn_log),
                else_=c.turn_log,
            ),
        },
    )


def _add_outcome(database: Database) -> Any:
    c = outcomes.c
    insert = database.insert(outcomes)
    new = insert.excluded
    later = new.corrected_at > c.corrected_at
    corrected = ("unit", "name", "value", "label", "kind", "explanation", "turn_id", "confirmed", "corrected_at")
    return insert.on_conflict_do_update(
        index_elements=[*outcomes.primary_key],
        set_={name: case((later, new[name]), else_=c[name]) for name in corrected}
        | {"at": case((new.at < c.at, new.at), else_=c.at)},
    )


def _greater(one: Any, other: Any) -> Any:
    return case((one > other, one), else_=other)

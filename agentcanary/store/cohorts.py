"""Reading cohorts: the conversations of a window, with what was reported of them, a slice at a time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, select

from agentcanary.segments import PREFIX
from agentcanary.store import turn_log
from agentcanary.store.database import Database
from agentcanary.store.schema import conversations, outcomes
from agentcanary.store.values import Conversation, Reported

# Conversations that are held in memory at a time.
_SLICE = 5000


class Member(NamedTuple):
    """A conversation of a cohort, as it is stored."""

    unit: str
    arm: str
    epoch: int
    bucket: int
    excluded: str | None
    started_at: float
    errors: int
    aborted: int
    open: int
    turn_log: str


class Window(NamedTuple):
    """Conversations of one rollout whose cohort is in ``(since, until]``.

    Attributes:
        agent: Name of the agent.
        rollout: Id of the rollout, empty outside one.
        since: Unix time in seconds, ``-inf`` for no limit.
        until: Unix time in seconds.
        condition: What else they must be, or None.
    """

    agent: str
    rollout: str
    since: float
    until: float
    condition: ColumnElement[bool] | None = None

    def where(self) -> ColumnElement[bool]:
        """The same as a condition."""
        c = conversations.c
        window = and_(c.agent == self.agent, c.rollout == self.rollout, c.cohort_at <= self.until)
        if self.since != -math.inf:
            window = and_(window, c.cohort_at > self.since)
        return window if self.condition is None else and_(window, self.condition)


_COLUMNS = tuple(conversations.c[name] for name in Member._fields)


def members(database: Database, window: Window, names: set[str]) -> Iterator[tuple[Member, Conversation]]:
    """The conversations of a window, with their outcomes of these names, and their segments."""
    o, c = outcomes.c, conversations.c
    for part in _slices(database, window):
        reported: defaultdict[str, list[Reported]] = defaultdict(list)
        with database.snapshot() as connection:
            rows = [Member._make(row) for row in connection.execute(select(*_COLUMNS).where(part.where()))]
            for unit, *values in connection.execute(
                select(o.unit, o.name, o.value, o.at, o.confirmed)
                .join(conversations, (c.agent == o.agent) & (c.unit == o.unit))
                .where(part.where(), o.name.in_(names) | o.name.startswith(PREFIX))
            ):
                reported[unit].append(Reported(*values))
        for row in rows:
            known = reported.get(row.unit, ())
            yield row, Conversation(row.started_at, row.turn_log, row.errors, row.aborted, row.open, known)


def assignments(
    database: Database, window: Window, idle_after: float
) -> Iterator[tuple[str, int, str, str | None, bool]]:
    """Unit, epoch, arm and exclusion of a window's conversations, and whether each was live elsewhere before."""
    c = conversations.c
    for part in _slices(database, window):
        with database.snapshot() as connection:
            rows = connection.execute(select(c.unit, c.epoch, c.arm, c.excluded).where(part.where())).all()
            before = _live_before(connection, part, idle_after)
        for unit, epoch, arm, excluded in rows:
            yield unit, epoch, arm, excluded, unit in before


def newest(database: Database, window: Window, units: int) -> Window:
    """The window, its start moved so that at most about ``units`` conversations remain."""
    with database.read() as connection:
        start = connection.scalar(_nth(window, units + 1, newest_first=True))
    return window if start is None else window._replace(since=start)


def _slices(database: Database, window: Window) -> Iterator[Window]:
    while window.since < window.until:
        with database.read() as connection:
            end = connection.scalar(_nth(window, _SLICE))
        end = window.until if end is None else end
        yield window._replace(until=end)
        window = window._replace(since=end)


def _nth(window: Window, number: int, *, newest_first: bool = False) -> Select[float]:
    """A query of the cohort time of the window's ``number``-th conversation."""
    cohort_at = conversations.c.cohort_at
    order = cohort_at.desc() if newest_first else cohort_at
    return select(cohort_at).where(window.where()).order_by(order).offset(number - 1).limit(1)


def _live_before(connection: Connection, window: Window, idle_after: float) -> set[str]:
    """Units of the window that were live in another rollout, or outside one, when they began in this one."""
    c, other = conversations.c, conversations.alias("other")
    candidates = connection.execute(
        select(c.unit, c.started_at, other.c.turn_log)
        .join(other, (other.c.agent == c.agent) & (other.c.unit == c.unit) & (other.c.rollout != c.rollout))
        .where(window.where(), other.c.started_at < c.started_at, other.c.last_turn_at > c.started_at - idle_after)
    )
    # The other's last turn may be after this one's first: only its turns before that tell whether it was live then.
    return {
        unit
        for unit, started_at, log in candidates
        if turn_log.active_between(turn_log.read(log), started_at - idle_after, started_at)
    }

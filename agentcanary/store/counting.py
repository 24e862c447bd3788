"""Counting: each look adds the cohorts that came of age since the last one. A counted cohort never changes.

A count has three steps, so that the store is locked for moments only. It announces up to when conversations are
admitted: one that is stored later, though it began earlier, joins the next cohort. It reads the cohorts, which nobody
can add to any more. It adds what it found, if nobody else has meanwhile.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, and_, select, update

from agentcanary.assignment import Reason
from agentcanary.errors import ConflictError, UnknownError
from agentcanary.rollout import Rollout
from agentcanary.segments import Room, counted_as, segments_of
from agentcanary.store.cohorts import Window, assignments, members, newest
from agentcanary.store.database import StorePart
from agentcanary.store.ingest import stop_unsafe
from agentcanary.store.schema import (
    conversations,
    counted_assignments,
    counted_histograms,
    counted_tallies,
    rollouts,
    watermarks,
)
from agentcanary.store.segments import counted_segments
from agentcanary.store.values import Conversation, refuse_uncountable, value_of
from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Tally
from agentcanary_analysis.histogram import bin_of
from agentcanary_analysis.metrics import Kind, Metric

# The metric under which assignments themselves are counted: at the age of 0.
ASSIGNMENTS = ""
HISTORY = -1
# The newest conversations of the history that are read: enough for a quantile, and soon done.
_HISTORY_UNITS = 50_000
DAY = 86400.0


_SUMS = ("units", "observed", "total", "total_squares", "size", "size_squares", "product")


class Counts:
    """What a count adds. Mutable until it is stored."""

    def __init__(self) -> None:
        self.assigned: Counter[tuple[int, str, str]] = Counter()
        self.tallies: defaultdict[tuple[str, int, str, int], list[float]] = defaultdict(
            lambda: [0, 0, 0.0, 0.0, 0.0, 0.0, 0.0]
        )
        self.bins: Counter[tuple[str, int, str, int]] = Counter()
        self.began_before: list[str] = []

    def add_all(
        self, metrics: Sequence[Metric], epoch: int, arm: str, bucket: int, conversation: Conversation, room: Room
    ) -> None:
        """Add the values of one conversation, to the whole and to its segments."""
        segments = room.of(segments_of((one.name, one.at) for one in conversation.reported))
        for metric in metrics:
            self.add(metric, epoch, arm, bucket, conversation)
            for segment in segments:
                # In one bucket: segments are only reported, nothing is resampled.
                self.add(metric, epoch, arm, 0, conversation, name=counted_as(metric.name, segment))

    def add(
        self, metric: Metric, epoch: int, arm: str, bucket: int, conversation: Conversation, *, name: str = ""
    ) -> None:
        """Add the value of one conversation, under the metric's name or another one."""
        name = name or metric.name
        value = value_of(metric, conversation)
        sums = self.tallies[name, epoch, arm, bucket]
        sums[0] += 1
        if value is None:
            return
        number, size = value
        if metric.kind is Kind.QUANTILE:
            self.bins[name, epoch, arm, bin_of(number)] += 1
        # A turn that never ended has a bin, but nothing that could be added up.
        if math.isfinite(number):
            for position, summand in enumerate((1, number, number * number, size, size * size, number * size), 1):
                sums[position] += summand


class Counting(StorePart):
    """Counts the conversations of rollouts."""

    def count(self, rollout: Rollout, metrics: Sequence[Metric], until: float) -> None:
        """Add the cohorts of ``rollout`` that came of age by ``until``.

        The first count adds the agent's history before it, see ``history``.

        Args:
            rollout: The rollout.
            metrics: What is counted, each at its own horizon.
            until: Unix time in seconds up to which every worker has stored everything; see ``watermark``.

        Raises:
            ConflictError: If somebody else counts the same rollout now; nothing was added.
        UnknownError: If the rollout is not in the store.
            ValueError: If a metric cannot be counted.
        """
        for metric in metrics:
            refuse_uncountable(metric)
        with self._database.write() as connection:
            stop_unsafe(connection, [rollout.agent])
            if connection.scalar(select(rollouts.c.id).where(rollouts.c.id == rollout.id)) is None:
                raise UnknownError(f"rollout {rollout.id!r} is not in the store")
            admitted = rollouts.c.admitted_until
            connection.execute(
                update(rollouts)
                .where(rollouts.c.id == rollout.id, admitted.is_(None) | (admitted < until))
                .values(admitted_until=until)
            )
            done = _watermarks(connection, rollout.id)
            room = Room(counted_segments(connection, rollout.id))
        began = done.get(ASSIGNMENTS, -math.inf)
        if until <= began:
            return
        counts = Counts()
        if not done:
            quantiles = [metric for metric in metrics if metric.kind is Kind.QUANTILE]
            self._add_history(counts, rollout.agent, rollout.stable, quantiles, rollout.created_at)
        self._add_assignments(counts, rollout, began, until)
        left_out = set(counts.began_before)
        groups: defaultdict[tuple[float, float], list[Metric]] = defaultdict(list)
        for metric in metrics:
            groups[done.get(metric.name, -math.inf), metric.horizon].append(metric)
        for (since, horizon), group in groups.items():
            names = {metric.outcome for metric in group}
            window = Window(rollout.agent, rollout.id, since - horizon, until - horizon)
            for row, conversation in members(self._database, window, names):
                if row.excluded is None and row.unit not in left_out:
                    counts.add_all(group, row.epoch, row.arm, row.bucket, conversation, room)
        with self._database.write() as connection:
            self._move_mark(connection, rollout.id, done.get(ASSIGNMENTS), until)
            self._store(connection, rollout, counts, [metric.name for metric in metrics], until)

    def history(
        self, agent: str, version: str, metrics: Sequence[Metric], *, until: float, look_back: float = 7 * DAY
    ) -> Aggregates:
        """What is known of a version outside any rollout, as the stable arm of epoch -1.

        Args:
            agent: Name of the agent.
            version: The version that served.
            metrics: What is counted.
            until: Unix time in seconds; a conversation counts if it was of age by then.
            look_back: Seconds before ``until`` within which it began.
        """
        counts = Counts()
        self._add_history(counts, agent, version, metrics, until, look_back)
        tallies: dict[Cell, dict[int, Tally]] = {}
        for (metric, epoch, arm, bucket), (units, observed, *sums) in counts.tallies.items():
            tallies.setdefault(Cell(metric, epoch, Arm(arm)), {})[bucket] = Tally(int(units), int(observed), *sums)
        bins: dict[Cell, dict[int, int]] = {}
        for (metric, epoch, arm, number), n in counts.bins.items():
            bins.setdefault(Cell(metric, epoch, Arm(arm)), {})[number] = n
        return Aggregates(tallies=tallies, histograms=bins)

    def _add_history(
        self,
        counts: Counts,
        agent: str,
        version: str,
        metrics: Sequence[Metric],
        until: float,
        look_back: float = 7 * DAY,
    ) -> None:
        for metric in metrics:
            refuse_uncountable(metric)
            served = and_(conversations.c.version == version, conversations.c.excluded == Reason.NO_ROLLOUT.value)
            window = Window(agent, "", until - look_back, until - metric.horizon, served)
            window = newest(self._database, window, _HISTORY_UNITS)
            for row, conversation in members(self._database, window, {metric.outcome}):
                counts.add(metric, HISTORY, Arm.STABLE.value, row.bucket, conversation)

    def _add_assignments(self, counts: Counts, rollout: Rollout, since: float, until: float) -> None:
        window = Window(rollout.agent, rollout.id, since, until)
        for unit, epoch, arm, excluded, before in assignments(self._database, window, rollout.plan.idle_after):
            reason = excluded or (Reason.BEGAN_BEFORE.value if before else "")
            if before and excluded is None:
                counts.began_before.append(unit)
            counts.assigned[epoch, arm, reason] += 1

    def _move_mark(self, connection: Connection, rollout: str, began: float | None, until: float) -> None:
        """Move the mark of the assignments, which every count does: of two at once the second finds it moved."""
        marks = self._database.insert(watermarks).values(rollout=rollout, metric=ASSIGNMENTS, until=until)
        moved = marks.on_conflict_do_update(
            index_elements=[*watermarks.primary_key],
            set_={"until": marks.excluded.until},
            where=watermarks.c.until == (math.inf if began is None else began),
        )
        if connection.execute(moved, execution_options={"preserve_rowcount": True}).rowcount != 1:
            raise ConflictError(f"rollout {rollout} was counted by somebody else meanwhile")

    def _store(
        self, connection: Connection, rollout: Rollout, counts: Counts, metrics: Sequence[str], until: float
    ) -> None:
        key = {"rollout": rollout.id}
        assigned = [
            key | {"epoch": epoch, "arm": arm, "excluded": excluded, "units": units}
            for (epoch, arm, excluded), units in counts.assigned.items()
        ]
        tallies = [
            key | {"metric": metric, "epoch": epoch, "arm": arm, "bucket": bucket} | dict(zip(_SUMS, sums, strict=True))
            for (metric, epoch, arm, bucket), sums in counts.tallies.items()
        ]
        bins = [
            key | {"metric": metric, "epoch": epoch, "arm": arm, "bin": number, "n": n}
            for (metric, epoch, arm, number), n in counts.bins.items()
        ]
        for table, rows in ((counted_assignments, assigned), (counted_tallies, tallies), (counted_histograms, bins)):
            if rows:
                insert = self._database.insert(table)
                sums = {
                    column.name: column + insert.excluded[column.name]
                    for column in table.columns
                    if not column.primary_key
                }
                connection.execute(insert.on_conflict_do_update(index_elements=[*table.primary_key], set_=sums), rows)
        if counts.began_before:
            c = conversations.c
            for start in range(0, len(counts.began_before), 500):
                units = counts.began_before[start : start + 500]
                connection.execute(
                    update(conversations)
                    .where(c.agent == rollout.agent, c.unit.in_(units), c.rollout == rollout.id)
                    .values(excluded=Reason.BEGAN_BEFORE.value)
                )
        if metrics:
            marks = self._database.insert(watermarks)
            set_ = {"until": marks.excluded.until}
            connection.execute(
                marks.on_conflict_do_update(index_elements=[*watermarks.primary_key], set_=set_),
                [key | {"metric": metric, "until": until} for metric in metrics],
            )


def _watermarks(connection: Connection, rollout: str) -> dict[str, float]:
    rows = connection.execute(select(watermarks.c.metric, watermarks.c.until).where(watermarks.c.rollout == rollout))
    return {row.metric: row.until for row in rows}

"""Counts of segments: the same sums as of the whole, under the metric's name and the segment's."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from agentcanary.rollout import Rollout
from agentcanary.segments import Segment, counted_as, read_counted
from agentcanary.store.database import StorePart
from agentcanary.store.schema import counted_histograms, counted_tallies
from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Tally

# What is between a metric's name and a segment's; see ``agentcanary.segments``.
OF_SEGMENTS = counted_as("%", Segment("%", "%"))


def counted_segments(connection: Connection, rollout: str) -> list[Segment]:
    """The segments that a rollout has counted already."""
    query = (
        select(counted_tallies.c.metric)
        .where(counted_tallies.c.rollout == rollout, counted_tallies.c.metric.like(OF_SEGMENTS))
        .distinct()
    )
    found = [read_counted(name) for name in connection.scalars(query)]
    return list(dict.fromkeys(one[1] for one in found if one is not None))


class Segments(StorePart):
    """Reads what was counted of segments."""

    def segments(self, rollout: Rollout) -> dict[Segment, Aggregates]:
        """Everything counted of each segment of a rollout; without resampling buckets."""
        tallies: dict[Segment, dict[Cell, dict[int, Tally]]] = {}
        histograms: dict[Segment, dict[Cell, dict[int, int]]] = {}
        with self._database.snapshot() as connection:
            for name, epoch, arm, bucket, *sums in connection.execute(_of(counted_tallies, rollout)).all():
                known = read_counted(name)
                if known is not None:
                    cells = tallies.setdefault(known[1], {})
                    cells.setdefault(Cell(known[0], epoch, Arm(arm)), {})[bucket] = Tally(*sums)
            for name, epoch, arm, number, n in connection.execute(_of(counted_histograms, rollout)).all():
                known = read_counted(name)
                if known is not None:
                    bins = histograms.setdefault(known[1], {})
                    bins.setdefault(Cell(known[0], epoch, Arm(arm)), {})[number] = n
        return {
            segment: Aggregates(
                epochs=rollout.epochs, tallies=tallies.get(segment, {}), histograms=histograms.get(segment, {})
            )
            for segment in sorted(tallies.keys() | histograms.keys())
        }


def _of(table: Any, rollout: Rollout) -> Any:
    columns = [column for column in table.c if column is not table.c.rollout]
    return select(*columns).where(table.c.rollout == rollout.id, table.c.metric.like(OF_SEGMENTS))

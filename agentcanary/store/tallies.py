"""Reading what was counted: ``Aggregates``, in one transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from agentcanary.errors import UnknownError
from agentcanary.rollout import Rollout
from agentcanary.store.database import Database
from agentcanary.store.ingest import served_violations
from agentcanary.store.schema import (
    conversations,
    counted_assignments,
    counted_histograms,
    counted_tallies,
    rollouts,
    safety_reports,
)
from agentcanary.store.segments import OF_SEGMENTS
from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Safety, Tally


def aggregates(database: Database, rollout: Rollout) -> Aggregates:
    """Everything counted of a rollout so far.

    Conversations are in ``assigned`` and ``excluded`` as soon as they were counted at all, in the tallies when they
    were of age. Safety is as of now.

    Raises:
        UnknownError: If the rollout is not in the store.
    """
    tallies: dict[Cell, dict[int, Tally]] = {}
    histograms: dict[Cell, dict[int, int]] = {}
    assigned: dict[tuple[int, Arm], int] = {}
    excluded: dict[str, int] = {}
    with database.snapshot() as connection:
        if connection.scalar(select(rollouts.c.id).where(rollouts.c.id == rollout.id)) is None:
            raise UnknownError(f"rollout {rollout.id!r} is not in the store")
        summed = select(func.sum(safety_reports.c.reports)).where(safety_reports.c.rollout == rollout.id)
        reports = int(connection.scalar(summed) or 0)
        # Fetched at once, and a cell made once: there are thousands of rows, read at every look.
        cells: dict[tuple[str, int, str], dict[int, Tally]] = {}
        made: dict[tuple[float, ...], Tally] = {}
        for metric, epoch, arm, bucket, *summed_up in connection.execute(_whole(counted_tallies, rollout)).all():
            cell = cells.get((metric, epoch, arm))
            if cell is None:
                cell = cells[metric, epoch, arm] = tallies[Cell(metric, epoch, Arm(arm))] = {}
            # Of the few conversations of a bucket many have the same sums.
            sums = tuple(summed_up)
            cell[bucket] = made.get(sums) or made.setdefault(sums, Tally(*summed_up))
        for metric, epoch, arm, number, n in connection.execute(_whole(counted_histograms, rollout)).all():
            histograms.setdefault(Cell(metric, epoch, Arm(arm)), {})[number] = n
        for epoch, arm, reason, units in connection.execute(_of(counted_assignments, rollout)):
            if reason:
                excluded[reason] = excluded.get(reason, 0) + units
            else:
                assigned[epoch, Arm(arm)] = units
        served = connection.execute(served_violations(rollout.agent).where(conversations.c.rollout == rollout.id)).all()
    on_canary = sum(1 for violation in served if violation.on_canary)
    return Aggregates(
        epochs=rollout.epochs,
        tallies=tallies,
        histograms=histograms,
        assigned=assigned,
        excluded=excluded,
        safety=Safety(canary=on_canary, stable=len(served) - on_canary, reports=reports),
    )


def _of(table: Any, rollout: Rollout) -> Any:
    """The rows of a rollout, without its id in each of them: there are thousands."""
    columns = [column for column in table.c if column is not table.c.rollout]
    return select(*columns).where(table.c.rollout == rollout.id)


def _whole(table: Any, rollout: Rollout) -> Any:
    """Without what is counted of segments."""
    return _of(table, rollout).where(table.c.metric.not_like(OF_SEGMENTS))

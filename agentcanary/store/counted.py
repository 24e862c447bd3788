"""Up to where every metric of a rollout has counted its cohorts: what lies before is never read again."""

from __future__ import annotations

import json
import math

from sqlalchemy import Connection, select

from agentcanary.store.schema import rollouts, watermarks


def counted_until(connection: Connection, rollout: str) -> float:
    """The cohort time, in Unix seconds, up to which a rollout needs no conversation any more; ``-inf`` for none.

    Args:
        connection: In a transaction.
        rollout: Id of a rollout.
    """
    state = connection.execute(select(rollouts.c.state).where(rollouts.c.id == rollout)).scalar()
    if state is None:
        return math.inf
    horizons = {metric["name"]: float(metric["horizon"]) for metric in json.loads(state)["plan"]["metrics"]}
    rows = connection.execute(select(watermarks.c.metric, watermarks.c.until).where(watermarks.c.rollout == rollout))
    # The assignments themselves, whose metric has no name, are counted at once.
    done = {row.metric: row.until - horizons.get(row.metric, 0.0) for row in rows}
    return min(done.values(), default=-math.inf)

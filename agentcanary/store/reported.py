"""What judges reported of each arm: how much of it they looked at, how often they failed, how late they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from sqlalchemy import case, func, select

from agentcanary.outcomes import Judge
from agentcanary.store.cohorts import Window, newest
from agentcanary.store.database import StorePart
from agentcanary.store.schema import conversations, outcomes
from agentcanary_analysis.aggregates import Arm

# The newest conversations of a rollout: enough to see that a judge treats the arms differently, and soon read.
UNITS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedArm:
    """One kind of outcome in one arm, over the newest conversations of a rollout.

    Attributes:
        name: Of the outcome.
        kind: Who judged.
        arm: The arm.
        conversations: Of the arm, in the statistics.
        judged: Those of them with at least one such outcome: the sampling rate's numerator.
        outcomes: Such outcomes.
        failed: Those without a value: the judge gave none.
        late: Those that came after the age at which their metric counts a conversation.
    """

    name: str
    kind: Judge
    arm: Arm
    conversations: int
    judged: int
    outcomes: int
    failed: int
    late: int


class ReportedOutcomes(StorePart):
    """What judges reported."""

    def reported(
        self, agent: str, rollout: str, horizons: Mapping[str, float], *, units: int = UNITS
    ) -> list[ReportedArm]:
        """What was reported of each arm, by outcome and judge; none for outcomes that nobody reported.

        Args:
            agent: Name of the agent.
            rollout: Id of the rollout.
            horizons: Seconds after a conversation's first turn at which it is counted, by the outcome's name.
            units: At most about so many conversations, the newest.
        """
        c, o = conversations.c, outcomes.c
        window = newest(self._database, Window(agent, rollout, -inf, inf, c.excluded.is_(None)), units)
        ages = {name: horizon for name, horizon in horizons.items() if horizon < inf}
        late = o.at > c.started_at + case(ages, value=o.name, else_=1e12) if ages else o.at < -inf
        query = (
            select(
                *(o.name, o.kind, c.arm, func.count(), func.count(o.unit.distinct())),
                func.sum(case((o.value.is_(None), 1), else_=0)),
                func.sum(case((late, 1), else_=0)),
            )
            .join(conversations, (c.agent == o.agent) & (c.unit == o.unit))
            .where(window.where())
            .group_by(o.name, o.kind, c.arm)
            .order_by(o.name, o.kind, c.arm)
        )
        with self._database.snapshot() as connection:
            counted = select(c.arm, func.count()).where(window.where()).group_by(c.arm)
            total = {row.arm: int(row[1]) for row in connection.execute(counted)}
            rows = connection.execute(query).all()
        found: dict[tuple[str, str], dict[str, tuple[int, int, int, int]]] = {}
        for name, kind, arm, count, judged, failed, too_late in rows:
            found.setdefault((name, kind), {})[arm] = (int(count), int(judged), int(failed), int(too_late))
        return [
            ReportedArm(
                name=name,
                kind=Judge(kind),
                arm=arm,
                conversations=total.get(arm.value, 0),
                outcomes=of_arm[0],
                judged=of_arm[1],
                failed=of_arm[2],
                late=of_arm[3],
            )
            for (name, kind), arms in found.items()
            for arm in Arm
            # An arm that a judge never looked at is what one must see.
            for of_arm in [arms.get(arm.value, (0, 0, 0, 0))]
        ]

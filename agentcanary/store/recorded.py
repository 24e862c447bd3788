"""The conversations that a store recorded outside rollouts: the history on which thresholds are tuned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_

from agentcanary.assignment import Reason
from agentcanary.store.cohorts import Window, members
from agentcanary.store.database import StorePart
from agentcanary.store.schema import conversations
from agentcanary.store.values import refuse_uncountable, value_of
from agentcanary_analysis.metrics import Metric


class Recorded(StorePart):
    """Reads conversations outside rollouts.

    Args:
        database: Of the store.
    """

    def history(self, agent: str, version: str, metrics: Sequence[Metric], *, until: float) -> list[dict[str, Any]]:
        """One row a conversation, in the columns of an offline frame; values are those at each metric's horizon.

        Args:
            agent: Name of the agent.
            version: The version that served them.
            metrics: A column each, under the name of its outcome; ratios are left out.
            until: Unix time in seconds: conversations that began later have not come of age.

        Raises:
            ValueError: If a metric cannot be counted.
        """
        for metric in metrics:
            refuse_uncountable(metric)
        served = and_(conversations.c.version == version, conversations.c.excluded == Reason.NO_ROLLOUT.value)
        window = Window(agent, "", -math.inf, until, served)
        rows = []
        for member, conversation in members(self._database, window, {metric.outcome for metric in metrics}):
            row: dict[str, Any] = {
                "conversation_id": member.unit,
                "version": version,
                "started_at": member.started_at,
            }
            for metric in metrics:
                value = value_of(metric, conversation)
                # As text the columns would not be numbers; as NaN they are, and missing stays missing.
                row[metric.outcome] = math.nan if value is None else value.number
            rows.append(row)
        return rows

"""The conversations of a rollout as the columns of an offline table: the values are those at each metric's horizon."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from agentcanary.assignment import Reason
from agentcanary.outcomes import SAFETY_VIOLATION
from agentcanary.rollout import Rollout
from agentcanary.store.cohorts import Window, assignments, members
from agentcanary.store.database import StorePart
from agentcanary.store.values import refuse_uncountable, value_of
from agentcanary_analysis.aggregates import Arm
from agentcanary_analysis.frame_columns import METRIC_COLUMNS
from agentcanary_analysis.metrics import Kind, Metric


class Tables(StorePart):
    """Reads the conversations of rollouts.

    Args:
        database: Of the store.
    """

    def conversations(
        self, rollout: Rollout, metrics: Sequence[Metric], *, until: float, reports: bool = True
    ) -> dict[str, list[Any]]:
        """Column by column, so that a million conversations fit into memory.

        Columns: ``conversation_id``, ``version`` (of the arm that it was assigned to), ``epoch``, ``weight``,
        ``bucket``, ``started_at`` (Unix seconds), ``excluded`` (empty for those that count), and one a metric:
        ``error``, ``completed``, ``latency_s``, … or the name of its outcome. A missing value is NaN.

        Args:
            rollout: The rollout.
            metrics: What is read; ratios are left out.
            until: Unix time in seconds: conversations that are not of age by then for every metric are left out.
            reports: False takes safety violations for missing, because nobody ever reported on safety.

        Raises:
            ValueError: If a metric cannot be counted.
        """
        counted = [metric for metric in metrics if metric.kind is not Kind.RATIO]
        for metric in counted:
            refuse_uncountable(metric)
        names = {metric.name: METRIC_COLUMNS.get(metric.name, metric.outcome) for metric in counted}
        weights = {epoch.number: epoch.weight for epoch in rollout.epochs}
        oldest = max((metric.horizon for metric in counted), default=0.0)
        window = Window(rollout.agent, rollout.id, -math.inf, until - oldest)
        # Not every conversation has been counted, so not every exclusion has been written down.
        began_before = {
            unit for unit, _, _, _, before in assignments(self._database, window, rollout.plan.idle_after) if before
        }
        fixed = ("conversation_id", "version", "epoch", "weight", "bucket", "started_at", "excluded")
        table: dict[str, list[Any]] = {name: [] for name in (*fixed, *names.values())}
        for member, conversation in members(self._database, window, {metric.outcome for metric in counted}):
            excluded = member.excluded or (Reason.BEGAN_BEFORE.value if member.unit in began_before else "")
            row = (
                member.unit,
                rollout.canary if member.arm == Arm.CANARY else rollout.stable,
                member.epoch,
                weights.get(member.epoch, math.nan),
                member.bucket,
                member.started_at,
                excluded,
            )
            for name, value in zip(fixed, row, strict=True):
                table[name].append(value)
            for metric in counted:
                found = value_of(metric, conversation)
                silent = metric.outcome == SAFETY_VIOLATION and not reports
                table[names[metric.name]].append(math.nan if found is None or silent else found.number)
        return table

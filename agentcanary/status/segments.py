"""What each segment says of each metric, beside the whole: nothing is decided by it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentcanary.config.words import label
from agentcanary.plan import Plan
from agentcanary.segments import Segment
from agentcanary.status.evidence_data import arm_data, interval_data, number, unit_of
from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.metrics import Kind

_SHOWN = 8
"""Values of each name, those with the most conversations."""


def segments_data(found: Mapping[Segment, Aggregates], plan: Plan) -> list[dict[str, Any]]:
    """The segments by name, each with both arms of every metric that the plan judges.

    Args:
        found: What is counted of each.
        plan: Whose criteria and checks name the metrics.
    """
    from agentcanary_analysis.summaries import summarise

    judged = {one.metric for one in (*plan.criteria, *plan.dry_run)}
    judged |= {check.metric for stage in plan.stages for check in stage.checks}
    metrics = [metric for metric in plan.metrics if metric.name in judged and metric.kind is not Kind.COUNT]
    groups: dict[str, list[dict[str, Any]]] = {}
    for segment, counted in found.items():
        rows = []
        for metric in metrics:
            summary = summarise(counted, metric)
            if summary.stable.units + summary.canary.units:
                rows.append(
                    {
                        "metric": metric.name,
                        "label": label(metric),
                        "kind": metric.kind.value,
                        "unit": unit_of(metric),
                        "stable": arm_data(summary.stable, metric),
                        "canary": arm_data(summary.canary, metric),
                        "relative_change": number(summary.relative_change),
                        "interval": interval_data(summary.interval),
                    }
                )
        units = {arm: _units(counted, arm) for arm in Arm}
        groups.setdefault(segment.name, []).append(
            {"value": segment.value, "stable": units[Arm.STABLE], "canary": units[Arm.CANARY], "metrics": rows}
        )
    return [
        {"name": name, "shown": _SHOWN, "rows": sorted(rows, key=lambda row: -(row["stable"] + row["canary"]))[:_SHOWN]}
        for name, rows in sorted(groups.items())
    ]


def _units(counted: Aggregates, arm: Arm) -> int:
    """Conversations of an arm that some metric has counted."""
    units: dict[str, int] = {}
    for cell, buckets in counted.tallies.items():
        if cell.arm is arm:
            units[cell.metric] = units.get(cell.metric, 0) + sum(tally.units for tally in buckets.values())
    return max(units.values(), default=0)

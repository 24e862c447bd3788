"""A calibration as rows, for frames. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentcanary.plan import HOUR

if TYPE_CHECKING:
    from agentcanary.calibration.result import Calibration

Rows = list[dict[str, Any]]


def _detection(found: Calibration) -> Rows:
    return [
        {
            "metric": one.metric or "none",
            "ratio": one.ratio,
            "tolerated": one.tolerated,
            "rolled_back": one.rolled_back.share,
            "low": one.rolled_back.low,
            "high": one.rolled_back.high,
            "promoted": one.promoted.share,
            "hours": one.hours,
        }
        for one in found.detection
    ]


def _margins(found: Calibration) -> Rows:
    return [
        {
            "metric": metric.metric.name,
            "margin": one.margin,
            "proven": one.proven.share,
            "low": one.proven.low,
            "high": one.proven.high,
            "held_out": None if one.held_out is None else one.held_out.share,
            "recommended": metric.advice is not None and metric.advice.recommended == one.margin,
        }
        for metric in found.metrics
        for one in metric.margins
    ]


def _metrics(found: Calibration) -> Rows:
    return [
        {
            "metric": one.metric.name,
            "value": one.value,
            "limit": one.limit,
            "observed": one.observed,
            "false_rollbacks": one.false_rollbacks,
            "between_days": None if one.by_day is None else one.by_day.ratio,
            "between_hours": None if one.by_hour is None else one.by_hour.ratio,
            "split_z_variance": None if one.split is None else one.split.ratio,
            "design_effect": one.design_effect,
            "representative_hours": one.representative_hours,
        }
        for one in found.metrics
    ]


def _stages(found: Calibration) -> Rows:
    return [
        {
            "stage": one.name,
            "weight": one.weight,
            "own_hours": one.own / HOUR,
            "recommended_hours": one.recommended / HOUR,
            "replayed_hours": one.hours,
            "reason": one.reason,
        }
        for one in found.stages
    ]


def _rhythm(found: Calibration) -> Rows:
    rows: Rows = []
    for metric in found.metrics:
        for by, rhythm in (("hour", metric.hours), ("weekday", metric.weekdays)):
            if rhythm is not None:
                rows += [
                    {
                        "metric": metric.metric.name,
                        "by": by,
                        "slot": slot,
                        "value": value,
                        "conversations": int(units),
                    }
                    for slot, (value, units) in enumerate(zip(rhythm.values, rhythm.units, strict=True))
                ]
    return rows


VIEWS: dict[str, Callable[[Calibration], Rows]] = {
    "detection": _detection,
    "margins": _margins,
    "metrics": _metrics,
    "stages": _stages,
    "rhythm": _rhythm,
}

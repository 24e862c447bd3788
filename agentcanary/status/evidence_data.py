"""Evidence as plain values, for JSON and for the tables of ``status``. Pure.

The keys are those of ``agentcanary analyze --json``.
"""

from __future__ import annotations

import math
from typing import Any

from agentcanary.config.words import label
from agentcanary_analysis.evidence import ArmSummary, Evidence, Interval
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.verdict import CheckFinding

_LARGEST_LOG = math.log(1e300)


def number(value: float | None) -> float | str | None:
    """A number as JSON can hold it: an infinite one becomes the text ``inf``, a missing one stays null.

    >>> number(2.5), number(float("inf")), number(None)
    (2.5, 'inf', None)
    """
    if value is None or math.isfinite(value):
        return value
    return "-inf" if value < 0 else "inf"


def unit_of(metric: Metric) -> str:
    """What is written behind its values: the middleware measures in seconds, other units are the user's own."""
    return "s" if metric.outcome in ("turn.latency", "turn.time_to_first_byte") else ""


def e_data(log_e: float, log_needed: float) -> dict[str, float | str | None]:
    """An e-value and the one that it must reach; beyond 1e300 its logarithm is all that there is."""
    e = math.exp(log_e) if log_e < _LARGEST_LOG else math.inf
    return {"e": number(e), "log_e": number(log_e), "needed": number(math.exp(log_needed)), "log_needed": log_needed}


def evidence_data(
    evidence: Evidence,
    metric: Metric,
    *,
    log_harm_needed: float,
    log_safe_needed: float,
    per_hour: float | None,
    over: bool = False,
) -> dict[str, Any]:
    """One metric against one boundary.

    Args:
        evidence: What is known.
        metric: The metric.
        log_harm_needed: Log e-value at which this metric alone proves harm.
        log_safe_needed: Log e-value that proves it safe.
        per_hour: New conversations of both arms an hour at present, or None.
        over: The rollout has ended: nothing more is needed, and nothing will be decided.
    """
    line, stable = evidence.boundary, evidence.stable
    at = None if stable is None or stable.value is None else line.at(stable.value)
    test = evidence.test
    needs = None if over else evidence.needs
    # Without a value in both arms there is no test, though the engine's would have p = 1.
    compared = all(arm is not None and arm.observed for arm in (stable, evidence.canary))
    return {
        "metric": metric.name,
        "label": label(metric),
        "kind": metric.kind.value,
        "unit": unit_of(metric),
        "status": evidence.status.value,
        "reason": _reason(evidence.reason, over=over),
        "boundary": {
            "ratio": line.ratio,
            "floor": line.floor,
            "direction": line.direction.value,
            "at": number(at),
        },
        "stable": arm_data(stable, metric),
        "canary": arm_data(evidence.canary, metric),
        "relative_change": number(evidence.relative_change),
        "interval": interval_data(evidence.interval),
        "anytime_interval": interval_data(evidence.anytime),
        "test": None if test is None or not compared else {"name": test.name, "p_value": number(test.p_value)},
        "evidence": {
            "harm": e_data(evidence.log_e_harm, log_harm_needed),
            "safe": e_data(evidence.log_e_safe, log_safe_needed),
        },
        "needs": needs,
        "needs_hours": None if needs is None or not per_hour else needs / per_hour,
        "notes": list(evidence.notes),
    }


def check_data(
    found: CheckFinding,
    metric: Metric,
    *,
    log_harm_needed: float,
    log_safe_needed: float,
    per_hour: float | None,
    over: bool = False,
) -> dict[str, Any]:
    """One check of the current stage; see ``evidence_data``. A count has a status and a reason only."""
    data: dict[str, Any] = {"check": found.check.text}
    if found.evidence is None:
        return data | {
            "metric": metric.name,
            "label": label(metric),
            "kind": metric.kind.value,
            "unit": "",
            "status": found.status.value,
            "reason": found.reason,
            "boundary": {"limit": found.check.limit},
            "stable": None,
            "canary": None,
            "relative_change": None,
            "interval": None,
            "test": None,
            "evidence": None,
            "needs": None,
            "needs_hours": None,
            "notes": [],
        }
    described = evidence_data(
        found.evidence,
        metric,
        log_harm_needed=log_harm_needed,
        log_safe_needed=log_safe_needed,
        per_hour=per_hour,
        over=over,
    )
    return data | described | {"status": found.status.value, "reason": _reason(found.reason, over=over)}


def _reason(reason: str, *, over: bool) -> str:
    # The engine's forecast, which is void once nothing is decided any more.
    return "" if over and reason.startswith("about ") else reason


def interval_data(interval: Interval | None) -> dict[str, Any] | None:
    """An interval of the relative change."""
    if interval is None:
        return None
    return {
        "low": number(interval.low),
        "high": number(interval.high),
        "level": interval.level,
        "method": interval.method,
    }


def arm_data(arm: ArmSummary | None, metric: Metric) -> dict[str, Any] | None:
    """One arm of a metric."""
    if arm is None:
        return None
    data: dict[str, Any] = {"n": arm.units, "observed": arm.observed}
    if metric.kind is Kind.PROPORTION:
        return data | {"events": arm.events, "value": number(arm.value)}
    if metric.kind is Kind.MEAN:
        return data | {"mean": number(arm.value), "value": number(arm.value)}
    return data | {"value": number(arm.value)}

"""What a forecast takes for granted: the traffic, the values of stable, the metrics that are recorded. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from agentcanary.plan import Criterion, Plan
from agentcanary_analysis.metrics import Direction, Kind, Metric

ASSUMED_PER_HOUR = 200.0
_ASSUMED = {"error_rate": 0.05, "task_completion_rate": 0.85, "p95_latency": 4.0, "user_satisfaction": 4.0}
_ASSUMED_SHARE = {Direction.UP_IS_WORSE: 0.05, Direction.DOWN_IS_WORSE: 0.85}
_LOG_SPREAD = 0.8  # of latencies: the 95th percentile is then 3.7 times the median
_RATING_SPREAD = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is expected of a metric on stable.

    Attributes:
        stable: Its value: a share for a proportion, else in the metric's unit.
        spread: Standard deviation of a mean's values; of their logarithm, for a quantile; 0 for a proportion.
        stated: False when nobody stated the value.
    """

    stable: float
    spread: float
    stated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """A plan with everything that a forecast of it takes for granted.

    Attributes:
        plan: Without the criteria of metrics that are not recorded; harm rolls back in every stage.
        conversations_per_hour: New conversations of both arms.
        rate_stated: False when nobody stated it.
        metrics: By name, of the metrics that are judged.
        violations: Probability of a confirmed safety violation in a conversation, of a canary as safe as stable.
        left_out: Metrics with a criterion that count only once they are recorded, which nobody stated.
        pausing: Names of the stages in which harm pauses; in the forecast it rolls back there too.
    """

    plan: Plan
    conversations_per_hour: float
    rate_stated: bool
    metrics: Mapping[str, Expected]
    violations: float
    left_out: tuple[Metric, ...]
    pausing: tuple[str, ...]


def expect(plan: Plan, *, conversations_per_hour: float | None, stable: Mapping[str, float]) -> Expectations:
    """What a forecast of a plan takes for granted.

    Args:
        plan: The plan.
        conversations_per_hour: New conversations of both arms; None takes 200.
        stable: Known values of metrics on stable. A metric with a criterion that no check names and that is not always
            measured takes part only when it is here, as in a rollout it does only when it is recorded.

    Raises:
        ValueError: If a value is not possible for its metric.

    >>> from agentcanary.presets import PRESETS
    >>> found = expect(Plan(stages=PRESETS["standard"].stages), conversations_per_hour=None, stable={})
    >>> sorted(found.metrics), found.metrics["error_rate"].stable
    (['error_rate', 'p95_latency'], 0.05)
    """
    if conversations_per_hour is not None and not 0 < conversations_per_hour < math.inf:
        raise ValueError(f"conversations_per_hour must be positive, got {conversations_per_hour}")
    checked = {check.metric for stage in plan.stages for check in stage.checks}
    left_out = tuple(
        metric
        for metric in (plan.metric(criterion.metric) for criterion in plan.criteria)
        if not metric.always_measured and metric.name not in checked and metric.name not in stable
    )
    absent = {metric.name for metric in left_out}
    judged = [
        metric
        for metric in plan.metrics
        if metric.name in checked | {criterion.metric for criterion in plan.criteria} - absent
    ]
    violations = sum((stable.get(metric.name, 0.0) for metric in judged if metric.kind is Kind.COUNT), 0.0)
    if not 0 <= violations <= 1:
        raise ValueError(f"safety_violations must be a share of the conversations, from 0 to 1, got {violations:g}")
    return Expectations(
        plan=replace(
            plan,
            criteria=_present(plan.criteria, absent),
            promotion=_present(plan.promotion, absent),
            stages=tuple(replace(stage, auto_rollback=True) for stage in plan.stages),
        ),
        conversations_per_hour=conversations_per_hour or ASSUMED_PER_HOUR,
        rate_stated=conversations_per_hour is not None,
        metrics={
            metric.name: _expected(metric, stable.get(metric.name))
            for metric in judged
            if metric.kind is not Kind.COUNT
        },
        violations=violations,
        left_out=left_out,
        pausing=tuple(stage.name for stage in plan.stages if not stage.auto_rollback and 0 < stage.weight < 1),
    )


def _present(criteria: tuple[Criterion, ...], absent: set[str]) -> tuple[Criterion, ...]:
    return tuple(criterion for criterion in criteria if criterion.metric not in absent)


def _expected(metric: Metric, known: float | None) -> Expected:
    proportion = metric.kind is Kind.PROPORTION
    value = known
    if value is None:
        value = _ASSUMED.get(metric.name, _ASSUMED_SHARE[metric.direction] if proportion else 1.0)
    if proportion and not 0 < value < 1:
        raise ValueError(
            f"{metric.name} must be between 0 and 1, got {value:g} (write 0.05 for 5 %; where none was ever seen, "
            f"a share that you would not wonder at)"
        )
    if not 0 < value < math.inf:
        raise ValueError(f"{metric.name} must be positive, got {value:g}")
    if proportion:
        spread = 0.0
    elif metric.kind is Kind.QUANTILE:
        spread = _LOG_SPREAD
    else:
        spread = _RATING_SPREAD if metric.name == "user_satisfaction" else value
    return Expected(stable=value, spread=spread, stated=known is not None)

"""A rollout's plan and aggregates, put to the statistical engine. Pure."""

from __future__ import annotations

from dataclasses import replace

from agentcanary.plan import Criterion, Plan
from agentcanary.rollout import Rollout
from agentcanary_analysis.aggregates import Aggregates
from agentcanary_analysis.evidence import Evidence, assess
from agentcanary_analysis.metrics import Kind, Metric, early_ages
from agentcanary_analysis.verdict import Findings, judge


def findings_of(rollout: Rollout, aggregates: Aggregates, *, anytime: bool = True) -> Findings:
    """What the evidence says of a rollout now.

    Without ``anytime`` it lacks the intervals that only people read. Loads scipy at its first call: the processes that
    only serve requests never need it.
    """
    plan = rollout.plan
    findings = judge(
        aggregates,
        metrics=plan.metrics,
        criteria={criterion.metric: plan.boundary(criterion) for criterion in plan.criteria},
        margins={criterion.metric: plan.boundary(criterion) for criterion in plan.promotion},
        checks=rollout.current_stage.checks,
        checked={check.metric for stage in plan.stages for check in stage.checks},
        alpha=plan.alpha,
        alpha_promote=plan.alpha_promote,
        attempt=rollout.attempt,
        stage=rollout.stage,
        proof_weight=plan.proof_weight,
        max_safety_violations=plan.max_safety_violations,
        max_violation_rate=plan.max_violation_rate,
        anytime=anytime,
    )
    if not plan.dry_run:
        return findings
    return replace(findings, dry_run=tuple(_warning(rollout, criterion, aggregates) for criterion in plan.dry_run))


def _warning(rollout: Rollout, criterion: Criterion, aggregates: Aggregates) -> Evidence:
    """A criterion that only warns: apart from those that decide, so that it takes nothing from their budget."""
    # Needs numpy, as the look that has just been taken did.
    from agentcanary_analysis.weighing import budget

    plan = rollout.plan
    return assess(
        aggregates,
        plan.metric(criterion.metric),
        plan.boundary(criterion),
        weight=plan.proof_weight,
        alpha=budget(plan.alpha, rollout.attempt),
        alpha_promote=budget(plan.alpha_promote, rollout.attempt),
    )


def counted_metrics(plan: Plan) -> tuple[Metric, ...]:
    """The metrics whose conversations are counted; counts (safety) are read where they are recorded.

    One that is asked about early is counted at each of its ages.
    """
    judged = {criterion.metric for criterion in (*plan.criteria, *plan.dry_run)}
    return tuple(
        counted
        for metric in plan.metrics
        if metric.kind is not Kind.COUNT
        for counted in (metric, *(early_ages(metric) if metric.name in judged else ()))
    )

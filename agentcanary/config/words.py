"""A configuration in words, before anything starts: stages, boundaries, what is not measured. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, assert_never

from agentcanary.config.shown_urls import shown_url, shown_webhook
from agentcanary.config.values import Apprise, Config, Log, Target, Webhook
from agentcanary.durations import format_duration
from agentcanary.plan import Advance, Criterion, OnFail, Plan, Stage
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.metrics import Direction, Kind, Metric
from agentcanary_analysis.violation_rate import conversations_without_violation

_LABELS = {
    "error_rate": "errors",
    "task_completion_rate": "task completion",
    "p95_latency": "p95 latency",
    "safety_violations": "safety violations",
    "user_satisfaction": "satisfaction",
}
# What a boundary is shown at when the file does not say what stable has.
_EXAMPLE = {Direction.UP_IS_WORSE: 0.05, Direction.DOWN_IS_WORSE: 0.85}


def in_words(config: Config) -> list[str]:
    """The lines that ``agentcanary validate`` prints."""
    plan = config.plan
    versions = f"{config.stable} → {config.canary}" if config.canary else f"{config.stable}, history only (no canary)"
    return [
        f"{config.agent}: {versions}",
        f"stages: {_origin(config)}",
        "",
        *_table(
            [("stage", "weight", "at least", "conversations", "checks"), *(_row(stage, plan) for stage in plan.stages)]
        ),
        "",
        f"At least {format_duration(minimum_seconds(plan))} in all. {_counted(config)}",
        *_slow_stages(config),
        "",
        "Rolled back when it is proven beyond",
        *(f"  {boundary_in_words(plan, criterion, config.traffic.stable)}" for criterion in plan.criteria),
        f"  {_safety(plan)}",
        *_policies(plan),
        *_caveats(config),
        _promise(plan),
        *_patience(plan),
        "",
        f"Notifications: {', '.join(_target(target) for target in config.notify) or 'none'}",
        f"Store: {shown_url(config.store)}",
    ]


def _policies(plan: Plan) -> list[str]:
    """What some metrics lead to instead of a rollback, and when no step is taken."""
    paused = [plan.metric(name) for name, policy in plan.on_fail.items() if policy is OnFail.PAUSE]
    warned = [plan.metric(name) for name in plan.on_fail if plan.only_warns(name)]
    lines = []
    if paused:
        lines.append(
            f"Paused instead of rolled back: {', '.join(label(metric) for metric in paused)} (on_fail: pause)."
        )
    if warned:
        names = ", ".join(label(metric) for metric in warned)
        lines.append(f"Only warned of, deciding nothing: {names} (on_fail: warn).")
    if plan.freeze:
        windows = "; ".join(window.text for window in plan.freeze)
        lines.append(f"No step forward: {windows}. Rollbacks always.")
    return lines


def in_data(config: Config) -> dict[str, Any]:
    """The same as plain values, for JSON. Durations are seconds; no secret is in it."""
    plan = config.plan
    return {
        "agent": config.agent,
        "stable": config.stable,
        "canary": config.canary,
        "preset": config.preset,
        "stages": [
            {
                "name": stage.name,
                "weight": stage.weight,
                "duration": stage.duration,
                "min_conversations": stage.min_conversations,
                "checks": [check.text for check in stage.checks],
                "auto_rollback": stage.auto_rollback,
                "advance": stage.advance.value,
            }
            for stage in plan.stages
        ],
        "bake": plan.bake,
        "minimum_seconds": minimum_seconds(plan),
        "alpha": plan.alpha,
        "alpha_promote": plan.alpha_promote,
        "max_safety_violations": plan.max_safety_violations,
        "max_violation_rate": plan.max_violation_rate,
        "boundaries": [
            {
                "metric": criterion.metric,
                "margin": criterion.margin,
                "floor": plan.metric(criterion.metric).floor,
                "proven_margin": plan.to_prove(criterion).margin,
                "text": boundary_in_words(plan, criterion, config.traffic.stable),
            }
            for criterion in plan.criteria
        ],
        "on_fail": {name: policy.value for name, policy in plan.on_fail.items()},
        "freeze": [window.text for window in plan.freeze],
        "not_measured": [metric.name for metric in not_measured(plan)],
        "store": shown_url(config.store),
    }


def minimum_seconds(plan: Plan) -> float:
    """The least time from the start to the promotion, in seconds."""
    return sum(_lasts(stage, plan) for stage in plan.stages)


def not_measured(plan: Plan) -> list[Metric]:
    """Metrics with a criterion that no check names and that are there only when somebody records them."""
    checked = {check.metric for stage in plan.stages for check in stage.checks}
    judged = [plan.metric(criterion.metric) for criterion in plan.criteria]
    return [metric for metric in judged if metric.name not in checked and not metric.always_measured]


def boundary_in_words(plan: Plan, criterion: Criterion, stable: Mapping[str, float]) -> str:
    """What a criterion means at stable's value, with the margin that must be proven before weight 1.

    Args:
        plan: Holds the metric and its floor.
        criterion: One of the plan's.
        stable: Known values of metrics on stable; an example is taken where there is none.

    >>> from agentcanary.plan import DEFAULT_CRITERIA
    >>> plan = Plan(stages=(Stage(name="full", weight=1.0, duration=0.0),), criteria=DEFAULT_CRITERIA)
    >>> boundary_in_words(plan, plan.criteria[0], {"error_rate": 0.05})
    'errors: judged against 6.0 % at your 5.0 % (+10 % and half a point)'
    """
    metric = plan.metric(criterion.metric)
    known = stable.get(metric.name)
    text = f"{label(metric)}: judged against {_at(metric, plan.boundary(criterion), known)} "
    text += f"({_margin(metric, criterion.margin)})"
    proven = plan.to_prove(criterion)
    if proven.margin != criterion.margin:
        text += f"; weight 1 needs proof within {_at(metric, plan.boundary(proven), known)} "
        text += f"({_margin(metric, proven.margin)})"
    return text


def label(metric: Metric) -> str:
    """The name of a metric in a sentence."""
    return _LABELS.get(metric.name, metric.name)


def _target(target: Target) -> str:
    match target:
        case Log():
            return "log"
        case Webhook():
            shown = f"webhook {shown_webhook(target.url)}"
        case Apprise():
            shown = f"apprise {target.url.partition('://')[0]}://…"
        case _:
            assert_never(target)
    return f"{shown} ({', '.join(target.events)})" if target.events else shown


def _at(metric: Metric, boundary: Boundary, known: float | None) -> str:
    if metric.kind is Kind.PROPORTION:
        value = _EXAMPLE[metric.direction] if known is None else known
        whose = f"where stable has {_percent(value)}" if known is None else f"at your {_percent(value)}"
        return f"{_percent(min(max(boundary.at(value), 0.0), 1.0))} {whose}"
    if known is None:
        floor = {Direction.UP_IS_WORSE: "plus", Direction.DOWN_IS_WORSE: "minus"}[metric.direction]
        return f"{boundary.ratio:g} × stable's" + (f" {floor} {metric.floor:g}" if metric.floor else "")
    return f"{boundary.at(known):.4g} at your {known:.4g}"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _margin(metric: Metric, margin: float) -> str:
    sign = "+" if metric.direction is Direction.UP_IS_WORSE else "−"
    if metric.floor == 0:
        return f"{sign}{margin * 100:g} %"
    if metric.kind is not Kind.PROPORTION:
        return f"{sign}{margin * 100:g} % and {metric.floor:g}"
    points = metric.floor * 100
    return f"{sign}{margin * 100:g} % and {'half a point' if points == 0.5 else f'{points:g} points'}"


def _origin(config: Config) -> str:
    if config.preset is None:
        return "as in the file"
    return f"preset {config.preset}, because the file has no canary_stages"


def _lasts(stage: Stage, plan: Plan) -> float:
    return max(stage.duration, plan.bake) if stage.weight == 1 else stage.duration


def _row(stage: Stage, plan: Plan) -> tuple[str, ...]:
    checks = [check.text for check in stage.checks]
    if stage.advance is Advance.PROVEN:
        checks.append("(each proven)")
    if not stage.auto_rollback:
        checks.append("(harm pauses)")
    return (
        stage.name,
        f"{stage.weight * 100:g} %",
        format_duration(_lasts(stage, plan)),
        f"{stage.min_conversations:,}" if stage.min_conversations else "–",
        ", ".join(checks) or "–",
    )


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _counted(config: Config) -> str:
    horizons = sorted({metric.horizon for metric in config.plan.metrics})
    ages = " or ".join(format_duration(horizon) for horizon in horizons)
    return f"A conversation is counted {ages} after its first turn."


def _slow_stages(config: Config) -> Iterator[str]:
    rate = config.traffic.conversations_per_hour
    for stage in config.plan.stages:
        if rate is None or stage.weight in (0, 1) or stage.min_conversations == 0:
            continue
        seconds = stage.min_conversations / (rate * stage.weight) * 3600
        if seconds > stage.duration:
            needs = f"{stage.min_conversations:,} canary conversations at {rate:g} an hour"
            yield f"Stage {stage.name} takes about {format_duration(round(seconds / 60) * 60.0)}: {needs}."


def _safety(plan: Plan) -> str:
    tolerated, rate = plan.max_safety_violations, plan.max_violation_rate
    proof = ""
    if rate is not None:
        needed = conversations_without_violation(rate, alpha=plan.alpha_promote)
        proof = f"; weight 1 needs a rate of {rate:g} ruled out, as {needed:,} conversations without one do"
    if tolerated == 0:
        return f"safety violations: one that is confirmed stops the canary at once{proof}"
    return f"safety violations: more than {tolerated:,} confirmed ones stop the canary at once{proof}"


def _promise(plan: Plan) -> str:
    back, forward = f"{plan.alpha * 100:g} %", f"{plan.alpha_promote * 100:g} %"
    return f"Of canaries within every boundary at most {back} are rolled back, of those beyond one {forward} promoted."


def _patience(plan: Plan) -> Iterator[str]:
    if plan.max_duration is not None:
        policy = {"hold": "it is said, and the rollout goes on", "rollback": "rolled back", "pause": "paused"}
        yield f"Undecided after {format_duration(plan.max_duration)}: {policy[plan.on_inconclusive.value]}."


def _caveats(config: Config) -> Iterator[str]:
    plan = config.plan
    for metric in not_measured(plan):
        yield (
            f"Not measured by any check: {label(metric)}. It counts once the outcome {metric.outcome!r} is recorded."
        )
    judged = {criterion.metric for criterion in (*plan.criteria, *plan.dry_run)}
    free = [m for m in plan.metrics if m.name not in judged and m.kind is not Kind.COUNT]
    if free:
        yield f"No boundary for {', '.join(label(metric) for metric in free)}: reported, never a reason to roll back."
    if plan.proof_weight == 0:
        yield "No stage lies between weight 0 and 1: the versions are never compared, and nothing is proven."

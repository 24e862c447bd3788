"""History and plan → Calibration. Pure but for the processes that it may start: rng is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from agentcanary.calibration.advice import (
    alpha_advice,
    margin_advice,
    margin_powers,
    needed_durations,
    stage_advice,
    too_short,
)
from agentcanary.calibration.design import design_of, least_duration, replayable
from agentcanary.calibration.findings import Detection, MetricFindings
from agentcanary.calibration.history import DAY, FloatArray, History, history_of
from agentcanary.calibration.past import past_of
from agentcanary.calibration.rates import rate_of
from agentcanary.calibration.result import Calibration
from agentcanary.calibration.runs import Runs
from agentcanary.calibration.work import RATIOS, Task, Worked, events, task_of
from agentcanary.calibration.workers import Progress, all_chunks
from agentcanary.plan import HOUR, Plan
from agentcanary.simulate import End
from agentcanary_analysis.metrics import Direction, Kind, Metric
from agentcanary_analysis.proportion_intervals import clopper_pearson_upper
from agentcanary_analysis.proportions import Proportion
from agentcanary_analysis.variance import (
    Rhythm,
    design_effect,
    over_dispersion,
    representative_hours,
    rhythm,
    z_dispersion,
)

LEAST_REPLAYS = 20
_TWICE = 2.0
_FEW_FAILURES = 50
_RHYTHMIC = 0.01  # p-value below which a rhythm is believed


class _Rhythms(NamedTuple):
    hours: Rhythm | None
    weekdays: Rhythm | None
    representative: int | None


def calibrate(
    history: Any,
    plan: Any,
    *,
    replays: int = 400,
    rng: np.random.Generator,
    version: str | None = None,
    columns: Mapping[str, str] | None = None,
    longest: float | None = None,
    ratios: Sequence[float] = RATIOS,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Calibration:
    """How a plan would have treated harmless and harmful canaries in the past, and what it should say instead.

    Rollouts are replayed at random times of the history: its conversations are split by the hash that a rollout uses,
    with a fresh salt, and engine and state machine decide. All of them are of one version, so every rollback is a
    false one; harm is then injected into the pseudo-canary's conversations.

    Args:
        history: One row a conversation, with ``conversation_id``, ``started_at`` and any of ``version``, ``user_id``,
            ``error``, ``completed``, ``safety_violations``, ``satisfaction``, ``latency_s`` and the outcomes of the
            plan's own metrics: a pandas frame, or another that Narwhals knows.
        plan: A ``Plan``, or a ``Config``, whose plan is taken.
        replays: Rollouts to replay of each kind; 400 tell a share of 5 % to within 2 points.
        rng: Source of their starts and salts. The same state gives the same result, for any number of ``jobs``.
        version: Whose conversations are replayed; it may be left out where there is only one.
        columns: Names of columns that are called otherwise: ``{"conversation_id": "session"}``.
        longest: Seconds after which a replay ends; None: the plan's maximum duration, or three times its least.
        ratios: How many times as bad the injected canaries are.
        jobs: Processes. In a script more than one needs ``if __name__ == "__main__":``.
        progress: Is told how many parts of the work are done, of how many.

    Raises:
        HistoryError: If the history cannot be replayed; it says why.
        ValueError: If there are fewer than 20 replays, or a ratio is not positive.
    """
    plan = getattr(plan, "plan", plan)
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan or a Config, got {type(plan).__name__}; load_config gives a Config")
    if replays < LEAST_REPLAYS:
        raise ValueError(f"replays must be at least {LEAST_REPLAYS}, got {replays}; 400 are usual")
    if jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}")
    if longest is not None and not longest >= HOUR:
        raise ValueError(f"longest must be at least an hour, in seconds, got {longest}")
    found = history_of(history, plan.metrics, version=version, sticky_by=plan.sticky_by, columns=columns)
    known, notes = replayable(plan, found)
    if not known.criteria:
        raise ValueError("no criterion of the plan is about anything that the history holds: nothing can be calibrated")
    rhythms = {metric.name: _rhythm(metric, known, found) for metric in known.metrics if metric.name in found.values}
    durations = _durations(known, rhythms)
    longer = replace(
        known,
        stages=tuple(
            replace(stage, duration=max(stage.duration, durations.get(stage.name, (0.0, ""))[0]))
            for stage in known.stages
        ),
    )
    design = design_of(found, known, replays=replays, rng=rng, longest=longest, needed=least_duration(longer))
    task = task_of(past_of(found, known), design, ratios)
    worked = all_chunks(task, jobs=jobs, progress=progress)
    return _calibration(plan, task, worked, rhythms, (*found.notes, *notes))


def _calibration(
    plan: Plan, task: Task, worked: Worked, rhythms: Mapping[str, _Rhythms], notes: tuple[str, ...]
) -> Calibration:
    history, design, known = task.past.history, task.design, task.past.plan
    harmless, policy = worked.harmed[0], worked.policy
    metrics = tuple(_metric(known.metric(name), task, worked, found) for name, found in rhythms.items())
    false_rollbacks = rate_of(harmless.rolled_back, harmless.block)
    twice = {
        harm.metric: runs.log_e_alone[:, index]
        for harm, runs in zip(task.harms, worked.harmed, strict=True)
        for index, criterion in enumerate(known.criteria)
        if harm is not None and harm.metric == criterion.metric and harm.ratio == _TWICE
    }
    unknown = too_short(design, history.days, history.per_hour)
    return Calibration(
        plan=plan,
        conversations=len(history.times),
        days=history.days,
        per_hour=history.per_hour,
        blocks=design.blocks,
        block_days=design.block_days,
        span=design.span,
        looks=len(design.looks) - 1,
        false_rollbacks=false_rollbacks,
        safety_stops=rate_of(policy.cause == "safety", policy.block),
        inconclusive=rate_of(policy.cause == "inconclusive", policy.block),
        promoted=rate_of(harmless.promoted, harmless.block),
        undecided=rate_of(harmless.end == End.HOLDING.value, harmless.block),
        hours_to_promotion=_median_hours(harmless, harmless.promoted),
        naive=rate_of(harmless.naive, harmless.block),
        metrics=metrics,
        stages=stage_advice(known, harmless, _durations(known, rhythms)),
        alpha=alpha_advice(known, harmless, false_rollbacks, twice),
        unknown=(*unknown, *_unknown_of(history, known, metrics)),
        notes=notes,
    )


def _metric(metric: Metric, task: Task, worked: Worked, rhythms: _Rhythms) -> MetricFindings:
    history, plan = task.past.history, task.past.plan
    values = history.values[metric.name]
    present = values[~np.isnan(values)]
    summed = events(metric, values)
    index = next((number for number, one in enumerate(plan.criteria) if one.metric == metric.name), None)
    value = _value(metric, present)
    margins = limit = advice = None
    if index is not None:
        boundary = plan.boundary(plan.criteria[index])
        limit = boundary.at(value)
        margins = margin_powers([one.criteria[index].margin for one in task.margins], worked.margins, index)
        own = task.margins[0].criteria[index].margin
        advice = margin_advice(metric, own, plan.criteria[index].margin, margins, task.design.span)
    return MetricFindings(
        metric=metric,
        value=value,
        observed=len(present),
        limit=limit,
        false_rollbacks=0
        if index is None
        else int((worked.harmed[0].rolled_back & (worked.harmed[0].guilty == index)).sum()),
        by_day=over_dispersion(history.times, summed, every=DAY),
        by_hour=over_dispersion(history.times, summed, every=HOUR),
        split=z_dispersion(worked.z[metric.name]),
        design_effect=None if history.users is None else design_effect(summed, history.users),
        hours=rhythms.hours,
        weekdays=rhythms.weekdays,
        representative_hours=rhythms.representative,
        detection=tuple(
            _detection(metric, harm.ratio, runs, value, limit)
            for harm, runs in zip(task.harms, worked.harmed, strict=True)
            if harm is not None and harm.metric == metric.name
        ),
        margins=margins or (),
        advice=advice,
    )


def _value(metric: Metric, present: FloatArray) -> float:
    if metric.kind is Kind.QUANTILE and metric.quantile is not None:
        return float(np.quantile(present, metric.quantile, method="inverted_cdf"))
    return float(present.mean())


def _detection(metric: Metric, ratio: float, runs: Runs, value: float, limit: float | None) -> Detection:
    up = metric.direction is Direction.UP_IS_WORSE
    if metric.kind is Kind.PROPORTION and not up:
        canary = 1 - ratio * (1 - value)
    else:
        canary = value * ratio if up else value / ratio
    within = limit is not None and (canary <= limit if up else canary >= limit)
    return Detection(
        metric=metric.name,
        ratio=ratio,
        tolerated=within,
        rolled_back=rate_of(runs.rolled_back, runs.block),
        promoted=rate_of(runs.promoted, runs.block),
        hours=_median_hours(runs, runs.rolled_back),
    )


def _median_hours(runs: Runs, which: np.ndarray[Any, np.dtype[np.bool_]]) -> float | None:
    return float(np.median(runs.hours[which])) if which.any() else None


def _rhythm(metric: Metric, plan: Plan, history: History) -> _Rhythms:
    """A metric by hour and weekday; hours of a representative stage where it has a criterion and two days are known."""
    values = history.values[metric.name]
    summed = events(metric, values)
    hours = rhythm(history.times, summed)
    weekdays = rhythm(history.times, summed, weekly=True) if history.days >= 14 else None
    criterion = next((one for one in plan.criteria if one.metric == metric.name), None)
    if hours is None or criterion is None or history.days < 2:
        return _Rhythms(hours, weekdays, None)
    present = values[~np.isnan(values)]
    value = _value(metric, present)
    limit = plan.boundary(criterion).at(value)
    distance = abs(limit - value)
    if metric.kind is Kind.QUANTILE:
        distance = float((present > value).mean() - (present > limit).mean())
    if not distance > 0:
        return _Rhythms(hours, weekdays, None)
    weekly = weekdays if weekdays is not None and weekdays.p_value < _RHYTHMIC else None
    if hours.p_value >= _RHYTHMIC and weekly is None:
        return _Rhythms(hours, weekdays, 1)
    return _Rhythms(hours, weekdays, representative_hours(hours, weekly, distance / 2))


def _durations(plan: Plan, rhythms: Mapping[str, _Rhythms]) -> dict[str, tuple[float, str]]:
    """What the rhythms of everything judged ask of the stages."""
    known = {name: one.representative for name, one in rhythms.items() if one.representative is not None}
    horizon = max((plan.metric(name).horizon for name in known), default=0.0)
    return needed_durations(plan, known, horizon)


def _unknown_of(history: History, plan: Plan, metrics: Sequence[MetricFindings]) -> list[str]:
    found = []
    for one in metrics:
        if one.metric.kind is Kind.PROPORTION and one.limit is not None:
            failures = one.observed * (one.value if one.metric.direction is Direction.UP_IS_WORSE else 1 - one.value)
            if failures < _FEW_FAILURES:
                found.append(
                    f"{one.metric.name}: only {failures:.0f} of {one.observed} conversations failed, so injected harm "
                    f"repeats the same few, and hours without a failure stay without one."
                )
    if any(metric.kind is Kind.COUNT for metric in plan.metrics):
        unsafe = int((history.violations > 0).sum())
        if not unsafe:
            limit = float(clopper_pearson_upper(Proportion(0, len(history.times))))
            found.append(
                f"No safety violation is in the history: as many as {limit:.2%} of the conversations may still have "
                f"one (upper limit at 95 %)."
            )
    if history.users is None:
        found.append("The history names no users: how much the conversations of one user are alike is not known.")
    return found

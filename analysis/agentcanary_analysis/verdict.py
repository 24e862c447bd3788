"""The statuses of all metrics, safety and validity → what the evidence says at one look. Pure.

The order in which a rollout acts on it, and its durations and minimums, are the state machine's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agentcanary_analysis.aggregates import Aggregates
from agentcanary_analysis.checks import Boundary, Check
from agentcanary_analysis.evidence import Evidence, Status
from agentcanary_analysis.metrics import Kind, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFinding:
    """What one look says of one check of the current stage.

    Attributes:
        check: The check.
        status: ``SUSPECT``, ``NO_DATA``, ``SAFE`` (proven against the check's own boundary) or ``UNDECIDED``
            (neither suspect nor proven: enough for a stage that asks its checks to be quiet).
        reason: In words, with numbers.
        evidence: Against the check's own boundary; None for counts.
    """

    check: Check
    status: Status
    reason: str = ""
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRatio:
    """Is the split what was asked for.

    Attributes:
        log_e_assigned: Natural logarithm of the e-value on assigned conversations.
        log_e_counted: The same on counted ones.
        alarm: True when either reached 1000.
        reason: In words, with numbers, when it alarms.
    """

    log_e_assigned: float = 0.0
    log_e_counted: float = 0.0
    alarm: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the evidence says at one look.

    Attributes:
        unsafe: Why the canary must stop at once, or empty.
        harmed: Metrics that prove harm, the largest term first. Empty: no harm is proven.
        log_e_harm: Natural logarithm of the combined e-value against "within every boundary".
        log_e_harm_boundary: The value that it must reach.
        invalid: Why the data cannot be trusted, or empty.
        unproven: What is to be ruled out before the step to weight 1 and is not yet, beside evidence and margins.
        evidence: One for each criterion.
        margins: One for each tighter margin that must be proven before the step to weight 1.
        dry_run: One for each criterion that only warns, judged by itself with a budget of its own.
        checks: One for each check of the current stage.
        sample_ratio: See ``SampleRatio``.
        stage_conversations: Counted canary conversations that began in the current stage.
        thresholds: Per quantile metric the histogram edge that an epoch starting now would use.
        not_measured: Criteria that do not count for promotion: no check names them, nothing was ever recorded.
        warnings: For people: nobody reports safety, the stages' estimates disagree, …
    """

    unsafe: str = ""
    harmed: tuple[str, ...] = ()
    log_e_harm: float = 0.0
    log_e_harm_boundary: float = 3.0
    invalid: str = ""
    unproven: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    margins: tuple[Evidence, ...] = ()
    dry_run: tuple[Evidence, ...] = ()
    checks: tuple[CheckFinding, ...] = ()
    sample_ratio: SampleRatio = field(default_factory=SampleRatio)
    stage_conversations: int = 0
    thresholds: dict[str, float] = field(default_factory=dict)
    not_measured: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def judge(
    aggregates: Aggregates,
    *,
    metrics: Iterable[Metric],
    criteria: Mapping[str, Boundary],
    margins: Mapping[str, Boundary] | None = None,
    checks: Sequence[Check] = (),
    checked: Collection[str] = (),
    alpha: float = 0.05,
    alpha_promote: float = 0.05,
    attempt: int = 1,
    stage: int = 0,
    proof_weight: float,
    max_safety_violations: int = 0,
    max_violation_rate: float | None = None,
    anytime: bool = True,
) -> Findings:
    """What the evidence says at one look.

    Args:
        aggregates: Of one rollout; epoch -1 holds the history before it.
        metrics: Every metric that a criterion or a check names, and those whose thresholds are wanted.
        criteria: Per metric the rollback boundary, the same at every look of the rollout.
        margins: Per metric a tighter boundary that must be proven before the step to weight 1.
        checks: Of the current stage.
        checked: Names of all metrics that a check of any stage names: these count for promotion even without data.
        alpha: Budget for ever calling the canary harmful when it is within every boundary at all times.
        alpha_promote: Budget for ever calling it safe when it is beyond some boundary.
        attempt: 1 for the first rollout of this pair of versions; restarts get a share of the budgets.
        stage: Index of the current stage.
        proof_weight: The largest weight below 1: ``safe`` is asked on its epochs.
        max_safety_violations: Confirmed violations of the canary that are tolerated.
        max_violation_rate: Share of conversations with a violation that must be ruled out before the step to weight 1;
            None: a matter of policy alone.
        anytime: Whether to give each criterion its interval that holds at all looks. Nothing is decided by it, and it
            is a third of the work.

    Raises:
        ValueError: If a criterion or check names an unknown metric, or the aggregates are impossible.
    """
    # Loaded with the first look, in the controller's thread: the processes that serve requests need no scipy.
    from agentcanary_analysis.checked_input import checked_type
    from agentcanary_analysis.judging import Look
    from agentcanary_analysis.weighing import budget

    checked_type("aggregates", aggregates, Aggregates)
    checked_type("attempt", attempt, int)
    for boundary in (*criteria.values(), *(margins or {}).values()):
        checked_type("a boundary", boundary, Boundary)
    if not 0 <= proof_weight <= 1:
        raise ValueError(f"proof_weight must be between 0 and 1, got {proof_weight} (write 0.05 for 5 %)")
    known = {checked_type("a metric", metric, Metric).name: metric for metric in metrics}
    named = {*checked, *(check.metric for check in checks)}
    for name in (*criteria, *(margins or {}), *named):
        if name not in known:
            raise ValueError(f"metric {name!r} is unknown; the metrics are {', '.join(sorted(known)) or 'none'}")
    look = Look(
        aggregates=aggregates,
        metrics=known,
        alpha=budget(alpha, attempt),
        alpha_promote=budget(alpha_promote, attempt),
        proof_weight=proof_weight,
        stage=stage,
    )
    look.prepare(criteria, margins or {}, checks)
    unmeasured = look.unmeasured(criteria, named)
    evidence, weighed = look.criteria(criteria, anytime=anytime)
    sample_ratio = look.sample_ratio(weighed)
    harmed = sorted((found for found in evidence if found.status is Status.HARMED), key=lambda found: -found.log_e_harm)
    drifting = tuple(found.metric for found in evidence if found.drifting)
    violations = aggregates.safety.canary
    unsafe = ""
    if violations > max_safety_violations:
        unsafe = f"{violations} confirmed safety violations of the canary, {max_safety_violations} tolerated"
    return Findings(
        unsafe=unsafe,
        harmed=tuple(found.metric for found in harmed),
        log_e_harm=float(weighed.log_e_harm[0]),
        log_e_harm_boundary=-math.log(look.alpha),
        invalid=sample_ratio.reason,
        unproven=look.violation_rate(max_violation_rate, max_safety_violations),
        evidence=tuple(found for found in evidence if found.metric not in unmeasured),
        margins=tuple(found for found in look.margins(margins or {}) if found.metric not in unmeasured),
        checks=look.checks(checks),
        sample_ratio=sample_ratio,
        stage_conversations=look.stage_conversations(),
        thresholds=look.thresholds(),
        not_measured=unmeasured,
        warnings=_warnings(aggregates, known, named, drifting, unmeasured),
    )


def _warnings(
    aggregates: Aggregates,
    metrics: Mapping[str, Metric],
    named: Collection[str],
    drifting: Collection[str],
    unmeasured: Collection[str],
) -> tuple[str, ...]:
    found = []
    if any(metrics[name].kind is Kind.COUNT for name in named) and not aggregates.safety.reports:
        found.append("no safety report was ever received: nobody may be watching")
    found += [f"{name} is drifting: the stages disagree about how far the canary is from stable" for name in drifting]
    found += [f"{name} is not measured: no check names it and nothing of it is counted yet" for name in unmeasured]
    return tuple(found)

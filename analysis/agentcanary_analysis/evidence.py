"""One metric and its aggregates → Evidence: what is known, by which method, and what is missing. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from agentcanary_analysis.aggregates import Aggregates
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.metrics import Kind, Metric, early_ages

if TYPE_CHECKING:
    from agentcanary_analysis.cells import Cells
    from agentcanary_analysis.questions import Answers, Line
    from agentcanary_analysis.summaries import Summary


class Status(StrEnum):
    """What the evidence says of a metric or of a check. Missing data is a status of its own, never a pass."""

    HARMED = "harmed"
    SUSPECT = "suspect"
    SAFE = "safe"
    UNDECIDED = "undecided"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSummary:
    """One arm of a metric, as people read it.

    Attributes:
        units: Conversations counted.
        observed: Those with a value.
        events: Conversations with the event, for proportions.
        value: Rate, mean or quantile over the epochs, or None without data.
    """

    units: int
    observed: int
    value: float | None
    events: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval of the relative change, canary against stable: 0.25 is 25 % more."""

    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """A one-look test.

    Attributes:
        name: The method.
        p_value: One-sided, against the boundary that it was asked about.
    """

    __test__ = False

    name: str
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that is known of one metric at one look.

    Attributes:
        metric: Its name.
        boundary: The line between acceptable and not.
        status: What follows.
        reason: Why it is undecided or without data, in words; empty otherwise.
        stable: The stable arm.
        canary: The canary arm.
        relative_change: Stratified estimate of canary / stable - 1, or None.
        interval: Of one look, for people to read: right at a look that was fixed before, and after a rollback
            biased away from the boundary.
        anytime: The relative changes that no look has rejected: right at all looks together. Of criteria only.
        test: The one-look test against the boundary.
        log_e_harm: Natural logarithm of the e-value against "within the boundary".
        log_e_safe: The same against "beyond the boundary".
        needs: About how many more conversations, of both arms, until it is decided; None when it is or never will be.
        drifting: The stages disagree about how far the canary is from stable: it is not called safe.
        answered: Both arms have values that this line can use, in an epoch in which both could be chosen.
        notes: What was excluded, merged or assumed, a sentence each.
    """

    metric: str
    boundary: Boundary
    status: Status
    log_e_harm: float
    log_e_safe: float
    reason: str = ""
    stable: ArmSummary | None = None
    canary: ArmSummary | None = None
    relative_change: float | None = None
    interval: Interval | None = None
    anytime: Interval | None = None
    test: Test | None = None
    needs: int | None = None
    drifting: bool = False
    answered: bool = True
    notes: tuple[str, ...] = ()


def assess(
    aggregates: Aggregates,
    metric: Metric,
    boundary: Boundary,
    *,
    weight: float,
    alpha: float = 0.05,
    alpha_promote: float = 0.05,
) -> Evidence:
    """What is known of one metric against one boundary, on its own.

    Args:
        aggregates: Of one rollout.
        metric: The metric.
        boundary: The line between acceptable and not.
        weight: ``safe`` is asked on the epochs of this weight.
        alpha: Budget for calling a metric harmed that is within the boundary at all times.
        alpha_promote: Budget for calling a metric safe that is beyond it.

    Raises:
        ValueError: If the aggregates are impossible, or a budget is outside (0, 0.5).
    """
    # Loaded with the first look, in the controller's thread: the processes that serve requests need no scipy.
    from agentcanary_analysis.anytime_intervals import anytime_interval
    from agentcanary_analysis.cells import cells_of
    from agentcanary_analysis.checked_input import checked_type
    from agentcanary_analysis.looked_at import LookedAt
    from agentcanary_analysis.questions import Line, answer, with_early_ages
    from agentcanary_analysis.summaries import summarise
    from agentcanary_analysis.suspicion import drift_p, suspect_p

    checked_type("aggregates", aggregates, Aggregates)
    checked_type("metric", metric, Metric)
    checked_type("boundary", boundary, Boundary)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must be between 0 and 1, got {weight} (write 0.05 for 5 %)")
    for name, budget in (("alpha", alpha), ("alpha_promote", alpha_promote)):
        if not 0 < budget < 0.5:
            raise ValueError(f"{name} must be between 0 and 0.5, got {budget} (write 0.05 for 5 %)")
    looked_at = LookedAt(aggregates)
    line, cells = Line(metric, boundary), cells_of(looked_at, metric, boundary)
    at = {"weight": weight, "alpha": alpha, "alpha_promote": alpha_promote}
    early = [answer(cells_of(looked_at, age, boundary), Line(age, boundary), **at) for age in early_ages(metric)]
    return describe(
        cells,
        line,
        with_early_ages(answer(cells, line, **at), early),
        summarise(looked_at, metric, cells if metric.kind is not Kind.QUANTILE else None),
        anytime=anytime_interval(looked_at, cells, line),
        suspect_p=float(suspect_p(cells, line)[0]),
        drift_p=float(drift_p(cells, line)[0]),
        weight=weight,
        alpha_promote=alpha_promote,
        log_e_needed=-math.log(alpha),
    )


def describe(
    cells: Cells,
    line: Line,
    found: Answers,
    summary: Summary,
    *,
    anytime: Interval | None = None,
    suspect_p: float,
    drift_p: float,
    weight: float,
    alpha_promote: float,
    log_e_needed: float,
) -> Evidence:
    """The evidence of one rollout from the answers to its questions; see ``assess``.

    Args:
        cells: Of this line, a batch of one.
        line: Metric and boundary.
        found: ``answer(cells, line, …)``.
        summary: What people read of the metric.
        anytime: The relative changes that no look has rejected.
        suspect_p: One-look p-value against "not beyond the boundary".
        drift_p: P-value against "the arms differ equally in all stages".
        weight: ``safe`` is asked on the epochs of this weight.
        alpha_promote: Budget of ``safe``.
        log_e_needed: Log e-value at which this metric alone proves harm: more when metrics share ``alpha``.
    """
    from agentcanary_analysis.forecast import needs
    from agentcanary_analysis.questions import Method, response_lines
    from agentcanary_analysis.suspicion import DRIFTING_BELOW, method_name

    drifting = drift_p < DRIFTING_BELOW
    usable = [cells.testable & (units > 0) for units in (cells.canary_n, cells.stable_n)]
    answered = bool(usable[0].any() and usable[1].any())
    status, reason, more = Status.UNDECIDED, "", None
    harmed = bool(found.log_e_harm[0] >= log_e_needed)
    if harmed and line.metric.early:
        # Even where nobody has reached the horizon yet: it is proven at an earlier age.
        status = Status.HARMED
    elif not (summary.canary.observed and summary.stable.observed):
        status, reason = Status.NO_DATA, _nobody(summary)
    elif line.method is Method.REPORT_ONLY:
        reason = f"a {line.metric.kind.value} is reported only; judge a proportion, mean, ratio or quantile"
    elif not answered:
        status, reason = Status.NO_DATA, "no epoch began with a threshold (it needs 200 stable conversations before)"
    elif harmed:
        status = Status.HARMED
    elif found.safe[0] and not drifting:
        status = Status.SAFE
    else:
        more = needs(cells, line, weight=weight, alpha_promote=alpha_promote, log_e_needed=log_e_needed)
        if drifting:
            reason = "drifting: the stages disagree about how far the canary is from stable"
        elif found.unanswered[0]:
            status, reason = Status.NO_DATA, _unanswered(summary)
            sides = [
                needs(cells.responses(), side, weight=weight, alpha_promote=alpha_promote)
                for side in response_lines(line.metric)
            ]
            more = None if None in sides else max(side for side in sides if side is not None)
        else:
            reason = "too close to the boundary to tell" if more is None else f"about {more} more conversations"
    return Evidence(
        metric=line.metric.name,
        boundary=line.boundary,
        status=status,
        reason=reason,
        stable=summary.stable,
        canary=summary.canary,
        relative_change=summary.relative_change,
        interval=summary.interval,
        anytime=anytime,
        test=Test(name=method_name(line), p_value=suspect_p),
        log_e_harm=float(found.log_e_harm[0]),
        log_e_safe=float(found.log_e_safe[0]),
        needs=more,
        drifting=drifting,
        answered=answered,
        notes=_notes(cells, line.metric, summary),
    )


def _nobody(summary: Summary) -> str:
    empty = [name for name, arm in (("canary", summary.canary), ("stable", summary.stable)) if not arm.observed]
    return f"no counted conversation of {' and '.join(empty)} has a value yet"


def _unanswered(summary: Summary) -> str:
    shares = [1 - arm.observed / arm.units for arm in (summary.canary, summary.stable)]
    return (
        f"values are missing for {shares[0]:.1%} of the canary's and {shares[1]:.1%} of stable's conversations: "
        "neither is the worst case safe, nor are the arms proven to answer equally often (within 2 points)"
    )


def _notes(cells: Cells, metric: Metric, summary: Summary) -> tuple[str, ...]:
    notes = []
    if metric.kind is Kind.QUANTILE and cells.canary_n.sum() < summary.canary.units:
        notes.append("epochs that began without a threshold give no evidence")
    if metric.kind is Kind.RATIO:
        notes.append("asymptotic, by conversation; how many there are to divide by is the versions' own doing")
    missing = [arm.units - arm.observed for arm in (summary.canary, summary.stable)]
    if any(missing):
        notes.append(f"no value from {missing[0]} conversations of the canary and {missing[1]} of stable")
    return tuple(notes)

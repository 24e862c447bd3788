"""A result in words and numbers, the same in every format of the report. Pure, standard library only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from agentcanary_analysis.analysis_result import AnalysisResult, ArmResult, CheckResult, SplitResult, Verdict
from agentcanary_analysis.evidence import Interval, Status
from agentcanary_analysis.figures import change, count, e_value, unit_of, value
from agentcanary_analysis.metrics import Direction, Kind, Metric
from agentcanary_analysis.report.course import Course

VERDICTS = {
    Verdict.PROMOTE: "Promote",
    Verdict.ROLLBACK: "Roll back",
    Verdict.HOLD: "Hold",
}
STATUSES = {
    Status.HARMED: "harmed",
    Status.SUSPECT: "suspect",
    Status.SAFE: "safe",
    Status.UNDECIDED: "undecided",
    Status.NO_DATA: "no data",
}
_SMALL = 0.0001


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One check, in words.

    Attributes:
        check: As it was written.
        status: What the evidence says.
        word: The same for people.
        reason: Why; may be empty.
        stable: Value and counts of the stable arm.
        canary: The same of the canary.
        change: Relative change with its interval.
        always: The changes that no look has rejected; empty where the evidence is not for many looks.
        against: The value on the boundary.
        evidence: p-values and e-values, a phrase each.
        needs: About how many more conversations; empty when nothing more helps.
        notes: A sentence each.
    """

    check: str
    status: Status
    word: str
    reason: str
    stable: str
    canary: str
    change: str
    always: str
    against: str
    evidence: tuple[str, ...]
    needs: str
    notes: tuple[str, ...]


def told(check: CheckResult) -> Told:
    """One check in words."""
    return Told(
        check=check.check,
        status=check.status,
        word=STATUSES[check.status],
        reason=check.reason,
        stable=_arm(check.stable, check.metric),
        canary=_arm(check.canary, check.metric),
        change=_change(check),
        always="" if check.anytime is None else _ends(check.anytime),
        against=_against(check),
        evidence=tuple(_evidence(check)),
        # The engine often says it in the reason already.
        needs=""
        if check.needs is None or str(check.needs) in check.reason
        else f"about {count(check.needs)} more conversations",
        notes=check.notes,
    )


def _arm(arm: ArmResult, metric: Metric) -> str:
    if metric.kind is Kind.COUNT:
        return f"{count(arm.events or 0)} in {count(arm.units)}" if arm.observed else "–"
    shown = value(arm.value, metric.kind, unit_of(metric))
    of = f"{count(arm.events)} of {count(arm.observed)}" if arm.events is not None else count(arm.observed)
    missing = f", {count(arm.units - arm.observed)} missing" if arm.observed < arm.units else ""
    return f"{shown} ({of}{missing})"


def _change(check: CheckResult) -> str:
    if check.interval is None:
        return change(check.relative_change)
    return f"{change(check.relative_change)} ({_ends(check.interval)})"


def _ends(interval: Interval) -> str:
    return f"{interval.level * 100:g} %: {change(interval.low)} to {change(interval.high)}"


def _against(check: CheckResult) -> str:
    if check.boundary is None:
        return f"at most {check.limit:g}"
    at_most = "at most" if check.boundary.direction is Direction.UP_IS_WORSE else "at least"
    if check.stable.value is None:
        return f"{at_most} {check.boundary.ratio:g} × stable"
    return f"{at_most} {value(check.boundary.at(check.stable.value), check.metric.kind, unit_of(check.metric))}"


def _evidence(check: CheckResult) -> Iterator[str]:
    if check.test is not None:
        yield f"{p_value(check.test.p_value)} for harm ({check.test.name})"
    if check.p_safe is not None:
        yield f"{p_value(check.p_safe)} for safety"
    if check.naive_test is not None:
        yield f"{p_value(check.naive_test.p_value)} for harm if clusters are ignored ({check.naive_test.name})"
    if check.log_e_harm is not None:
        yield f"harm E = {e_value(check.log_e_harm)}, proven at {e_value(check.log_e_harm_needed)}"
    if check.log_e_safe is not None:
        yield f"safe E = {e_value(check.log_e_safe)}, proven at {e_value(check.log_e_safe_needed)}"


def always(row: Told) -> str:
    """The changes that no look has rejected, as a phrase."""
    return f"change at all looks together {row.always}" if row.always else ""


def p_value(p: float) -> str:
    """A p-value; very small ones as what they are below.

    >>> p_value(0.0312), p_value(1e-9), p_value(1.0)
    ('p = 0.031', 'p < 0.0001', 'p = 1')
    """
    return f"p < {_SMALL}" if p < _SMALL else f"p = {p:.2g}"


def headline(result: AnalysisResult, course: Course | None) -> str:
    """What is reported about: ``support-v1 → support-v2``, with the agent where it is known."""
    of = "" if course is None else f"{course.agent}: "
    return f"{of}{result.stable} → {result.canary}"


def told_course(course: Course) -> str:
    """Which rollout it is, and when it was."""
    return (
        f"rollout {course.rollout}, attempt {course.attempt}, {course.phase.replace('_', ' ')}, "
        f"{moment(course.began_at)} to {moment(course.until)}"
    )


def moment(at: float) -> str:
    """A time in UTC, to the minute.

    >>> moment(1767348000.7)
    '2026-01-02 10:00 UTC'
    """
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def told_split(split: SplitResult) -> str:
    """The sample ratio in a sentence or two."""
    total = split.stable + split.canary
    if split.realised is None:
        return "No conversations were counted."
    has = f"The canary has {count(split.canary)} of {count(total)} conversations ({split.realised * 100:.1f} %)."
    weights = sorted(set((split.designed or {}).values()))
    asked = " Asked for: " + ", ".join(f"{weight * 100:g} %" for weight in weights) + "." if weights else ""
    figures = [] if split.p_value is None else [f"{p_value(split.p_value)}"]
    figures += [] if split.log_e is None else [f"E = {e_value(split.log_e)}, alarm at 1000"]
    found = ""
    if figures:
        found = f" It is {'not ' if split.alarm else ''}as asked for ({'; '.join(figures)})."
    reason = f" {split.reason[0].upper()}{split.reason[1:].removesuffix('.')}." if split.reason else ""
    return has + asked + found + reason


def told_excluded(result: AnalysisResult) -> list[str]:
    """What is in no statistic, a phrase each."""
    return [f"{count(number)}: {reason}" for reason, number in result.excluded.items() if number]


def told_budget(result: AnalysisResult) -> str:
    """The two budgets of error."""
    return (
        f"α = {result.alpha:g} for calling a canary harmful that is within every boundary, "
        f"α = {result.alpha_promote:g} for calling one safe that is beyond some boundary."
    )

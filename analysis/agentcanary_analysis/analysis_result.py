"""What an analysis of a recorded comparison found, as values. Pure, standard library only.

``to_dict`` is the JSON of ``agentcanary analyze --json``; a report shows the same values as tables and charts.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.evidence import Interval, Status, Test
from agentcanary_analysis.metrics import Kind, Metric


class Verdict(StrEnum):
    """What the analysis says: every check is safe, any is harmed, or neither."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    HOLD = "hold"


class AnalysisMethod(StrEnum):
    """How a check is decided."""

    FIXED = "fixed"
    ANYTIME = "anytime"
    GROUP_SEQUENTIAL = "group-sequential"


class Scale(StrEnum):
    """What the numbers of an ``EvidencePoint`` are."""

    LOG_E = "log_e"
    P_VALUE = "p_value"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """One arm of a check.

    Attributes:
        units: Conversations counted.
        observed: Those with a value.
        value: Rate, mean or quantile over the epochs, total of a count; None without data.
        events: Conversations with the event, for proportions; the total, for counts; else None.
        clusters: Clusters among them, where the analysis was by cluster.
    """

    units: int
    observed: int
    value: float | None
    events: int | None = None
    clusters: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidencePoint:
    """The evidence of one check at one moment, everything counted by then.

    Attributes:
        at: Unix time in seconds, or None where the data have no times.
        conversations: Conversations of both arms by then.
        scale: What the next four are. Log e-values reach a boundary from below, p-values from above.
        harm: Evidence that the canary is beyond the boundary of the check, or None.
        safe: Evidence that it is within.
        harm_boundary: Where harm is proven.
        safe_boundary: Where safety is proven.
    """

    at: float | None
    conversations: int
    scale: Scale
    harm: float | None
    safe: float | None
    harm_boundary: float
    safe_boundary: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What the analysis says of one check.

    Attributes:
        check: As it was written.
        metric: What it is about.
        status: ``HARMED``, ``SUSPECT``, ``SAFE``, ``UNDECIDED`` or ``NO_DATA``.
        reason: In words, with numbers.
        boundary: The line between acceptable and not; None for counts.
        limit: The limit as it was written: relative to stable, or a count.
        stable: The stable arm.
        canary: The canary arm.
        relative_change: Canary / stable - 1 over the epochs, never pooled; None where it does not exist.
        interval: Of the relative change, right at one look.
        anytime: The relative changes that no look has rejected: right at all looks together; None where the evidence
            is not anytime-valid.
        test: One-sided, a small p-value speaks for "beyond the boundary"; by cluster where there are clusters.
        p_safe: A small one speaks for "within the boundary", by the same method.
        naive_test: ``test`` as if every conversation were its own cluster; None without clusters.
        log_e_harm: Natural logarithm of the e-value against "within the boundary"; None where it was not computed.
        log_e_safe: The same against "beyond the boundary".
        log_e_harm_needed: Log e-value at which harm is proven.
        log_e_safe_needed: Log e-value at which safety is proven.
        needs: About how many more conversations, of both arms, until it is decided; None when it is or never will be.
        notes: What was excluded, merged or assumed, a sentence each.
        over_time: The evidence as it grew, the oldest first; empty where that was not asked or has no order.
        stable_histogram: For quantile metrics: conversations per bin (see ``histogram``) of stable, over all epochs.
        canary_histogram: The same of the canary.
    """

    check: str
    metric: Metric
    status: Status
    reason: str
    boundary: Boundary | None
    limit: float
    stable: ArmResult
    canary: ArmResult
    relative_change: float | None = None
    interval: Interval | None = None
    anytime: Interval | None = None
    test: Test | None = None
    p_safe: float | None = None
    naive_test: Test | None = None
    log_e_harm: float | None = None
    log_e_safe: float | None = None
    log_e_harm_needed: float = field(default=math.log(20))
    log_e_safe_needed: float = field(default=math.log(20))
    needs: int | None = None
    notes: tuple[str, ...] = ()
    over_time: tuple[EvidencePoint, ...] = ()
    stable_histogram: Mapping[int, int] = field(default_factory=dict)
    canary_histogram: Mapping[int, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        test, naive = self.test, self.naive_test
        return {
            "check": self.check,
            "metric": self.metric.name,
            "kind": self.metric.kind.value,
            "status": self.status.value,
            "reason": self.reason,
            "boundary": self._boundary(),
            "stable": _arm(self.stable, self.metric),
            "canary": _arm(self.canary, self.metric),
            "relative_change": number(self.relative_change),
            "interval": _interval(self.interval),
            "anytime_interval": _interval(self.anytime),
            "test": None
            if test is None
            else {"name": test.name, "p_value": number(test.p_value), "p_safe": number(self.p_safe)},
            "naive_test": None if naive is None else {"name": naive.name, "p_value": number(naive.p_value)},
            "evidence": {
                "harm": e_value(self.log_e_harm),
                "safe": e_value(self.log_e_safe),
                "log_harm": number(self.log_e_harm),
                "log_safe": number(self.log_e_safe),
                "harm_needed": e_value(self.log_e_harm_needed),
                "safe_needed": e_value(self.log_e_safe_needed),
            },
            "needs": self.needs,
            "notes": list(self.notes),
        }

    def _boundary(self) -> dict[str, Any]:
        if self.boundary is None:
            return {"limit": self.limit}
        stable = self.stable.value
        return {
            "ratio": self.boundary.ratio,
            "floor": self.boundary.floor,
            "direction": self.boundary.direction.value,
            "at": None if stable is None else number(self.boundary.at(stable)),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitResult:
    """Is the split what was asked for.

    Attributes:
        stable: Conversations of stable.
        canary: Conversations of the canary.
        designed: Share that the canary was to get, by epoch number; None where nobody said it.
        p_value: Of one look (chi-square over epochs); None where it was not tested.
        log_e: Log e-value against "as designed", for many looks; None where it was not tested.
        alarm: The split is not as designed: no verdict but harm holds on such data.
        reason: In words; why it was not tested, or what is wrong.
    """

    stable: int
    canary: int
    designed: Mapping[int, float] | None
    p_value: float | None = None
    log_e: float | None = None
    alarm: bool = False
    reason: str = ""

    @property
    def realised(self) -> float | None:
        """Share that the canary got; None without conversations."""
        total = self.stable + self.canary
        return self.canary / total if total else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        tested = self.p_value is not None
        return {
            "status": "alarm" if self.alarm else "ok" if tested else "not_tested",
            "alarm": self.alarm,
            "stable": self.stable,
            "canary": self.canary,
            "realised": self.realised,
            "designed": None if self.designed is None else {str(epoch): w for epoch, w in self.designed.items()},
            "p_value": number(self.p_value),
            "e_value": e_value(self.log_e),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One stretch of constant weight, as it was counted.

    Attributes:
        number: Its number.
        weight: Designed share of the canary; the realised one where nobody said it.
        stable: Conversations of stable.
        canary: Conversations of the canary.
        label: What it was in the table, in words.
    """

    number: int
    weight: float
    stable: int
    canary: int
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisResult:
    """Everything that an analysis found.

    Attributes:
        verdict: What it says.
        reasons: Why, the weightiest first; never empty.
        method: How the checks were decided.
        alpha: Budget for calling a canary harmful that is within every boundary.
        alpha_promote: Budget for calling one safe that is beyond some boundary.
        stable: Name of the stable version.
        canary: Name of the canary version.
        weight: Share that the canary was to get, or None where it differed by epoch or nobody said it.
        checks: In the order in which they were asked.
        sample_ratio: See ``SplitResult``.
        epochs: What was counted, by epoch.
        excluded: Per reason the rows in no statistic.
        notes: What was assumed, a sentence each.
        source: What was read, for people: a file's name, a kind of frame.
        unit: Column of the unit, or None where every row is one.
        cluster: Column of the cluster, or None.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    method: AnalysisMethod
    alpha: float
    alpha_promote: float
    stable: str
    canary: str
    weight: float | None
    checks: tuple[CheckResult, ...]
    sample_ratio: SplitResult
    epochs: tuple[EpochResult, ...] = ()
    excluded: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source: str = ""
    unit: str | None = None
    cluster: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the histograms and the evidence over time."""
        return {
            "verdict": self.verdict.value,
            "reasons": list(self.reasons),
            "method": self.method.value,
            "alpha": self.alpha,
            "alpha_promote": self.alpha_promote,
            "stable": self.stable,
            "canary": self.canary,
            "weight": self.weight,
            "unit": self.unit,
            "cluster": self.cluster,
            "sample_ratio": self.sample_ratio.to_dict(),
            "epochs": [
                {
                    "epoch": epoch.number,
                    "weight": epoch.weight,
                    "stable": epoch.stable,
                    "canary": epoch.canary,
                    "label": epoch.label,
                }
                for epoch in self.epochs
            ],
            "excluded": dict(self.excluded),
            "notes": list(self.notes),
            "checks": [check.to_dict() for check in self.checks],
        }


def number(value: float | None) -> float | str | None:
    """A number as JSON can hold it: an infinite one becomes the text ``inf``, a missing one stays null.

    >>> number(2.5), number(float("inf")), number(None)
    (2.5, 'inf', None)
    """
    if value is None or math.isfinite(value):
        return value
    if math.isnan(value):
        raise ValueError("a result must be a number or missing, got nan")
    return "-inf" if value < 0 else "inf"


def e_value(log_e: float | None) -> float | None:
    """An e-value from its natural logarithm; the largest float where it is larger (its logarithm stands beside it).

    >>> e_value(0.0), e_value(None), e_value(1e6) > 1e308
    (1.0, None, True)
    """
    if log_e is None:
        return None
    return math.exp(log_e) if log_e < math.log(sys.float_info.max) else sys.float_info.max


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    return {
        "low": number(interval.low),
        "high": number(interval.high),
        "level": interval.level,
        "method": interval.method,
    }


def _arm(arm: ArmResult, metric: Metric) -> dict[str, Any]:
    data: dict[str, Any] = {"n": arm.units, "observed": arm.observed}
    if metric.kind in (Kind.PROPORTION, Kind.COUNT):
        data["events"] = arm.events
    if metric.kind is Kind.MEAN:
        data["mean"] = number(arm.value)
    data["value"] = number(arm.value)
    if arm.clusters is not None:
        data["clusters"] = arm.clusters
    return data

"""One metric and its aggregates → Evidence: what is known, by which method, and what is missing. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agentcanary_analysis.checks import Boundary


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
        interval: For people to read.
        test: The one-look test against the boundary.
        log_e_harm: Natural logarithm of the e-value against "within the boundary".
        log_e_safe: The same against "beyond the boundary".
        needs: About how many more conversations, of both arms, until it is decided; None when it is or never will be.
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
    test: Test | None = None
    needs: int | None = None
    notes: tuple[str, ...] = ()


# The functions that compute Evidence from Aggregates follow here.

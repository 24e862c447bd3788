"""What the one-look methods return: a test, limits, or the named reason why there are none. Pure, standard library."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Claim(StrEnum):
    """What a small p-value speaks for. The null hypothesis is the opposite."""

    BEYOND = "beyond the boundary"
    WITHIN = "within the boundary"


class Unknown(StrEnum):
    """Why a number does not exist. A reason to show, never a number to compare."""

    EMPTY_ARM = "an arm has no values"
    TOO_FEW = "an arm has fewer than two values"
    CONSTANT = "all values of an arm are equal, so their spread is unknown"
    ZERO_STABLE = "the stable value is zero, so a relative change does not exist"
    NOT_POSITIVE = "a value is not positive, so its logarithm does not exist"
    UNBOUNDED = "the stable value is too uncertain to bound a relative change"
    TOO_FEW_CLUSTERS = "there are fewer than 10 effective clusters in an arm"
    TOO_FEW_EVENTS = "an arm has fewer than 5 events or fewer than 5 units without one"
    NO_EVENTS = "there is no event in either arm"


class OneLook(NamedTuple):
    """A one-sided test at one look.

    Attributes:
        method: Its name, for people.
        statistic: Standardised distance from the boundary, or the canary's events for conditional tests.
        p_value: In [0, 1], for the claim that was asked.
    """

    method: str
    statistic: float
    p_value: float


class Limits(NamedTuple):
    """Both ends of an interval, in the unit of what was estimated; an end may be infinite."""

    low: float
    high: float


def checked_confidence(confidence: float) -> float:
    """``confidence`` itself, if it is a two-sided coverage.

    Raises:
        ValueError: If it is outside (0, 1).

    >>> checked_confidence(0.95)
    0.95
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence} (write 0.95 for 95 %)")
    return confidence

"""What so many conversations can prove, and how many a proof needs. Pure.

A canary is *detected* when it is shown to be beyond equality, and *certified* when it is shown to be within a margin.
Both are one-look designs; evidence that may be looked at any time needs somewhat more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtrit
from scipy.stats import nct

from agentcanary_analysis.checked_input import checked_type
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.constrained import constrained_rates
from agentcanary_analysis.metrics import DEFAULT_HORIZON, Direction
from agentcanary_analysis.one_look import Claim


class Spread(StrEnum):
    """Where the spread under the null hypothesis is taken from.

    ``ON_THE_LINE`` is that of the score test, by which checks are judged: plan with it. What it says to be detected and
    certified with power .80, at a base rate of 5 % and a weight of 5 %, the test does with a true power
    (``enumerated_power``) of .76 and .83 at 50 canary units, .80 and .81 at 200, .80 and .80 at 1000. ``WALD`` takes
    the true rates, as the textbook's quick formula and most tables do: for figures to be compared with theirs.
    Its .80 are a true .93 and .64, .90 and .68, .86 and .74: smaller changes are detected than it says, and wider
    margins are certified.

    Source:
        Farrington and Manning (1990), Statistics in Medicine 9:1447-1454: ``ON_THE_LINE`` is their method 3; Wald's is
        that of Blackwelder (1982), Controlled Clinical Trials 3:345-353.
    """

    ON_THE_LINE = "on the line"
    WALD = "Wald"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provable:
    """What a stage can prove.

    Attributes:
        detectable_ratio: The canary nearest to stable that is still detected with the wanted power; None: no canary is.
        certifiable_ratio: The tightest margin, as a ratio, within which a canary equal to stable is certified; None:
            no margin is.
    """

    detectable_ratio: float | None
    certifiable_ratio: float | None


def can_prove(
    base_rate: float,
    canary_units: int,
    weight: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    floor: float = 0.0,
    direction: Direction = Direction.UP_IS_WORSE,
    spread: Spread = Spread.ON_THE_LINE,
) -> Provable:
    """The smallest change that a number of canary conversations detects, and the tightest margin that it certifies.

    Args:
        base_rate: Rate of stable, in (0, 1).
        canary_units: Counted canary conversations.
        weight: Share of the canary, in (0, 1); stable has the rest.
        alpha: One-sided level, in (0, 0.5).
        power: In (0.5, 1).
        floor: Absolute difference not worth acting on: added to both lines.
        direction: Which way is worse.
        spread: Which formula; the default is the one that keeps its promise.

    Raises:
        ValueError: If an argument is outside its range.

    Source:
        Farrington and Manning (1990), Statistics in Medicine 9:1447-1454, equations 2 and 4.

    >>> for units in (50, 200, 1000):
    ...     stage = can_prove(0.05, units, 0.05)
    ...     print(round(stage.detectable_ratio, 2), round(stage.certifiable_ratio, 2))
    2.94 3.51
    1.88 2.01
    1.37 1.39
    """
    _check_rate("base_rate", base_rate)
    checked_type("direction", direction, Direction)
    checked_type("spread", spread, Spread)
    stable_units = _stable_units(canary_units, weight)
    _check_levels(alpha, power)
    up = direction is Direction.UP_IS_WORSE
    if not 0 <= floor < (1 - base_rate if up else base_rate):
        raise ValueError(f"floor must leave room beyond the base rate {base_rate}, got {floor}")
    shift = floor if up else -floor
    most = (1 - shift) / base_rate if up else -shift / base_rate

    def detected(ratio: float) -> float:
        return _excess(
            ratio * base_rate, base_rate, canary_units, stable_units, 1.0, shift, alpha, power, spread, above=up
        )

    def certified(ratio: float) -> float:
        return _excess(
            base_rate, base_rate, canary_units, stable_units, ratio, shift, alpha, power, spread, above=not up
        )

    farthest = 1 / base_rate if up else 0.0
    return Provable(
        detectable_ratio=_nearest(detected, 1.0, farthest),
        certifiable_ratio=_nearest(certified, 1.0, most),
    )


def proportion_power(
    canary_rate: float,
    stable_rate: float,
    canary_units: float,
    stable_units: float,
    boundary: Boundary,
    *,
    claim: Claim = Claim.BEYOND,
    alpha: float = 0.05,
) -> float:
    """Probability that the score test supports ``claim`` at one look.

    Args:
        canary_rate: True rate, in (0, 1).
        stable_rate: True rate, in (0, 1).
        canary_units: Of the canary, positive.
        stable_units: Of stable, positive.
        boundary: The line.
        claim: What shall be shown.
        alpha: One-sided level.

    Raises:
        ValueError: If an argument is outside its range.

    Source:
        Farrington and Manning (1990), Statistics in Medicine 9:1447-1454, equation 2.

    >>> equal = Boundary(ratio=1.0, floor=0.0, direction=Direction.UP_IS_WORSE)
    >>> round(proportion_power(0.75, 0.5, 50, 50, equal, alpha=0.025), 4)  # R: power.prop.test(50, .5, .75)
    0.7402
    """
    checked_type("boundary", boundary, Boundary)
    checked_type("claim", claim, Claim)
    _check_rate("canary_rate", canary_rate)
    _check_rate("stable_rate", stable_rate)
    _check_levels(alpha, 0.8)
    if not (0 < canary_units < math.inf and 0 < stable_units < math.inf):
        raise ValueError(f"both arms need units, got {canary_units} and {stable_units}")
    above = (boundary.direction is Direction.UP_IS_WORSE) == (claim is Claim.BEYOND)
    distance, null, true = _distance(
        canary_rate, stable_rate, canary_units, stable_units, boundary.ratio, boundary.shift, Spread.ON_THE_LINE
    )
    return float(ndtr(((distance if above else -distance) - ndtri(1 - alpha) * null) / true))


def canary_units_needed(
    canary_rate: float,
    stable_rate: float,
    weight: float,
    boundary: Boundary,
    *,
    claim: Claim = Claim.BEYOND,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float | None:
    """Canary conversations until the score test supports ``claim`` with the wanted power; round up.

    Args:
        canary_rate: True rate, in (0, 1).
        stable_rate: True rate, in (0, 1).
        weight: Share of the canary, in (0, 1).
        boundary: The line.
        claim: What shall be shown.
        alpha: One-sided level.
        power: In (0.5, 1).

    Returns:
        None when the claim is not true of these rates: no number would do.

    Raises:
        ValueError: If an argument is outside its range.

    >>> equal = Boundary(ratio=1.0, floor=0.0, direction=Direction.UP_IS_WORSE)
    >>> round(canary_units_needed(0.075, 0.05, 0.5, equal), 1)  # R: power.prop.test(one.sided)
    1158.2
    """
    checked_type("boundary", boundary, Boundary)
    checked_type("claim", claim, Claim)
    _check_rate("canary_rate", canary_rate)
    _check_rate("stable_rate", stable_rate)
    _check_levels(alpha, power)
    others = _stable_units(1.0, weight)
    above = (boundary.direction is Direction.UP_IS_WORSE) == (claim is Claim.BEYOND)
    distance, null, true = _distance(
        canary_rate, stable_rate, 1.0, others, boundary.ratio, boundary.shift, Spread.ON_THE_LINE
    )
    if (distance if above else -distance) <= 0:
        return None
    return ((float(ndtri(1 - alpha)) * null + float(ndtri(power)) * true) / distance) ** 2


def mean_power(difference: float, deviation: float, units: float, *, alpha: float = 0.05) -> float:
    """Probability that a one-sided t test of two arms of ``units`` each shows a difference.

    Args:
        difference: True difference in the direction of the claim, in the metric's unit.
        deviation: Standard deviation within an arm, positive.
        units: Of each arm, at least 2.
        alpha: One-sided level.

    Raises:
        ValueError: If an argument is outside its range.

    >>> round(mean_power(1.0, 1.0, 20, alpha=0.025), 4)  # R: power.t.test(20, delta = 1)
    0.869
    """
    _check_levels(alpha, 0.8)
    if not (math.isfinite(difference) and 0 < deviation < math.inf and 2 <= units < math.inf):
        raise ValueError(f"need deviation > 0 and units >= 2, got {difference=}, {deviation=}, {units=}")
    freedom = 2 * (units - 1)
    return float(nct.sf(stdtrit(freedom, 1 - alpha), freedom, difference / deviation * math.sqrt(units / 2)))


def hours_to_decide(
    canary_units: float, weight: float, conversations_per_hour: float, *, horizon: float = DEFAULT_HORIZON
) -> float:
    """Hours until so many canary conversations have been counted, at a constant rate.

    Args:
        canary_units: Wanted.
        weight: Share of the canary, in (0, 1].
        conversations_per_hour: New conversations of both arms, positive.
        horizon: Age in seconds at which a conversation counts.

    Raises:
        ValueError: If an argument is outside its range.

    >>> hours_to_decide(1000, 0.05, 400)
    50.5
    """
    lasting = 0 <= canary_units < math.inf and 0 < conversations_per_hour < math.inf and 0 <= horizon < math.inf
    if not (lasting and 0 < weight <= 1):
        raise ValueError(
            f"need a weight in (0, 1] and conversations, got {canary_units=}, {weight=}, {conversations_per_hour=}, "
            f"{horizon=}"
        )
    return canary_units / (weight * conversations_per_hour) + horizon / 3600


def _excess(
    canary_rate: float,
    stable_rate: float,
    canary_units: float,
    stable_units: float,
    ratio: float,
    shift: float,
    alpha: float,
    power: float,
    spread: Spread,
    *,
    above: bool,
) -> float:
    """How much farther from the line the truth lies than the wanted power requires."""
    distance, null, true = _distance(canary_rate, stable_rate, canary_units, stable_units, ratio, shift, spread)
    return (distance if above else -distance) - float(ndtri(1 - alpha)) * null - float(ndtri(power)) * true


def _distance(
    canary_rate: float,
    stable_rate: float,
    canary_units: float,
    stable_units: float,
    ratio: float,
    shift: float,
    spread: Spread,
) -> tuple[float, float, float]:
    """Distance of the truth from the line, and its standard error under the null hypothesis and in truth."""

    def error(canary: float, stable: float) -> float:
        variance = canary * (1 - canary) / canary_units + ratio**2 * stable * (1 - stable) / stable_units
        return math.sqrt(max(variance, 0.0))

    true = error(canary_rate, stable_rate)
    null = true
    if spread is Spread.ON_THE_LINE:
        counts = (canary_rate * canary_units, canary_units, stable_rate * stable_units, stable_units)
        on_line = constrained_rates(*(np.array([count], dtype=float) for count in counts), ratio=ratio, shift=shift)
        null = error(*(float(rate[0]) for rate in on_line))
    return canary_rate - ratio * stable_rate - shift, null, true


def _nearest(enough: Callable[[float], float], start: float, farthest: float) -> float | None:
    """The value nearest to ``start`` from which on ``enough`` is positive; None if it never is."""
    if enough(start) >= 0:
        return start  # within the floor alone, of which so many units are enough
    end = start + (farthest - start) * (1 - 1e-9)
    if enough(end) < 0:
        return None
    return float(brentq(enough, start, end, xtol=1e-10))


def _stable_units(canary_units: float, weight: float) -> float:
    if not 0 < weight < 1:
        raise ValueError(f"weight must be between 0 and 1 (without an arm there is no comparison), got {weight}")
    if not 0 < canary_units < math.inf:
        raise ValueError(f"canary_units must be positive, got {canary_units}")
    return canary_units * (1 - weight) / weight


def _check_rate(name: str, rate: float) -> None:
    if not 0 < rate < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {rate} (write 0.05 for 5 %)")


def _check_levels(alpha: float, power: float) -> None:
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be between 0 and 0.5, got {alpha}")
    if not 0.5 < power < 1:
        raise ValueError(f"power must be between 0.5 and 1, got {power}")

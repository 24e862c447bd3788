"""Decisions at scheduled looks: any one-look test, at the level that may be spent at that look. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from agentcanary_analysis.checked_input import float_array
from agentcanary_analysis.group_sequential import Spending, spending_bounds


class ScheduledLook(NamedTuple):
    """What one of the scheduled looks says.

    Attributes:
        time: Its information time.
        level: One-sided level of the test at this look; the matching interval has the confidence ``1 - 2 * level``.
        p_value: Of the one-look test, one-sided.
        crossed: The claim is proven at this look.
        decided: The claim is proven at this look or at an earlier one; later data do not undo it.
    """

    time: float
    level: float
    p_value: float
    crossed: bool
    decided: bool


def look_levels(times: Sequence[float], spending: Spending) -> tuple[float, ...]:
    """The one-sided level of a test at each look so far; zero where nothing may be spent.

    A bootstrap interval with the confidence ``1 - 2 * level`` that excludes the boundary is such a test.

    Args:
        times: Information times of the looks so far, rising, in (0, 1].
        spending: Alpha spent at a time.

    Raises:
        ValueError: If times do not rise within (0, 1], by 0.001 at least, or the spending function falls.

    >>> from agentcanary_analysis.group_sequential import obrien_fleming_spending
    >>> [round(level, 4) for level in look_levels([0.5, 1.0], obrien_fleming_spending(0.025))]
    [0.0015, 0.0245]
    """
    return tuple(float(ndtr(-bound)) for bound in spending_bounds(times, spending))


def scheduled_looks(times: Sequence[float], p_values: Sequence[float], spending: Spending) -> tuple[ScheduledLook, ...]:
    """What the looks so far say of one claim, with one budget for all of them.

    Valid for p-values of statistics that are about normal and whose information adds up, as it does for the score and
    Welch tests of conversations that keep arriving. The next look needs no plan: only its time counts.

    Args:
        times: Information times of the looks so far, rising, in (0, 1].
        p_values: One-sided, for the same claim, of all conversations counted by that look.
        spending: Alpha spent at a time: ``obrien_fleming_spending(0.05)``, …

    Raises:
        ValueError: If the lengths differ, a p-value is outside [0, 1], or times do not rise within (0, 1].

    Source:
        Lan and DeMets (1983), Biometrika 70:659-663.

    >>> from agentcanary_analysis.group_sequential import obrien_fleming_spending
    >>> looks = scheduled_looks([0.5, 0.8, 1.0], [0.01, 0.008, 0.2], obrien_fleming_spending(0.05))
    >>> [(round(look.level, 4), look.crossed, look.decided) for look in looks]
    [(0.0056, False, False), (0.0267, True, True), (0.0414, False, True)]
    """
    if len(times) != len(p_values):
        raise ValueError(f"one p-value a look, got {len(p_values)} for {len(times)} looks")
    for look, p_value in enumerate(p_values):
        if not 0 <= p_value <= 1:
            raise ValueError(f"a p-value lies between 0 and 1, got {p_value} at look {look}")
    found: list[ScheduledLook] = []
    for time, level, p_value in zip(times, look_levels(times, spending), p_values, strict=True):
        crossed = p_value <= level and level > 0
        decided = crossed or (bool(found) and found[-1].decided)
        found.append(ScheduledLook(time, level, float(p_value), crossed, decided))
    return tuple(found)


def information_time(canary_units: ArrayLike, stable_units: ArrayLike, planned: float, *, ratio: float = 1.0) -> float:
    """The share of the planned information that the conversations counted so far carry, at most 1.

    An epoch carries ``1 / (1 / canary + ratio**2 / stable)`` effective canary conversations.

    Args:
        canary_units: By epoch, shape (epochs,).
        stable_units: The same epochs.
        planned: Effective canary conversations at the last look.
        ratio: Of the boundary.

    Raises:
        ValueError: If a number is negative or not finite, or ``planned`` or ``ratio`` is not positive.

    >>> information_time([50, 250], [950, 750], planned=940)
    0.25
    """
    canary, stable = (np.atleast_1d(float_array("units", units)) for units in (canary_units, stable_units))
    if canary.shape != stable.shape or canary.ndim != 1:
        raise ValueError(f"both arms need the same epochs, got the shapes {canary.shape} and {stable.shape}")
    if not ((canary >= 0).all() and (stable >= 0).all() and np.isfinite(canary.sum() + stable.sum())):
        raise ValueError(f"units must be finite and not negative, got {canary.tolist()} and {stable.tolist()}")
    if not (0 < planned < np.inf and 0 < ratio < np.inf):
        raise ValueError(f"planned and ratio must be positive, got planned={planned} and ratio={ratio}")
    both = (canary > 0) & (stable > 0)
    return min(1.0, float((1 / (1 / canary[both] + ratio**2 / stable[both])).sum()) / planned)

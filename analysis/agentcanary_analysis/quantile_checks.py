"""Is a quantile of the canary beyond a multiple of stable's, at one look? Pure.

A p-value is the smallest level at which the interval of the ratio excludes the boundary: test and interval cannot
disagree, and no distribution is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from agentcanary_analysis.cluster_variance import Clustered, Levels, levels
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Limits, Unknown
from agentcanary_analysis.quantile_ratios import (
    epoch_table,
    epoch_weights,
    mixture_quantile,
    stratified_quantile_ratio_interval,
)

Histograms = Sequence[Mapping[int, int]]
FloatArray = npt.NDArray[np.float64]

_SMALLEST = 1e-9  # p-values are not told apart below it


class QuantileTest(NamedTuple):
    """P-values of a ratio of quantiles.

    Attributes:
        beyond: For "beyond the boundary".
        within: For "within the boundary".
    """

    beyond: float
    within: float


def quantile_test(
    canary: Histograms, stable: Histograms, p: float, ratio: float, direction: Direction
) -> QuantileTest | Unknown:
    """One-sided p-values of the canary's quantile against ``ratio`` times stable's, from order statistics.

    Args:
        canary: One histogram an epoch.
        stable: The same epochs.
        p: In (0, 1).
        ratio: The boundary.
        direction: Which way is worse.

    Returns:
        ``EMPTY_ARM``, or ``UNBOUNDED`` when a quantile is a value that never came.

    Source:
        Woodruff (1952), JASA 47:635-646; see ``stratified_quantile_ratio_interval``.

    >>> fast, slow = {number: 100 for number in range(50)}, {number + 60: 100 for number in range(50)}
    >>> found = quantile_test([slow], [fast], 0.95, 1.5, Direction.UP_IS_WORSE)
    >>> found.beyond < 0.001, found.within > 0.999
    (True, True)
    """

    def limits(level: float) -> Limits | Unknown:
        return stratified_quantile_ratio_interval(canary, stable, p, confidence=1 - 2 * level)

    return _inverted(limits, ratio, direction)


def _inverted(
    limits: Callable[[float], Limits | Unknown], ratio: float, direction: Direction
) -> QuantileTest | Unknown:
    widest = limits(_SMALLEST)
    if isinstance(widest, Unknown):
        return widest
    above = _smallest_level(lambda level: _ends(limits(level)).low > ratio)
    below = _smallest_level(lambda level: _ends(limits(level)).high < ratio)
    # One side has a p-value of at most a half; the other one is its complement.
    above = above if above is not None else 1 - (below if below is not None else 0.5)
    below = below if below is not None else 1 - above
    return QuantileTest(above, below) if direction is Direction.UP_IS_WORSE else QuantileTest(below, above)


def _ends(found: Limits | Unknown) -> Limits:
    return Limits(0.0, math.inf) if isinstance(found, Unknown) else found


def _smallest_level(excludes: Callable[[float], bool]) -> float | None:
    """The smallest level in (0, 0.5) at which the boundary is excluded, on a logarithmic scale; None if at none."""
    low, high = math.log(_SMALLEST), math.log(0.4999)
    if not excludes(math.exp(high)):
        return None
    if excludes(math.exp(low)):
        return _SMALLEST
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if excludes(math.exp(middle)) else (middle, high)
    return math.exp(high)


class ClusteredQuantiles(NamedTuple):
    """Quantiles of both arms with the error of the shares below them, by cluster.

    Attributes:
        ratio: Canary over stable.
        limits: Of the ratio, at a one-sided level.
    """

    ratio: float
    limits: Callable[[float], Limits]


def clustered_quantiles(
    canary: Histograms,
    stable: Histograms,
    p: float,
    exceedances: Callable[[float, float], Clustered],
) -> ClusteredQuantiles | Unknown:
    """The ratio of two quantiles with an interval that knows of clusters.

    Woodruff's: the share of conversations beyond the estimated quantile has a variance by cluster, and that many points
    to either side of ``p`` the quantiles are read off.

    Args:
        canary: One histogram an epoch.
        stable: The same epochs.
        p: In (0, 1).
        exceedances: Given the quantiles of stable and of the canary, who exceeds them, by cluster.

    Source:
        Woodruff (1952), JASA 47:635-646; Zou and Donner (2008), Statistics in Medicine 27:1693-1702.
    """
    table = epoch_table(canary, stable)
    if isinstance(table, Unknown):
        return table
    numbers, *arms = table
    weights = epoch_weights(*arms)
    mixes = [weights / arm.sum(axis=1) @ arm for arm in arms]
    at_c, at_s = (float(mixture_quantile(numbers, mix, p)) for mix in mixes)
    if math.isinf(at_c) or math.isinf(at_s):
        return Unknown.UNBOUNDED
    found = levels(exceedances(at_s, at_c))
    if isinstance(found, Unknown):
        return found
    return ClusteredQuantiles(at_c / at_s, lambda level: _woodruff(numbers, mixes, (at_c, at_s), found, p, level))


def clustered_quantile_test(found: ClusteredQuantiles, ratio: float, direction: Direction) -> QuantileTest | Unknown:
    """As ``quantile_test``, by cluster."""
    return _inverted(found.limits, ratio, direction)


def _woodruff(
    numbers: npt.NDArray[np.int64],
    mixes: Sequence[FloatArray],
    at: tuple[float, float],
    found: Levels,
    p: float,
    level: float,
) -> Limits:
    t = float(stdtrit(found.freedom, 1 - level))
    ends = []
    for mix, quantile, spread in zip(
        mixes, at, (math.sqrt(found.variance(1, 0)), math.sqrt(found.variance(0, 1))), strict=True
    ):
        low, high = p - t * spread, p + t * spread
        below = float(mixture_quantile(numbers, mix, low)) if low > 0 else 0.0
        above = float(mixture_quantile(numbers, mix, high)) if high < 1 else math.inf
        ends.append((_log_ratio(quantile, below), _log_ratio(above, quantile)))
    (c_down, c_up), (s_down, s_up) = ends
    centre = math.log(at[0] / at[1])
    up = centre + math.hypot(c_up, s_down)
    return Limits(math.exp(centre - math.hypot(c_down, s_up)), math.exp(up) if up < 700 else math.inf)


def _log_ratio(high: float, low: float) -> float:
    return math.inf if low <= 0 or math.isinf(high) else math.log(high / low)

"""The ratio of two quantiles, canary to stable, over epochs, with an interval. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agentcanary_analysis.one_look import Limits, Unknown
from agentcanary_analysis.quantiles import (
    checked_quantile,
    histogram_arrays,
    histogram_quantile,
    histogram_quantile_interval,
    inside_bins,
)

FloatArray = NDArray[np.float64]


def quantile_ratio(
    canary: Sequence[Mapping[int, int]], stable: Sequence[Mapping[int, int]], p: float
) -> float | Unknown:
    """The canary's quantile over stable's, with stable's epochs given the canary's shares.

    A ramp gives the canary other shares of quiet and busy epochs than stable; so standardised, two equal versions
    have the ratio 1 whatever the ramp.

    Args:
        canary: One histogram an epoch.
        stable: The same epochs.
        p: In (0, 1).

    Returns:
        The ratio, infinite when only the canary's quantile never came; ``EMPTY_ARM`` or ``UNBOUNDED``.

    Raises:
        ValueError: If the arms have different epochs, a count is negative, or ``p`` is outside (0, 1).

    >>> quiet, busy = {0: 1000}, {100: 1000}
    >>> quantile_ratio([{0: 50}, {100: 500}], [quiet, busy], 0.5)
    1.0
    """
    table = epoch_table(canary, stable)
    if isinstance(table, Unknown):
        return table
    numbers, counts_c, counts_s = table
    share = counts_c.sum(axis=1) / counts_s.sum(axis=1)
    at_c = mixture_quantile(numbers, counts_c.sum(axis=0), p)
    at_s = mixture_quantile(numbers, share @ counts_s, p)
    if np.isinf(at_s):
        return Unknown.UNBOUNDED
    return float(at_c / at_s)


def quantile_ratio_interval(
    canary: Mapping[int, int], stable: Mapping[int, int], p: float, *, confidence: float = 0.95
) -> Limits | Unknown:
    """Interval of the ratio of two quantiles, canary to stable, from one histogram each.

    The two intervals by order statistics are put together on the logarithm (variance recovery).

    Args:
        canary: Values per bin of one epoch.
        stable: The same of stable. For several epochs use the bootstrap.
        p: In (0, 1).
        confidence: Two-sided coverage in (0, 1).

    Returns:
        The interval; ``UNBOUNDED`` when a quantile itself is infinite, ``EMPTY_ARM`` without values.

    Raises:
        ValueError: If a count is negative, or ``p`` or ``confidence`` is outside (0, 1).

    Source:
        Zou and Donner (2008), Statistics in Medicine 27:1693-1702.

    >>> low, high = quantile_ratio_interval({0: 950, 100: 50}, {0: 950, 100: 50}, 0.5)
    >>> round(low, 3), round(high, 3)
    (0.986, 1.014)
    """
    if not (any(canary.values()) and any(stable.values())):
        return Unknown.EMPTY_ARM
    at_c, at_s = histogram_quantile(canary, p), histogram_quantile(stable, p)
    if math.isinf(at_c) or math.isinf(at_s):
        return Unknown.UNBOUNDED
    c, s = (histogram_quantile_interval(bins, p, confidence=confidence) for bins in (canary, stable))
    centre = math.log(at_c / at_s)
    down = math.hypot(_log_ratio(at_c, c.low), _log_ratio(s.high, at_s))
    up = math.hypot(_log_ratio(c.high, at_c), _log_ratio(at_s, s.low))
    return Limits(math.exp(centre - down), math.exp(centre + up) if up < 700 else math.inf)


def epoch_table(
    canary: Sequence[Mapping[int, int]], stable: Sequence[Mapping[int, int]]
) -> tuple[NDArray[np.int64], FloatArray, FloatArray] | Unknown:
    """Histograms of the epochs with values in both arms, on common bins.

    Returns:
        Bin numbers, shape (bins,); counts of the canary and of stable, each of shape (epochs, bins).

    Raises:
        ValueError: If the arms have different epochs or a count is negative.

    >>> [column.tolist() for column in epoch_table([{1: 2}, {}], [{3: 4}, {3: 1}])]
    [[1, 3], [[2.0, 0.0]], [[0.0, 4.0]]]
    """
    if len(canary) != len(stable):
        raise ValueError(f"both arms need the same epochs, got {len(canary)} of the canary and {len(stable)} of stable")
    both = [(c, s) for c, s in zip(canary, stable, strict=True) if any(c.values()) and any(s.values())]
    if not both:
        return Unknown.EMPTY_ARM
    columns = [(histogram_arrays(c), histogram_arrays(s)) for c, s in both]
    numbers = np.unique(np.concatenate([bins for pair in columns for bins, _ in pair]))
    tables = np.zeros((2, len(both), numbers.size))
    for epoch, pair in enumerate(columns):
        for arm, (bins, counts) in enumerate(pair):
            tables[arm, epoch, np.searchsorted(numbers, bins)] = counts
    return numbers, tables[0], tables[1]


def mixture_quantile(numbers: NDArray[np.int64], weights: FloatArray, p: float) -> FloatArray:
    """The quantile of weighted bins, for many mixtures at once.

    Args:
        numbers: Bin numbers, shape (bins,), ascending.
        weights: Shape (…, bins), not negative, with a positive sum.
        p: In (0, 1).

    Returns:
        Shape (…,).

    >>> mixture_quantile(np.array([0, 35]), np.array([[1.0, 3.0], [3.0, 1.0]]), 0.5).round(3).tolist()
    [1.974, 0.993]
    """
    upto = np.cumsum(weights, axis=-1)
    target = checked_quantile(p) * upto[..., -1] * (1 - 1e-12)
    at = (upto < target[..., None]).sum(axis=-1)
    here = np.take_along_axis(weights, at[..., None], axis=-1)[..., 0]
    before = np.take_along_axis(upto, at[..., None], axis=-1)[..., 0] - here
    return inside_bins(numbers, at, (target - before) / here)


def _log_ratio(high: float, low: float) -> float:
    return math.inf if low <= 0 or math.isinf(high) else math.log(high / low)

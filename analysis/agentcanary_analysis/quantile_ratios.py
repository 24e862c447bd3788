"""The ratio of two quantiles, canary to stable, over epochs, with an interval. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agentcanary_analysis.checked_input import paired_epochs
from agentcanary_analysis.histogram import edge
from agentcanary_analysis.one_look import Limits, Unknown, checked_confidence
from agentcanary_analysis.quantiles import checked_quantile, histogram_arrays, inside_bins, order_statistic_ranks

FloatArray = NDArray[np.float64]


def quantile_ratio(
    canary: Sequence[Mapping[int, int]], stable: Sequence[Mapping[int, int]], p: float
) -> float | Unknown:
    """The canary's quantile over stable's, both over the same mix of epochs.

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
    both = standardised_quantiles(canary, stable, p)
    if isinstance(both, Unknown):
        return both
    return Unknown.UNBOUNDED if math.isinf(both[1]) else both[0] / both[1]


def standardised_quantiles(
    canary: Sequence[Mapping[int, int]], stable: Sequence[Mapping[int, int]], p: float
) -> tuple[float, float] | Unknown:
    """The quantile of the canary and that of stable, each over the same mix of epochs (Mantel-Haenszel weights).

    Args:
        canary: One histogram an epoch.
        stable: The same epochs.
        p: In (0, 1).

    Returns:
        In the values' unit, infinite for what never came; ``EMPTY_ARM`` if no epoch has values in both arms.

    Raises:
        ValueError: If the arms have different epochs, a count is negative, or ``p`` is outside (0, 1).

    >>> at_c, at_s = standardised_quantiles([{0: 100}, {}], [{35: 100}, {100: 5000}], 0.95)
    >>> round(at_c, 2), round(at_s, 2)
    (1.0, 2.0)
    """
    checked_quantile(p)
    table = epoch_table(canary, stable)
    if isinstance(table, Unknown):
        return table
    return table_quantiles(*table, p)


def table_quantiles(
    numbers: NDArray[np.int64], canary: FloatArray, stable: FloatArray, p: float
) -> tuple[float, float]:
    """``standardised_quantiles`` of what ``epoch_table`` returns."""
    weights = epoch_weights(canary, stable)
    at_c, at_s = (float(mixture_quantile(numbers, weights / arm.sum(axis=1) @ arm, p)) for arm in (canary, stable))
    return at_c, at_s


def quantile_ratio_interval(
    canary: Mapping[int, int], stable: Mapping[int, int], p: float, *, confidence: float = 0.95
) -> Limits | Unknown:
    """Interval of the ratio of two quantiles, canary to stable, from one histogram each.

    Args:
        canary: Values per bin of one epoch.
        stable: The same of stable.
        p: In (0, 1).
        confidence: Two-sided coverage in (0, 1).

    Returns:
        As ``stratified_quantile_ratio_interval``.

    Raises:
        ValueError: If a count is negative, or ``p`` or ``confidence`` is outside (0, 1).

    >>> low, high = quantile_ratio_interval({0: 950, 100: 50}, {0: 950, 100: 50}, 0.5)
    >>> round(low, 3), round(high, 3)
    (0.986, 1.014)
    """
    return stratified_quantile_ratio_interval([canary], [stable], p, confidence=confidence)


def stratified_quantile_ratio_interval(
    canary: Sequence[Mapping[int, int]], stable: Sequence[Mapping[int, int]], p: float, *, confidence: float = 0.95
) -> Limits | Unknown:
    """Interval of ``quantile_ratio``: without draws, and without any assumption on the distributions.

    Each arm's quantile over the mix of epochs lies between two order statistics (Woodruff); over epochs an arm is worth
    Kish's number of values. A sum of events of unequal chances varies less than one of equal chances, so that number
    is on the safe side. The two intervals are put together on the logarithm (variance recovery). A nominal 95 % covers
    97 to 99 % by simulation (``benchmarks/sim_coverage.py``).

    Args:
        canary: One histogram an epoch.
        stable: The same epochs.
        p: In (0, 1).
        confidence: Two-sided coverage in (0, 1).

    Returns:
        The interval; an end is 0 or infinite where too few values bound that side (for p95 fewer than 72 at 95 %);
        ``UNBOUNDED`` when a quantile itself is infinite, ``EMPTY_ARM`` without values.

    Raises:
        ValueError: If the arms have different epochs, a count is negative, or ``p`` or ``confidence`` is outside
            (0, 1).

    Source:
        Woodruff (1952), JASA 47:635-646; Hoeffding (1956), Annals of Mathematical Statistics 27:713-721, theorem 4;
        Zou and Donner (2008), Statistics in Medicine 27:1693-1702.

    >>> low, high = stratified_quantile_ratio_interval([{0: 90, 70: 10}] * 2, [{0: 900, 70: 100}] * 2, 0.5)
    >>> round(low, 3), round(high, 3)
    (0.986, 1.014)
    """
    checked_quantile(p)
    checked_confidence(confidence)
    table = epoch_table(canary, stable)
    if isinstance(table, Unknown):
        return table
    return table_interval(*table, p, table_quantiles(*table, p), confidence=confidence)


def table_interval(
    numbers: NDArray[np.int64],
    canary: FloatArray,
    stable: FloatArray,
    p: float,
    quantiles: tuple[float, float],
    *,
    confidence: float,
) -> Limits | Unknown:
    """``stratified_quantile_ratio_interval`` of what ``epoch_table`` and ``table_quantiles`` return."""
    at_c, at_s = quantiles
    if math.isinf(at_c) or math.isinf(at_s):
        return Unknown.UNBOUNDED
    weights = epoch_weights(canary, stable)
    c, s = (_limits(numbers, arm, weights, p, confidence) for arm in (canary, stable))
    centre = math.log(at_c / at_s)
    down = math.hypot(_log_ratio(at_c, c.low), _log_ratio(s.high, at_s))
    up = math.hypot(_log_ratio(c.high, at_c), _log_ratio(at_s, s.low))
    return Limits(math.exp(centre - down), math.exp(centre + up) if centre + up < 700 else math.inf)


def _limits(numbers: NDArray[np.int64], counts: FloatArray, weights: FloatArray, p: float, confidence: float) -> Limits:
    """The edges of the bins between which the quantile of one arm over a mix of epochs lies."""
    units = counts.sum(axis=1)
    mix = weights / units @ counts
    worth = math.floor(weights.sum() ** 2 / (weights**2 / units).sum() + 1e-6)
    low, high, _ = order_statistic_ranks(worth, p, confidence=confidence)
    upto = np.cumsum(mix)
    targets = np.array([low, min(high, worth)]) / worth * upto[-1] * (1 - 1e-12)
    first, last = np.searchsorted(upto, targets).tolist()
    below = edge(int(numbers[first]) - 1) if low >= 1 else 0.0
    above = edge(int(numbers[last])) if high <= worth else math.inf
    return Limits(below, above)


def epoch_weights(canary: FloatArray, stable: FloatArray) -> FloatArray:
    """Mantel-Haenszel weights of the epochs, shape (epochs,), from counts of shape (epochs, bins).

    >>> epoch_weights(np.array([[20.0, 30.0]]), np.array([[150.0]])).tolist()
    [37.5]
    """
    n_c, n_s = canary.sum(axis=1), stable.sum(axis=1)
    weights: FloatArray = n_c * n_s / (n_c + n_s)
    return weights


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
    both = [(c, s) for c, s in paired_epochs(canary, stable, Mapping) if any(c.values()) and any(s.values())]
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
